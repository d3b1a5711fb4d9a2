"""Printable text is somebody else's words, made harmless for a terminal and a log.

Names, reasons and outputs come from skills and peers. A terminal obeys control characters: they
can hide lines, change colours and titles, or make text read backwards. Each one is shown as a
visible escape instead, so nothing is hidden and nothing is obeyed.
"""

from __future__ import annotations

import re

# C0 and C1 controls, DEL; bidirectional overrides and isolates; line separators; zero-width space.
# Joiners and direction marks stay: many languages and emoji are written with them.
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_LINES_KEPT = re.compile(_OBEYED.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable_line(text: str) -> str:
    """On one line: line breaks and tabs are shown as escapes, too."""
    return _OBEYED.sub(_escape, text)


def printable(text: str) -> str:
    """Line feeds and tabs stay: for outputs that have lines of their own."""
    return _LINES_KEPT.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"  # noqa: PLR2004  one byte
