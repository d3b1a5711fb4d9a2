"""Finding words and sentences in text of any script, in time linear in its length."""

import re
import unicodedata

# Vowel signs and accents are no letters for `\w`, but belong to the word they stand in.
_MARKS = "".join(
    chr(point) for point in range(0x0300, 0x20D1) if unicodedata.category(chr(point))[0] == "M"
)
# Chinese and Japanese write no spaces: there each character counts as a word.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

_LETTER = rf"(?:(?![{_IDEOGRAPHS}_])\w|[{_MARKS}])"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|{_LETTER}++(?:['’\-]{_LETTER}++)*+")

# A full stop ends a sentence if no lower-case letter follows: "e.g. this" goes on. The
# look-behind tries each run of dots once, so that a megabyte of dots costs no quadratic time.
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s++(?![a-zß-öø-ÿа-яё])|\Z)|[。！？]++[」』”）]*+"
)
_PARAGRAPH_BREAK = re.compile(r"\n[ \t\r]*+\n")


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def count_sentences(text: str) -> int:
    """Pieces without a single word ("...", "* * *") are no sentences."""
    return sum(1 for piece in _SENTENCE_END.split(text) if _WORD.search(piece))


def count_paragraphs(text: str) -> int:
    return sum(1 for piece in _PARAGRAPH_BREAK.split(text) if piece.strip())
