"""How many items of a batch fit in memory at a time, found out before the first step."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from restune.core.machine import local_processes, memory_bytes
from restune.data.preprocess import Preprocess
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet
from restune.networks.seeding import seeded
from restune.training.freeze import apply_freeze

_SHARE = {"cpu": 0.5, "cuda": 0.85}
"""Of the machine's memory, or of what is free on the GPU, for what backward needs; images, weights and what a layer
works with have the rest."""
_ITEMS = 2


def fitting_items(
    network: ResNet, preprocess: Preprocess, sample: Tensor, *, bf16: bool, freeze: str | int
) -> tuple[int, int]:
    """How many items can be computed at a time, and the bytes that each keeps for backward.

    Args:
        network: on its device.
        sample: a large one.
        freeze: what learns; layers below keep nothing.
    """
    device = network.fc.weight.device
    room = torch.cuda.mem_get_info()[0] if device.type == "cuda" else memory_bytes() // local_processes()
    each = kept_bytes_an_item(network, preprocess, sample, bf16=bf16, freeze=freeze)
    return max(1, int(_SHARE[device.type] * room / each)), each


def kept_bytes_an_item(
    network: ResNet, preprocess: Preprocess, sample: Tensor, *, bf16: bool, freeze: str | int
) -> int:
    """What one item's forward pass keeps for backward: one pass over a copy of the network says it."""
    tried = copy.deepcopy(network)
    apply_freeze(tried, freeze)
    own = {parameter.untyped_storage().data_ptr() for parameter in tried.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        flat = network.spec.dims == 1  # whose norms keep the positions of all items in a row
        if storage.data_ptr() not in own and (flat or tensor.shape[:1] == (_ITEMS,)):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = network.fc.weight.device
    other = sample[..., :-1] if network.spec.dims == 1 and sample.shape[-1] > 1 else sample  # so that there is a mask
    x, mask = preprocess.inputs(preprocess.stack([sample] * (_ITEMS - 1) + [other]).to(device))
    with (
        seeded(0, device),  # dropout draws, and nothing depends on what
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16),
    ):
        logits = tried(laid_out(x), mask)
    del logits
    return max(1, sum(kept.values()) // _ITEMS)
