"""The feature maps of each stage for one input: those channels that vary most over its positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.inference.model import Model
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet

MOST_POSITIONS = 2**20
"""Longest input, in positions per channel: the outputs of all stages are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class StageMaps:
    """Some of a stage's output channels.

    Args:
        name: ``stem``, ``stage1``, and so on.
        shape: of the stage's whole output ``(C, *positions)``, without padding.
        channels: which channels these are, the most varied first.
        maps: float32 ``[channels, *positions]``; of a clip the middle frame ``[channels, H, W]``.
    """

    name: str
    shape: tuple[int, ...]
    channels: tuple[int, ...]
    maps: NDArray[np.float32]


def feature_maps(model: Model, sample: Tensor, most: int = 8) -> list[StageMaps]:
    """Compute the output of the stem and of each stage for one input, and keep the most varied channels.

    A channel's variation is the standard deviation of its values over all positions; of equal ones the first is kept.

    Args:
        model: a model whose network is a `ResNet`.
        sample: one view ``[*sample]``, as its preprocessing makes it.
        most: number of channels of each stage.

    Raises UserError for a module of one's own, for an input of more than `MOST_POSITIONS`, and for outputs that are not
    finite.

    >>> import restune
    >>> model = restune.load(run_folder)
    >>> sample = model.preprocess.apply(photo.read_bytes())
    >>> [(maps.name, maps.maps.shape) for maps in feature_maps(model, sample, most=2)][:2]
    [('stem', (2, 16, 16)), ('stage1', (2, 16, 16))]
    """
    network = model.module
    if not isinstance(network, ResNet):
        raise UserError(f"the stages of {network.spec.custom}, a module of one's own, are not known")
    with torch.inference_mode():
        x, mask = model.preprocess.inputs(sample.unsqueeze(0).to(model.device))
        if x[0, 0].numel() > MOST_POSITIONS:
            raise UserError("this input is too long to draw its feature maps", fix="send a part of it")
        outputs = network.forward_stages(laid_out(x), mask)
        found = []
        for stage in range(len(network.spec.stages) + 1):
            name, here = f"stage{stage}" if stage else "stem", network.mask_at(mask, stage)
            values = outputs[name][0].float()
            found.append(_most_varied(name, values if here is None else values[:, : max(1, int(here.sum()))], most))
    if not all(np.isfinite(one.maps).all() for one in found):
        raise UserError("the network's outputs are NaN or Inf", where=model.source, fix="check its weights and --std")
    return found


def _most_varied(name: str, values: Tensor, most: int) -> StageMaps:
    """Keep the channels of ``[C, *positions]`` whose values differ most."""
    order = values.flatten(1).std(dim=1, correction=0).argsort(descending=True, stable=True)[:most]
    maps = values[order] if values.ndim < 4 else values[order, values.shape[1] // 2]
    return StageMaps(
        name=name, shape=tuple(values.shape), channels=tuple(order.tolist()), maps=maps.cpu().float().numpy()
    )
