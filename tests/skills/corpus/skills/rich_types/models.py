from datetime import datetime
from decimal import Decimal
from uuid import UUID

from harnessapi import SkillInput, SkillOutput


class Node(SkillOutput):
    value: int
    children: list["Node"] = []


class Input(SkillInput):
    when: datetime
    key: UUID
    amount: Decimal = Decimal("1.50")


class Output(SkillOutput):
    when: datetime
    key: UUID
    raw: bytes
    tree: Node
