"""Texts tokenised before their vocabulary is known: each once, to the numbers of its written words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.console import note
from restune.data.by_id import Samples
from restune.data.items import Item, ids_of, locations_of
from restune.data.tokens import vocabulary_of, written_words

if TYPE_CHECKING:
    from restune.data.preprocess.base import InputSettings
    from restune.data.preprocess.text import TextPreprocess

_CHUNK = 8192
"""Texts that are converted at once."""

Counted = list[tuple[str, int]]
"""Written words and how often each occurs."""


class _Numbers(dict[str, int]):
    """Numbers of words, in order of first appearance, for several threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def __missing__(self, word: str) -> int:
        with self._lock:
            return self.setdefault(word, len(self))


class TextDraft:
    """Makes drafts, int32 ``[L]``: the numbers of a text's written words, from which tokens follow by a table.

    Args:
        preprocess: words without a vocabulary.
    """

    def __init__(self, preprocess: TextPreprocess) -> None:
        self.preprocess = preprocess
        self._numbers = _Numbers()

    def apply(self, content: str | bytes) -> Tensor:
        """Return the draft of a text, or of the bytes of a text file. Raises DecodeError."""
        found = written_words(self.preprocess.checked_text(content))
        return torch.from_numpy(np.fromiter(map(self._numbers.__getitem__, found), np.int32, len(found)))

    def fit(
        self,
        drafts: Samples,
        items: Sequence[Item],
        settings: InputSettings,
        merged: Callable[[Counted], Counted] = lambda counted: counted,
    ) -> TextPreprocess:
        """Return the preprocessing with the vocabulary of the training items.

        Args:
            drafts: of all items, or empty: texts are then read.
            items: the training items.
            merged: adds up the counts of several processes, each of which has drafts, or items, of its own.
        """
        counted = self._counted(drafts, items) if drafts else _counted_texts(self.preprocess, items)
        words = vocabulary_of(
            merged(counted), min_count=settings.section["min_count"], most=settings.section["vocabulary"]
        )
        note(f"vocabulary: {len(words):,} words from the training items; other words become the unknown token")
        return replace(self.preprocess, vocabulary=words)

    def _counted(self, drafts: Samples, items: Sequence[Item]) -> Counted:
        counts = np.zeros(len(self._numbers), np.int64)
        rows = drafts.by_id.rows(ids_of(items), len(items))
        rows = np.intersect1d(rows, drafts.rows())
        for numbers, _ in _chunks(drafts, rows):
            counts += np.bincount(numbers, minlength=len(counts))
        return [(word, count) for word, count in zip(self._numbers, counts.tolist(), strict=True) if count]

    def finished(self, drafts: Samples, preprocess: TextPreprocess) -> Samples:
        """Return the samples of the fitted preprocessing, and drop the drafts."""
        table = self._table(preprocess)
        samples = Samples(drafts.by_id)
        for numbers, texts in _chunks(drafts, drafts.rows()):
            drafts.free_before(int(texts.rows[0]))
            tokens = table[numbers].ravel()
            ends = np.concatenate([[0], np.cumsum(tokens >= 0)])[2 * texts.ends]
            tokens = tokens[tokens >= 0]
            starts = np.concatenate([[0], ends[:-1]])
            for row, start, end in zip(texts.rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
                own = tokens[start : min(end, start + preprocess.length)]
                samples.put_array(row, own if len(own) else preprocess.no_tokens())
        drafts.clear()
        return samples

    def _table(self, preprocess: TextPreprocess) -> NDArray[np.int32]:
        """Return the tokens ``[words, 2]`` of each written word: its case mark and itself, -1 for none."""
        table = np.empty((len(self._numbers), 2), np.int32)
        for number, word in enumerate(self._numbers):
            table[number] = preprocess.tokens_of(word)
        return table


@dataclass(frozen=True)
class _Texts:
    """The texts of a chunk: their positions, and where each ends in the chunk's numbers."""

    rows: NDArray[np.int64]
    ends: NDArray[np.int64]


def _chunks(drafts: Samples, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int32], _Texts]]:
    """Yield the numbers of many texts at once."""
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        found = [drafts.array(row) for row in part.tolist()]
        yield np.concatenate(found), _Texts(part, np.cumsum([len(one) for one in found]))


def _counted_texts(preprocess: TextPreprocess, items: Sequence[Item]) -> Counted:
    counts: Counter[str] = Counter()
    for location in locations_of(items):
        counts.update(written_words(preprocess.text_of(location.read())))
    return list(counts.items())
