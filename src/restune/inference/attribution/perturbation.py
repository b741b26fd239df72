"""Attribution by captum, as a check on the maps: occlusion and integrated gradients, in the input's coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from restune.core.errors import UserError
from restune.data.kinds import Kind
from restune.networks.custom import CustomNetwork, Network

_WINDOWS = 16
"""Windows along each axis of an image."""
_MOST_WINDOWS = 256
"""Windows of a series or a text."""
_AT_ONCE = 16
_STEPS = 32
_UNKNOWN_TOKEN = 1


def occlusion(network: Network, x: Tensor, kind: Kind, target: int) -> Tensor:
    """Return how much the logit falls when a window around each position is covered (Zeiler and Fergus 2014).

    A window covers two strides in each direction; values are replaced by 0 (the mean of the training data after
    normalisation), tokens by the unknown token.

    Args:
        x: one item's network input ``[1, ...]``.
        target: index of the explained class.

    Returns the map ``[*positions of the input]``. Raises UserError without captum.
    """
    from_captum = _captum()
    axes = x.shape[1:] if kind.has_tokens else x.shape[2:]
    count = _MOST_WINDOWS if len(axes) == 1 else _WINDOWS if len(axes) == 2 else _WINDOWS // 2
    strides = [-(-length // count) for length in axes]
    windows = [min(length, 2 * stride) for length, stride in zip(axes, strides, strict=True)]
    if kind.has_tokens:
        return _token_occlusion(network, x, target, strides[0])
    channels = x.shape[1]
    with torch.no_grad():
        found: Tensor = from_captum.Occlusion(network).attribute(
            x,
            sliding_window_shapes=(channels, *windows),
            strides=(channels, *strides),
            target=target,
            perturbations_per_eval=_AT_ONCE,
        )
    return found[0].mean(dim=0)


def integrated_gradients(network: Network, x: Tensor, kind: Kind, target: int) -> Tensor:
    """Return integrated gradients from an input of zeros (Sundararajan et al. 2017), summed over channels.

    Args:
        x: one item's network input ``[1, ...]``; of texts, the path runs from the padding's embedding.
        target: index of the explained class.

    Returns the map ``[*positions of the input]``. Raises UserError without captum, and for texts whose module is one's
    own, since its embedding is not known.
    """
    from_captum = _captum()
    if not kind.has_tokens:
        found = from_captum.IntegratedGradients(network).attribute(
            x, target=target, n_steps=_STEPS, internal_batch_size=_AT_ONCE
        )
        return _summed(found)
    if isinstance(network, CustomNetwork):
        raise UserError(
            f"integrated gradients need an embedding, and that of {network.spec.custom} is not known",
            where="--method integrated-gradients",
            fix="use --method occlusion",
        )
    assert isinstance(network.embedding, nn.Module)
    layer = from_captum.LayerIntegratedGradients(network, network.embedding)
    found = layer.attribute(x, torch.zeros_like(x), target=target, n_steps=_STEPS, internal_batch_size=_AT_ONCE)
    return _summed(found.transpose(1, 2))


def _token_occlusion(network: Network, x: Tensor, target: int, stride: int) -> Tensor:
    """Replace `stride` tokens ``[1, L]`` at a time by the unknown token; captum would multiply token ids."""
    length = x.shape[1]
    starts = range(0, length, stride)
    falls = torch.zeros(length, device=x.device)
    with torch.no_grad():
        whole = network(x)[0, target]
        for first in range(0, len(starts), _AT_ONCE):
            group = starts[first : first + _AT_ONCE]
            copies = x.repeat(len(group), 1)
            for copy, start in zip(copies, group, strict=True):
                copy[start : start + stride] = _UNKNOWN_TOKEN
            logits = network(copies)[:, target]
            for logit, start in zip(logits, group, strict=True):
                falls[start : start + stride] = (whole - logit) / min(stride, length - start)
    return falls


def _summed(found: Tensor) -> Tensor:
    return found.detach()[0].sum(dim=0)


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise UserError(
            "this method needs captum", where="--method", fix="pip install 'restune[insight]', or use --method cam"
        ) from error
    return captum.attr
