"""One forward pass, from samples to logits or to the features of a frozen part; in parts where memory requires it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
"""A network or a part of one: its input and the mask of what is not padding (None: nothing is padding) to outputs."""


def forward(compute: Compute, preprocess: Preprocess, samples: Tensor, *, channels_last: bool = True) -> Tensor:
    """Outputs ``[N, ...]`` in float32, on the samples' device; long series and texts are computed a few at a time.

    Args:
        samples: ``[N, *sample]``, as the preprocessing stacks them.
        channels_last: lay images and clips out so.
    """
    parts = in_parts(*preprocess.inputs(samples))
    return joined([compute(laid_out(x, channels_last=channels_last), mask).float() for x, mask in parts])


def forward_views(compute: Compute, preprocess: Preprocess, samples: Tensor) -> Tensor:
    """Outputs ``[N, V, ...]`` of evaluation views ``[N, V, *sample]``."""
    outputs = forward(compute, preprocess, samples.flatten(0, 1))
    return outputs.reshape(*samples.shape[:2], *outputs.shape[1:])


def mean_of_views(logits: Tensor) -> Tensor:
    """Logits ``[N, C]`` of items from those of their views ``[N, V, C]``: the logarithm of the mean probability."""
    return logits[:, 0] if logits.shape[1] == 1 else logits.softmax(dim=2).mean(dim=1).log()


class FittingParts:
    """Computes batches; in halves, with one warning, from the first on that does not fit in memory.

    Args:
        compute: samples ``[N, ...]`` to outputs ``[N, ...]``, each item's its own.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        self.compute = compute
        self.size: int | None = None

    def __call__(self, samples: Tensor) -> Tensor:
        """Outputs of samples. Raises UserError where a single one does not fit in memory."""
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
    """Whether an error means that memory ran out: Python's, torch's on any device, or oneDNN's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    if "could not create a primitive" in text:  # oneDNN; "... primitive descriptor" means that it lacks the operation
        return isinstance(error, RuntimeError) and "primitive descriptor" not in text
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


@contextmanager
def threads_within_quota() -> Iterator[None]:
    """Within this block torch computes with no more threads than a container's quota of processor time has cores."""
    cores = cpu_count()
    with computing_threads(cores) if torch.get_num_threads() > cores else nullcontext():
        yield


def _no_memory_for_one(error: BaseException) -> UserError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return UserError(
        f"there is not enough memory for a single item: {reason[:200]}",
        fix="use a smaller input (--image-size), a smaller network, or shorter items",
    )
