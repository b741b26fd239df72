"""From a text to tokens: its bytes, or its words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BYTE_VOCABULARY = 257
"""Tokens of a text as bytes: 0 is padding, and each byte is 1 more than its value."""

MAX_WORD = 64
"""Characters of the longest word of a vocabulary; a longer one is rare."""

_IDEOGRAPHS = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3041, 0x30FF),  # hiragana, katakana
    (0x31F0, 0x31FF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),  # Burmese of the Shan, Tai Viet
    (0xFF66, 0xFF9F),  # katakana of half width
    (0x1AFF0, 0x1B16F),
)
"""Blocks of scripts that put no space between words."""
_ATTACHED = "\u0e33\u0eb3\u30fc\uff70\uff9e\uff9f"
"""Letters that are written as part of the one before: am of Thai and Lao, marks of length and of voice in kana."""
_STACKED = "\u17d2\u1039"
"""Marks after which a consonant stands below the one before, in Khmer and in Burmese."""
_INVISIBLE = "\x00-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef"


def byte_tokens(text: str) -> NDArray[np.int32]:
    """int32 ``[L]``: the UTF-8 bytes of a text, each 1 more than its value, since 0 is padding.

    Raises UnicodeEncodeError for half a character (a lone surrogate).
    """
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 1


def words(text: str) -> list[str]:
    """The words of a text, in lower case.

    A word is a run of letters, digits and apostrophes inside them. Scripts without spaces are cut into characters:
    each Chinese character is a word of its own, and so is each letter of Thai, Lao, Khmer, Burmese and kana with the
    marks that belong to it. So is every other visible mark.
    """
    return [word.lower() for word in each_word(text)]


def each_word(text: str) -> Iterator[str]:
    """The same in turn, as they are written."""
    whole = unicodedata.normalize("NFC", text).replace("\u2019", "'")
    return (found.group() for found in _pattern().finditer(whole))


CAPITAL, CAPITALS, NUMBER, RARE = "<Xx>", "<XX>", "<9>", "<x>"
"""Words that no text has: marks of case before a word, and what stands for rare numbers and other rare words."""


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """Each word in lower case, and what stands for it where it is not known; before one that is written with a capital
    or in capitals its mark, for which nothing stands, as fastai's texts have them (Howard and Gugger 2020)."""
    for written in each_word(text):
        word = written.lower()
        if written != word and written[0].isupper():
            mark = CAPITALS if len(written) > 1 and written.isupper() else CAPITAL
            yield mark, ""
        yield word, NUMBER if any(sign.isdigit() for sign in word) else RARE


def build_vocabulary(texts: Iterable[str], *, min_count: int = 1, most: int = 50_000) -> tuple[str, ...]:
    """The words of some texts, which must be those of the training split alone: the most frequent first, then by text.

    What stands for rare words and marks of case are words of it too, where training items have enough of them.

    Args:
        texts: what to count in.
        min_count: fewest times a word must stand there.
        most: how many words are kept, besides what stands for rare ones; none has over `MAX_WORD` characters.
    """
    counts: Counter[str] = Counter()
    stands_for: dict[str, str] = {}
    for text in texts:
        for word, rare in pieces(text):
            counts[word] += 1
            stands_for[word] = rare
    frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count and _is_kept(word))[:most]
    known = {word for _, word in frequent}
    rest: Counter[str] = Counter()
    for word in filter(_is_whole, counts.keys() - known):
        rest[stands_for[word]] += counts[word]
    return tuple(word for _, word in frequent) + tuple(
        sorted(name for name in rest if name and rest[name] >= min_count)
    )


def _is_kept(word: str) -> bool:
    return len(word) <= MAX_WORD and _is_whole(word)


def _is_whole(word: str) -> bool:
    """Whether a word can be stored; half a character cannot."""
    return not any("\ud800" <= mark <= "\udfff" for mark in word)


def _letters(block: tuple[int, int]) -> str:
    """The letters of a block of Unicode, as ranges."""
    codes = [code for code in range(block[0], block[1] + 1) if unicodedata.category(chr(code)).startswith("L")]
    first = [code for code in codes if code - 1 not in codes]
    last = [code for code in codes if code + 1 not in codes]
    return "".join(f"{chr(one)}-{chr(other)}" for one, other in zip(first, last, strict=True))


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    """A word, or a mark. Vowel signs and accents that stand alone belong to their word, and `re` does not know them."""
    accents = "".join(
        chr(code)
        for code in range(0x300, 0x1F000)
        if unicodedata.category(chr(code)).startswith("M") and not 0xFE00 <= code <= 0xFE0F
    )
    unspaced = "".join(map(_letters, _UNSPACED))
    letter = rf"[^\W_{_IDEOGRAPHS}{unspaced}]"
    plain = "[0-9A-Za-z]"  # the same letters, matched many at a time
    word = rf"(?:{plain}|{letter})(?:{plain}+|{letter}|[{accents}]|'(?={letter}))*"
    character = rf"[{unspaced}](?:[{_STACKED}][{unspaced}]|[{accents}{_ATTACHED}])*"
    return re.compile(rf"{word}|{character}|[^\s{_INVISIBLE}]")
