"""What evaluate, predict and serve need of a model, whatever runtime computes it; and many items through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from restune.core.allocator import freed_memory_kept
from restune.core.console import progress
from restune.data.dataset import Item
from restune.data.kinds import kind_of
from restune.data.loader import Batch, read_batches
from restune.data.preprocess import Preprocess


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
        """From an item's content to samples."""
        ...

    @property
    def source(self) -> str:
        """Where it came from, for messages."""
        ...

    def with_classes(self, classes: Sequence[str]) -> Self:
        """The same with its classes named."""
        ...

    def logits(self, samples: Tensor) -> Tensor:
        """Evaluation views ``[N, V, *sample]`` to float32 logits ``[N, V, C]`` on the CPU.

        Safe to call from several threads at once; starts none, and changes no global setting.
        """
        ...


def predict_batches(
    predictor: Predictor,
    items: Sequence[Item],
    *,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    description: str = "predict",
    retry: bool = False,
) -> Iterator[tuple[Batch, Tensor]]:
    """Decode items ahead in threads and compute them; yields batches with logits ``[N, V, C]``.

    Args:
        batch_size: images per forward pass; items of several views, or of many frames, are fewer.
        workers: threads that decode.
        views: one of the kind's `view_modes`; its default for None. Raises UserError for others.
        retry: see `read_batches`.

    N counts the items of the batch that could be read.
    """
    preprocess = predictor.preprocess
    mode = kind_of(preprocess.kind).view_mode(views)
    size = batch_size if batch_size < 1 else max(1, batch_size // preprocess.cost(mode))
    workers = 0 if len(items) == 1 else workers
    with freed_memory_kept(), progress(description, len(items)) as advance:
        for batch in read_batches(items, preprocess, batch_size=size, workers=workers, views=mode, retry=retry):
            if batch.samples is None:
                yield batch, torch.zeros(0, 1, len(predictor.classes))
            else:
                yield batch, predictor.logits(batch.samples)
            advance(len(batch.items))
