"""One forward pass, from samples to logits or activations; starts no threads and changes no global setting."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from restune.data.preprocess import Preprocess
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
    """Average logits of views ``[N, V, C]`` to logits of items ``[N, C]``: the logarithm of the mean probability."""
    return logits[:, 0] if logits.shape[1] == 1 else logits.softmax(dim=2).mean(dim=1).log()
