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
    return [word.lower() for word in written_words(text)]


def written_words(text: str) -> list[str]:
    """Return the same words, in their original case.

    Texts of ASCII only, and texts without scripts that are cut into characters, take shorter patterns: the same words
    in a fraction of the time.
    """
    text = normalized(text)
    return _pattern_for(text).findall(text)


def written_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each of `written_words` in ``normalized(text)``."""
    text = normalized(text)
    return (match.span() for match in _pattern_for(text).finditer(text))


def normalized(text: str) -> str:
    """Return the text with composed accents (Unicode NFC) and straight apostrophes, as words are found in it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text).replace("\u2019", "'")


def word_pattern() -> str:
    """Return the regular expression (of Python's `re`) that finds the `written_words` of any normalised text."""
    return _pattern().pattern


def _pattern_for(text: str) -> re.Pattern[str]:
    if text.isascii():
        return _ASCII
    return _pattern() if _cut_scripts().search(text) else _spaced_pattern()


CAPITAL, CAPITALS, NUMBER, RARE = "<Xx>", "<XX>", "<9>", "<x>"
"""Special tokens: case marks before a word, and placeholders of rare numbers and other rare words."""


def piece(written: str) -> tuple[str, str, str]:
    """Return a written word's case mark, the word in lower case, and its placeholder for when it is unknown.

    The mark of a capitalised or upper-case word comes before it and has no placeholder, as in fastai (Howard and Gugger
    2020); it is empty for other words.
    """
    word = written.lower()
    mark = ""
    if written != word and written[0].isupper():
        mark = CAPITALS if len(written) > 1 and written.isupper() else CAPITAL
    return mark, word, _placeholder(word)


def _placeholder(word: str) -> str:
    return NUMBER if any(sign.isdigit() for sign in word) else RARE


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield each case mark and each word in lower case, with its placeholder for when it is unknown."""
    for mark, word, rare in map(piece, written_words(text)):
        if mark:
            yield mark, ""
        yield word, rare


def build_vocabulary(texts: Iterable[str], *, min_count: int = 1, most: int = 50_000) -> tuple[str, ...]:
    """Build the vocabulary of the training split's texts: by descending frequency, then alphabetically.

    It includes the special tokens that are frequent enough in the training items.

    Args:
        texts: what to count in.
        min_count: minimum occurrences of a word.
        most: maximum number of words, besides placeholders; none has over `MAX_WORD` characters.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(written_words(text))
    return vocabulary_of(counts.items(), min_count=min_count, most=most)


def vocabulary_of(written: Iterable[tuple[str, int]], *, min_count: int, most: int) -> tuple[str, ...]:
    """Build the vocabulary as `build_vocabulary`, from written words and how often each occurs."""
    counts: Counter[str] = Counter()
    for form, count in written:
        mark, word, _ = piece(form)
        counts[word] += count
        if mark:
            counts[mark] += count
    frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count and _is_kept(word))[:most]
    known = {word for _, word in frequent}
    rest: Counter[str] = Counter()
    for word, count in counts.items():
        if word not in known and word not in (CAPITAL, CAPITALS) and _is_whole(word):
            rest[_placeholder(word)] += count
    return tuple(word for _, word in frequent) + tuple(sorted(name for name in rest if rest[name] >= min_count))


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
    unspaced = _unspaced_letters()
    letter = rf"[^\W_{_IDEOGRAPHS}{unspaced}]"
    plain = "[0-9A-Za-z]"  # the same letters, matched many at a time
    word = rf"(?:{plain}|{letter})(?:{plain}+|{letter}|[{_accents()}]|'(?={letter}))*"
    character = rf"[{unspaced}](?:[{_STACKED}][{unspaced}]|[{_accents()}{_ATTACHED}])*"
    return re.compile(rf"{word}|{character}|[^\s{_INVISIBLE}]")


_ASCII = re.compile("[0-9A-Za-z]+(?:'[0-9A-Za-z]+)*|[!-~]")
"""The same for ASCII text."""


@lru_cache(maxsize=1)
def _spaced_pattern() -> re.Pattern[str]:
    """Return the same pattern for a text in which `_cut_scripts` finds nothing."""
    letter = r"[^\W_]"
    return re.compile(rf"{letter}+(?:(?:[{_accents()}]|'(?={letter})){letter}*)*|[^\s{_INVISIBLE}]")


@lru_cache(maxsize=1)
def _cut_scripts() -> re.Pattern[str]:
    """Return the pattern of a letter of a script that is cut into characters."""
    return re.compile(f"[{_IDEOGRAPHS}{_unspaced_letters()}]")


@lru_cache(maxsize=1)
def _unspaced_letters() -> str:
    return "".join(map(_letters, _UNSPACED))


@lru_cache(maxsize=1)
def _accents() -> str:
    return "".join(
        chr(code)
        for code in range(0x300, 0x1F000)
        if unicodedata.category(chr(code)).startswith("M") and not 0xFE00 <= code <= 0xFE0F
    )
