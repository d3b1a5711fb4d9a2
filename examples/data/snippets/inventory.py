"""A longer module with a few flaws between much that is right."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional


@dataclass
class Item:
    name: str
    price_cents: int
    tags: list[str] = field(default_factory=list)


class Inventory:
    def __init__(self, items={}):
        self._items: Dict[str, Item] = dict(items)

    def add(self, item):
        if item.name in self._items:
            raise KeyError(item.name)
        self._items[item.name] = item

    def find(self, name) -> Optional[Item]:
        for key in self._items:
            if key == name:
                return self._items[key]
                break
        return None

    def total(self):
        return sum(item.price_cents for item in self._items.values())

    def cheap(self, limit):
        return [item for item in self._items.values() if item.price_cents <= limt]

    def total(self):
        return sum(i.price_cents for i in self._items.values())


def report(inventory):
    lines = []
    for name in ("apple", "pear"):
        item = inventory.find(name)
        if item != None:
            lines.append(f"{item.name}: {item.price_cents / 100:.2f}")
    print(f"inventory report")
    return "\n".join(lines)
