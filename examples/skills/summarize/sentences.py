"""Cutting a text into sentences and sentences into words, in any script, in linear time."""

import re
import unicodedata

_MARKS = "".join(
    chr(point) for point in range(0x0300, 0x20D1) if unicodedata.category(chr(point))[0] == "M"
)
# Chinese and Japanese write no spaces: a single character stands in for the word.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|(?:(?![{_IDEOGRAPHS}_])\w|[{_MARKS}])++")

# An end is followed by a gap and no lower-case letter, or is an East Asian full stop, or is an
# empty line: headings carry no full stop. The look-behind tries each run of dots only once.
_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s++(?![a-zß-öø-ÿа-яё])|\Z)"
    r"|[。！？]++[」』”）]*+"
    r"|\n[ \t\r]*+\n"
)


def split_sentences(text: str) -> list[str]:
    """Each sentence on one line, with its full stop; pieces without words are left out."""
    pieces = []
    start = 0
    for end in _END.finditer(text):
        pieces.append(text[start : end.end()])
        start = end.end()
    pieces.append(text[start:])
    return [" ".join(piece.split()) for piece in pieces if _WORD.search(piece)]


def words_of(sentence: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(sentence)]
