"""Convert between other libraries' tensor names and ours, and weights to other input channels and dimensions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from restune.weights.novelty import REFERENCE

StateDict = dict[str, Tensor]

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes added by DataParallel, torch.compile and Lightning."""

_RENAMED = {"linear.": "fc."}
"""From the CIFAR repositories' names (left) to ours, which are torchvision's (right). timm's D stems (``conv1.0``),
shortcuts (``downsample.1``) and attention (``se.fc1``, ``se.conv``) are ours already."""


def to_ours(state: Mapping[str, Tensor]) -> StateDict:
    """Rename tensors to our names, without the prefixes of DataParallel, torch.compile and Lightning."""
    ours = {_without_prefixes(name): tensor for name, tensor in state.items() if not is_beside(name)}
    if any(name.startswith("stem.") for name in ours):
        return _from_torchvision_video(ours)
    return ours


def is_beside(name: str) -> bool:
    """Whether a tensor stands beside the network's: a counter of averaging, or a bundle's reference for novelty."""
    return name in ("n_averaged", REFERENCE)


def to_cifar(state: Mapping[str, Tensor]) -> StateDict:
    """Rename our tensors as the CIFAR repositories do; `to_ours` is the inverse."""
    back = {ours: theirs for theirs, ours in _RENAMED.items()}
    return {_renamed(name, back): tensor for name, tensor in state.items()}


def to_torchvision_video(state: Mapping[str, Tensor]) -> StateDict:
    """Rename a video network's tensors as torchvision does; `to_ours` is the inverse."""
    stem = {"conv1.": "stem.0.", "bn1.": "stem.1."}
    if "conv1.0.weight" in state:
        stem = {"conv1.": "stem.", "bn1.": "stem.4."}
    return {_renamed(_IN_OUR_BLOCK.sub(_in_their_block, name), stem): tensor for name, tensor in state.items()}


_IN_OUR_BLOCK = re.compile(r"^(layer\d+\.\d+)\.(conv|bn)(\d)\.")
_IN_THEIR_BLOCK = re.compile(r"^(layer\d+\.\d+)\.conv(\d)\.([01])\.")
"""torchvision's video blocks have a convolution and its norm in one nn.Sequential; ours have two modules. R(2+1)D's
factorised convolution is an nn.Sequential in both."""


def _from_torchvision_video(state: StateDict) -> StateDict:
    stem = {"stem.0.": "conv1.", "stem.1.": "bn1."}
    if any(name.startswith("stem.3.") for name in state):
        stem = {"stem.4.": "bn1.", "stem.": "conv1."}
    return {_renamed(_IN_THEIR_BLOCK.sub(_in_our_block, name), stem): tensor for name, tensor in state.items()}


def _in_our_block(match: re.Match[str]) -> str:
    block, number, place = match.groups()
    return f"{block}.{'bn' if place == '1' else 'conv'}{number}."


def _in_their_block(match: re.Match[str]) -> str:
    block, layer, number = match.groups()
    return f"{block}.conv{number}.{'1' if layer == 'bn' else '0'}."


def _without_prefixes(name: str) -> str:
    while any(name.startswith(prefix) for prefix in _PREFIXES):
        name = name.split(".", 1)[1]
    return _renamed(name, _RENAMED)


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for before, after in names.items():
        if name.startswith(before):
            return after + name[len(before) :]
    return name


def adapt_first_convolution(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt first-layer weights ``[O, I, ...]`` to another number of input channels.

    One channel: the sum over the present ones, so that a grey image gives the logits of its RGB copy. More: repeated
    in turn and scaled by ``I / in_channels``. Source: timm's `adapt_input_conv`.
    """
    have = weight.shape[1]
    if have == in_channels:
        return weight
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeats = -(-in_channels // have)
    repeated = torch.cat([weight] * repeats, dim=1)[:, :in_channels]
    return repeated * (have / in_channels)


def inflate(state: Mapping[str, Tensor], twin: Mapping[str, Tensor]) -> StateDict:
    """Inflate a 2-D network's weights for its 3-D twin: repeat each kernel along time and divide by the number of
    repeats, so that a video of one still image gives the image's logits.

    Args:
        state: weights of the 2-D network.
        twin: the 3-D network's state dict, for its shapes.

    Source: Carreira and Zisserman 2017, section 2.4.
    """
    inflated = {}
    for name, tensor in state.items():
        like = twin.get(name)
        if like is not None and tensor.ndim == 4 and like.ndim == 5:
            times = like.shape[2]
            tensor = (tensor / times).unsqueeze(2).repeat(1, 1, times, 1, 1)
        inflated[name] = tensor
    return inflated
