"""One forward pass, from samples to logits or activations; split in halves if memory requires it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from restune.core.console import warn
from restune.core.errors import UserError
from restune.core.machine import cpu_count
from restune.data.preprocess import Preprocess
from restune.data.threads import computing_threads
from restune.networks.layout import in_parts, joined, laid_out

Compute = Callable[[Tensor, Tensor | None], Tensor]
"""A network or its first layers: input and mask (False for padding; None if nothing is padded) to outputs."""


def forward(compute: Compute, preprocess: Preprocess, samples: Tensor, *, channels_last: bool = True) -> Tensor:
    """Return outputs ``[N, ...]`` in float32, on the samples' device; long series and texts go a few at a time.

    Args:
        samples: ``[N, *sample]``, as the preprocessing stacks them.
        channels_last: use the channels-last memory format for images and clips.
    """
    parts = in_parts(*preprocess.inputs(samples))
    return joined([compute(laid_out(x, channels_last=channels_last), mask).float() for x, mask in parts])


def forward_views(compute: Compute, preprocess: Preprocess, samples: Tensor) -> Tensor:
    """Return outputs ``[N, V, ...]`` of evaluation views ``[N, V, *sample]``."""
    outputs = forward(compute, preprocess, samples.flatten(0, 1))
    return outputs.reshape(*samples.shape[:2], *outputs.shape[1:])


def mean_of_views(logits: Tensor) -> Tensor:
    """Average logits of views ``[N, V, C]`` to logits of items ``[N, C]``: the logarithm of the mean probability.

    Computed as log-sum-exp, so that a probability too small for a float is not 0.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits.log_softmax(dim=2).logsumexp(dim=1) - math.log(logits.shape[1])


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute probabilities ``[N, C]`` from logits of items ``[N, C]``, divided by the temperature (Guo et al. 2017).

    Of several views these are the logarithm of the mean probability (`mean_of_views`): views are averaged first.
    """
    return (logits if temperature == 1.0 else logits / temperature).softmax(dim=1)


def prediction_sets(probabilities: Tensor, thresholds: float | Sequence[float]) -> Tensor:
    """Return which classes belong to each item's prediction set, bool ``[N, C]``.

    Args:
        probabilities: ``[N, C]``.
        thresholds: least probability of a class in the set: one for all classes, or one per class.

    The most probable class always belongs to it: no set is empty.
    """
    least = torch.tensor(thresholds, dtype=probabilities.dtype)
    sets = probabilities >= least
    return sets.scatter_(1, probabilities.argmax(dim=1, keepdim=True), True)


def mean_of_task_views(logits: Tensor, task: str) -> Tensor:
    """Average outputs of views ``[N, V, C]`` to outputs of items ``[N, C]``, by what they mean.

    Single-label: see `mean_of_views`; multi-label: the log odds of the mean probability; regression: their mean.
    """
    if logits.shape[1] == 1 or task == "single-label":
        return mean_of_views(logits)
    return torch.logit(logits.double().sigmoid().mean(dim=1)).float() if task == "multi-label" else logits.mean(dim=1)


class FittingParts:
    """Compute batches; split in halves, with one warning, from the first one that does not fit in memory.

    Args:
        compute: samples ``[N, ...]`` to outputs ``[N, ...]``, each item's its own.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        self.compute = compute
        self.size: int | None = None

    def __call__(self, samples: Tensor) -> Tensor:
        """Return the outputs of samples. Raises UserError if a single one does not fit in memory."""
        before = self.size
        while True:
            size = min(self.size or len(samples), len(samples))
            try:
                outputs = torch.cat([self.compute(samples[i : i + size]) for i in range(0, len(samples), size)])
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size <= 1:
                    raise _no_memory_for_one(error) from error
            self.size = -(-size // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if before is None and self.size is not None:
            warn(
                f"a batch of {len(samples)} does not fit in memory: computing {self.size} at a time from now on "
                "(--batch-size)"
            )
        return outputs


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out: Python's, torch's on any device, or oneDNN's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    if "could not create a primitive" in text:  # oneDNN; "... primitive descriptor" means that it lacks the operation
        return isinstance(error, RuntimeError) and "primitive descriptor" not in text
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


@contextmanager
def threads_within_quota() -> Iterator[None]:
    """Limit torch's threads within this block to the cores of the container's CPU quota."""
    cores = cpu_count()
    with computing_threads(cores) if torch.get_num_threads() > cores else nullcontext():
        yield


def _no_memory_for_one(error: BaseException) -> UserError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return UserError(
        f"there is not enough memory for a single item: {reason[:200]}",
        fix="use a smaller input (--image-size), a smaller network, or shorter items",
    )
