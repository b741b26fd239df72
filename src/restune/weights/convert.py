"""Foreign checkpoints to ours and back: wrappers, prefixes, names, input channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from restune.core.errors import UserError, shorten

StateDict = dict[str, Tensor]

_WRAPPERS = ("model_ema", "state_dict_ema", "state_dict", "model", "model_state_dict", "net")
"""Keys under which training scripts store the weights; averaged weights first, since those are what was published."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before each name."""

_BOOKKEEPING = ("n_averaged", "num_batches_tracked")

_RENAMED = {"linear.": "fc."}
"""The CIFAR repositories' names on the left, ours (torchvision's) on the right. timm's D stems (``conv1.0``),
shortcuts (``downsample.1``) and attention (``se.fc1``, ``se.conv``) are ours already."""


def unwrap(content: Any, where: str) -> StateDict:
    """The name-to-tensor mapping inside a checkpoint, with our names. Raises UserError when there is none.

    Understands the nested forms of the usual training scripts, the prefixes of wrappers, in any order and number,
    and the CIFAR repositories' `linear` head.
    """
    found = content
    for _ in range(4):  # deeper nesting is nobody's
        inner = [found[key] for key in _WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        if not any(inner):
            break
        found = next(candidate for candidate in inner if candidate)
    if not isinstance(found, Mapping) or not _is_state_dict(found):
        have = f"it has {shorten(content)}" if isinstance(content, Mapping) else f"it is a {type(content).__name__}"
        raise UserError(
            f"there are no weights in this file: {have}",
            where=where,
            fix="save the network's state_dict()",
        )
    tensors = {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    state = to_ours(tensors)
    if len(state) < len(tensors) - ("n_averaged" in tensors):
        raise UserError("two tensors in this file have the same name once their prefixes are gone", where=where)
    return state


def to_ours(state: Mapping[str, Tensor]) -> StateDict:
    """The same tensors under our names."""
    ours = {_without_prefixes(name): tensor for name, tensor in state.items() if name != "n_averaged"}
    if any(name.startswith("stem.") for name in ours):
        return _from_torchvision_video(ours)
    return ours


def to_cifar(state: Mapping[str, Tensor]) -> StateDict:
    """Our tensors under the CIFAR repositories' names: `to_ours` undoes it."""
    back = {ours: theirs for theirs, ours in _RENAMED.items()}
    return {_renamed(name, back): tensor for name, tensor in state.items()}


def to_torchvision_video(state: Mapping[str, Tensor]) -> StateDict:
    """A video network's tensors under torchvision's names: `to_ours` undoes it."""
    stem = {"conv1.": "stem.0.", "bn1.": "stem.1."}
    if "conv1.0.weight" in state:
        stem = {"conv1.": "stem.", "bn1.": "stem.4."}
    return {_renamed(_IN_OUR_BLOCK.sub(_in_their_block, name), stem): tensor for name, tensor in state.items()}


_IN_OUR_BLOCK = re.compile(r"^(layer\d+\.\d+)\.(conv|bn)(\d)\.")
_IN_THEIR_BLOCK = re.compile(r"^(layer\d+\.\d+)\.conv(\d)\.([01])\.")
"""torchvision's video blocks keep a convolution and its norm in one sequence: ours are two modules side by side. What
R(2+1)D does in two steps is itself a sequence in either."""


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


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    tensors = sum(isinstance(value, Tensor) for value in content.values())
    return tensors > 0 and tensors >= len(content) - len(_BOOKKEEPING)


def adapt_first_convolution(weight: Tensor, in_channels: int) -> Tensor:
    """First-layer weights ``[O, I, ...]`` for another number of input channels.

    One channel: the sum over the present ones, so a grey image that was repeated gives the same answer. More: they
    are repeated in turn and scaled by ``I / in_channels``. As timm's `adapt_input_conv` does for RGB weights.
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
    """A 2-D network's weights for its 3-D twin: each kernel is repeated along time and divided by how often, so that a
    video of one picture gives what the picture gives (Carreira and Zisserman 2017, section 2.4).

    Args:
        state: weights of the 2-D network.
        twin: the 3-D network's state, of which the shapes count.
    """
    inflated = {}
    for name, tensor in state.items():
        like = twin.get(name)
        if like is not None and tensor.ndim == 4 and like.ndim == 5:
            times = like.shape[2]
            tensor = (tensor / times).unsqueeze(2).repeat(1, 1, times, 1, 1)
        inflated[name] = tensor
    return inflated
