"""The interface of a model that evaluate, predict and serve use, for any runtime; and prediction in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import nullcontext
from itertools import chain, islice
from typing import Protocol, Self, runtime_checkable

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
from restune.weights.calibration import Calibration


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
    def calibration(self) -> Calibration | None:
        """How its logits become probabilities; None: by softmax alone."""
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

        Safe to call from several threads at once; changes no global setting.
        """
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute calibrated probabilities ``[N, C]`` from logits of views ``[N, V, C]``."""
        ...


@runtime_checkable
class EmbeddingPredictor(Protocol):
    """A model that also offers its embeddings, the inputs of its last layer."""

    def logits_and_embeddings(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute logits ``[N, V, C]`` and embeddings ``[N, V, F]`` (None where there are none) in one forward pass."""
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
    """Yield batches with logits ``[N, V, C]`` of their readable items; see `predict_with_embeddings`."""
    for batch, logits, _ in predict_with_embeddings(
        predictor, items,
        batch_size=batch_size, workers=workers, views=views, description=description, retry=retry,
    ):  # fmt: skip
        yield batch, logits


def predict_with_embeddings(
    predictor: Predictor,
    items: Iterable[Item],
    *,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    description: str = "predict",
    retry: bool = False,
) -> Iterator[tuple[Batch, Tensor, Tensor | None]]:
    """Decode items ahead in threads and compute them.

    Yield batches with logits ``[N, V, C]`` and embeddings ``[N, V, F]`` of their readable items; embeddings are None
    where the predictor has none, or no item of the batch is readable.

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
    size = items_per_batch(preprocess, batch_size, mode)
    total = len(items) if isinstance(items, Sized) else None
    rest = iter(items)
    first = tuple(islice(rest, max(1, size) + 1))
    workers = 0 if len(first) == 1 else workers
    # One batch leaves nothing to keep for a next one, and giving its memory back takes longer than a small network.
    memory = freed_memory_kept() if len(first) > size else nullcontext()
    compute, classes = FittingParts(_outputs(predictor)), len(predictor.classes)
    todo = chain(first, rest)
    with memory, threads_within_quota(), progress(description, total) as advance:
        for batch in read_batches(todo, preprocess, batch_size=size, workers=workers, views=mode, retry=retry):
            yield batch, *_computed(compute, batch, classes)
            advance(len(batch.items))


def items_per_batch(preprocess: Preprocess, batch_size: int, views: str | None) -> int:
    """Return how many items are computed at a time. Raises UserError for views that the kind does not have."""
    mode = kind_of(preprocess.kind).view_mode(views)
    return batch_size if batch_size < 1 else max(1, batch_size // preprocess.cost(mode))


def compute_batch(predictor: Predictor, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Compute one batch's logits and embeddings, as `predict_with_embeddings` does."""
    with threads_within_quota():
        return _computed(FittingParts(_outputs(predictor)), batch, len(predictor.classes))


def _computed(compute: Callable[[Tensor], Tensor], batch: Batch, classes: int) -> tuple[Tensor, Tensor | None]:
    if batch.samples is None:
        return torch.zeros(0, 1, classes), None
    each_view = compute(batch.samples.flatten(0, 1).unsqueeze(1))
    outputs = each_view.reshape(*batch.samples.shape[:2], -1)
    has_embeddings = outputs.shape[2] > classes
    return outputs[..., :classes], outputs[..., classes:] if has_embeddings else None


def _outputs(predictor: Predictor) -> Callable[[Tensor], Tensor]:
    """Return a function from samples ``[N, V, ...]`` to logits and, where there are any, embeddings, side by side."""
    if not isinstance(predictor, EmbeddingPredictor):
        return predictor.logits

    def compute(samples: Tensor) -> Tensor:
        logits, embeddings = predictor.logits_and_embeddings(samples)
        return logits if embeddings is None else torch.cat([logits, embeddings], dim=2)

    return compute
