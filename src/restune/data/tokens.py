"""Convert a text to tokens: its bytes or its words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BYTE_VOCABULARY = 257
"""Size of the byte vocabulary: 0 is padding, and a byte's token is its value plus 1."""

MAX_WORD = 64
"""Maximum characters of a word in the vocabulary; longer words count as rare."""

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
"""Unicode blocks of scripts without spaces between words."""
_ATTACHED = "\u0e33\u0eb3\u30fc\uff70\uff9e\uff9f"
"""Letters that belong to the preceding one: Thai and Lao am, length and voicing marks of kana."""
_STACKED = "\u17d2\u1039"
"""Marks after which a consonant is stacked below the preceding one, in Khmer and Burmese."""
_INVISIBLE = "\x00-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef"


def byte_tokens(text: str) -> NDArray[np.int32]:
    """Return int32 ``[L]``: the UTF-8 bytes of a text plus 1, since 0 is padding.

    Raises UnicodeEncodeError for half a character (a lone surrogate).
    """
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 1


def words(text: str) -> list[str]:
    """Split a text into words, in lower case.

    A word is a run of letters, digits and apostrophes inside them. Scripts without spaces are cut into characters:
    each Chinese character is a word of its own, and so is each letter of Thai, Lao, Khmer, Burmese and kana with the
    marks that belong to it. So is every other visible mark.
    """
    return [word.lower() for word in each_word(text)]


def each_word(text: str) -> Iterator[str]:
    """Yield the same words one by one, in their original case."""
    whole = unicodedata.normalize("NFC", text).replace("\u2019", "'")
    return (found.group() for found in _pattern().finditer(whole))


CAPITAL, CAPITALS, NUMBER, RARE = "<Xx>", "<XX>", "<9>", "<x>"
"""Special tokens: case marks before a word, and placeholders of rare numbers and other rare words."""


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield each word in lower case with its placeholder for when it is unknown.

    A capitalised or upper-case word is preceded by a case mark, which has no placeholder, as in fastai (Howard and
    Gugger 2020).
    """
    for written in each_word(text):
        word = written.lower()
        if written != word and written[0].isupper():
            mark = CAPITALS if len(written) > 1 and written.isupper() else CAPITAL
            yield mark, ""
        yield word, NUMBER if any(sign.isdigit() for sign in word) else RARE


def build_vocabulary(texts: Iterable[str], *, min_count: int = 1, most: int = 50_000) -> tuple[str, ...]:
    """Build the vocabulary of the training split's texts: by descending frequency, then alphabetically.

    It includes the special tokens that are frequent enough in the training items.

    Args:
        texts: what to count in.
        min_count: minimum occurrences of a word.
        most: maximum number of words, besides placeholders; none has over `MAX_WORD` characters.
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
    """Return whether a word can be stored; a lone surrogate cannot."""
    return not any("\ud800" <= mark <= "\udfff" for mark in word)


def _letters(block: tuple[int, int]) -> str:
    """Return the letters of a Unicode block, as ranges."""
    codes = [code for code in range(block[0], block[1] + 1) if unicodedata.category(chr(code)).startswith("L")]
    first = [code for code in codes if code - 1 not in codes]
    last = [code for code in codes if code + 1 not in codes]
    return "".join(f"{chr(one)}-{chr(other)}" for one, other in zip(first, last, strict=True))


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    """Return the pattern of a word or mark. `re` does not count combining vowel signs and accents as letters."""
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
