from .counting import count

SEPARATOR = "-"


def joined(text: str) -> str:
    return SEPARATOR.join(text.split()) + f" ({count(text)})"
