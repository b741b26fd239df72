"""One forward pass, from samples to logits or to the features of a frozen part; no pool, no global setting."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from restune.data.preprocess import Preprocess
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
