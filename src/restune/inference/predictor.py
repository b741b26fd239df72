"""The interface of a model that evaluate, predict and serve use, for any runtime; and prediction in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import nullcontext
from itertools import chain, islice
from typing import Protocol, Self

import torch
from torch import Tensor

from restune.core.allocator import freed_memory_kept
from restune.core.console import progress
from restune.data.dataset import Item
from restune.data.kinds import kind_of
from restune.data.loader import Batch, read_batches
from restune.data.preprocess import Preprocess
from restune.inference.forward import FittingParts, threads_within_quota
from restune.weights.bundle import BundleInfo


class Predictor(Protocol):
    """A model in some runtime."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        ...

    @property
    def classes_known(self) -> bool:
        """Whether the weights name their classes; else they are numbered."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing that converts an item's content to samples."""
        ...

    @property
    def info(self) -> BundleInfo:
        """What is known of the model, such as its task and what its outputs mean."""
        ...

    @property
    def source(self) -> str:
        """Where it came from, for messages."""
        ...

    def with_classes(self, classes: Sequence[str]) -> Self:
        """Return the same model with its classes named."""
        ...

    def logits(self, samples: Tensor) -> Tensor:
        """Compute float32 logits ``[N, V, C]`` of evaluation views ``[N, V, *sample]``, on the CPU.

        Safe to call from several threads at once; starts none, and changes no global setting.
        """
        ...


def predict_batches(
    predictor: Predictor,
    items: Iterable[Item],
    *,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    description: str = "predict",
    retry: bool = False,
) -> Iterator[tuple[Batch, Tensor]]:
    """Decode items ahead in threads and compute them; yield batches with logits ``[N, V, C]`` of their readable items.

    Args:
        items: a sequence, or an iterator that produces them lazily.
        batch_size: images per forward pass; items with several views or many frames count as several images.
        workers: decoding threads.
        views: one of the kind's `view_modes`; its default for None.
        retry: see `read_batches`.

    A batch that does not fit in memory is split in halves, and so are all later ones, with one warning. Raises
    UserError for other views.
    """
    preprocess = predictor.preprocess
    mode = kind_of(preprocess.kind).view_mode(views)
    size = batch_size if batch_size < 1 else max(1, batch_size // preprocess.cost(mode))
    total = len(items) if isinstance(items, Sized) else None
    rest = iter(items)
    first = tuple(islice(rest, max(1, size) + 1))
    workers = 0 if len(first) == 1 else workers
    # One batch leaves nothing to keep for a next one, and giving its memory back takes longer than a small network.
    memory = freed_memory_kept() if len(first) > size else nullcontext()
    compute = FittingParts(predictor.logits)
    todo = chain(first, rest)
    with memory, threads_within_quota(), progress(description, total) as advance:
        for batch in read_batches(todo, preprocess, batch_size=size, workers=workers, views=mode, retry=retry):
            if batch.samples is None:
                yield batch, torch.zeros(0, 1, len(predictor.classes))
            else:
                each_view = compute(batch.samples.flatten(0, 1).unsqueeze(1))
                yield batch, each_view.reshape(*batch.samples.shape[:2], -1)
            advance(len(batch.items))
