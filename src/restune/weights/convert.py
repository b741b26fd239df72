"""Foreign checkpoints to ours and back: wrappers, prefixes, names, input channels."""

from __future__ import annotations

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
    return {_without_prefixes(name): tensor for name, tensor in state.items() if name != "n_averaged"}


def to_cifar(state: Mapping[str, Tensor]) -> StateDict:
    """Our tensors under the CIFAR repositories' names: `to_ours` undoes it."""
    back = {ours: theirs for theirs, ours in _RENAMED.items()}
    return {_renamed(name, back): tensor for name, tensor in state.items()}


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
