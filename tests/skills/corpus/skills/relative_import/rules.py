from .deep.inner import SUFFIX


def ruled(text: str) -> str:
    return text + SUFFIX
