"""Texts that are equal but for case and white space, and texts that share most of their character sequences.

Candidates have equal parts of MinHash signatures (Broder, On the resemblance and containment of documents, 1997); their
resemblance is then computed exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restune.core.console import progress
from restune.data.audit.copies import Copies, grouped_copies, numbered, representatives
from restune.data.dataset import Dataset
from restune.data.encodings import decode_text
from restune.data.items import locations_of

_SHINGLE = 5
_BANDS, _ROWS = 16, 4
"""Texts are compared if one of 16 groups of 4 minima is equal; with a resemblance of 0.8, 99.98% of pairs are."""
_LEAST_RESEMBLANCE = 0.8
_LEAST_SHINGLES = 12
"""Sequences that a text needs to be compared: short answers resemble each other."""
_MOST_SHINGLES = 4096
_MOST_TEXTS = 500_000
"""Texts beyond which only equal ones are found: signatures would take more than 128 MB."""
_WINDOW = 16
_MULTIPLIERS = np.random.default_rng(20).integers(1, 2**63, _BANDS * _ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(
    1
)


def copies_of_texts(dataset: Dataset, encoding: str | None = None) -> tuple[Copies, dict[str, str]]:
    """Group equal and nearly equal texts. Returns also the reason by id of each text that cannot be read."""
    texts, unreadable = _texts(dataset, encoding)
    keys = np.array([_key(text) for text in texts], np.uint64)
    exact = numbered(keys, is_known=keys > 0)
    rows = representatives(exact)
    first, second, scores = _resembling(texts, rows[keys[rows] > 0]) if len(rows) <= _MOST_TEXTS else _NONE
    changes = np.zeros(len(first), np.int64)
    return grouped_copies(exact, first, second, scores, changes, ("nearly the same words",)), unreadable


_NONE = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _texts(dataset: Dataset, encoding: str | None) -> tuple[list[str], dict[str, str]]:
    texts, unreadable = [], {}
    with progress("checking texts", len(dataset)) as advance:
        for name, location in zip(dataset.ids(), locations_of(dataset.items), strict=True):
            try:
                content = location.read()
                text = content if isinstance(content, str) else decode_text(content, encoding)
            except (OSError, ValueError, LookupError) as error:
                unreadable[name], text = str(error) or type(error).__name__, ""
            texts.append(" ".join(text.split()).casefold())
            advance(1)
    return texts, unreadable


def _key(text: str) -> int:
    """Return a number that equal texts share; 0 for an empty text."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") | 1 if text else 0


def _resembling(
    texts: Sequence[str], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the pairs of rows whose resemblance is high enough, with it."""
    signatures = np.zeros((len(rows), _BANDS * _ROWS), np.uint32)
    is_long = np.zeros(len(rows), bool)
    for place, row in enumerate(rows.tolist()):
        shingles = _shingles(texts[row])
        is_long[place] = len(shingles) >= _LEAST_SHINGLES
        if is_long[place]:
            signatures[place] = ((shingles[:, None] * _MULTIPLIERS) >> np.uint64(32)).min(0)
    pairs = _candidates(signatures, np.flatnonzero(is_long))
    scores = np.array([_resemblance(texts[rows[one]], texts[rows[other]]) for one, other in pairs.tolist()], np.float32)
    kept = scores >= _LEAST_RESEMBLANCE if len(pairs) else np.zeros(0, bool)
    return rows[pairs[kept, 0]], rows[pairs[kept, 1]], scores[kept]


def _candidates(signatures: NDArray[np.uint32], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs of places with an equal band; in a band that many share, of neighbours only."""
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        keys = np.ascontiguousarray(signatures[places, band * _ROWS : (band + 1) * _ROWS]).view("V16").ravel()
        _, codes = np.unique(keys, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        for step in range(1, _WINDOW):
            same = codes[order][step:] == codes[order][:-step]
            if not same.any():
                break
            found.append(np.stack([places[order[:-step][same]], places[order[step:][same]]], 1))
    pairs = np.unique(np.sort(np.concatenate(found), 1), axis=0)
    agreement = (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(1)
    kept: NDArray[np.int64] = pairs[agreement >= _LEAST_RESEMBLANCE - 0.2]
    return kept


def _shingles(text: str) -> NDArray[np.uint64]:
    """Return the distinct sequences of 5 bytes, mixed; of long texts those with the smallest numbers."""
    content = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.uint64)
    count = len(content) - _SHINGLE + 1
    if count < 1:
        return np.empty(0, np.uint64)
    numbers = np.zeros(count, np.uint64)
    for place in range(_SHINGLE):
        numbers = numbers * np.uint64(257) + content[place : place + count]
    numbers = numbers * np.uint64(0x9E3779B97F4A7C15)
    return np.unique(numbers ^ (numbers >> np.uint64(29)))[:_MOST_SHINGLES]


def _resemblance(first: str, second: str) -> float:
    """Return the share of sequences that two texts have in common, of all that either has."""
    one, other = _shingles(first), _shingles(second)
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)
