"""Estimate the largest micro-batch that fits in memory, before the first step."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from restune.core.machine import local_processes, memory_bytes
from restune.data.preprocess import Preprocess
from restune.networks.custom import CustomNetwork, Network, device_of
from restune.networks.layout import laid_out
from restune.networks.seeding import seeded
from restune.training.freeze import apply_freeze

_SHARE = {"cpu": 0.5, "cuda": 0.85}
"""Share of the machine's memory, or of the GPU's free memory, for activations saved for the backward pass; the rest is
for images, weights and workspaces."""
_ITEMS = 2


def fitting_items(
    network: Network, preprocess: Preprocess, sample: Tensor, *, bf16: bool, freeze: str | int
) -> tuple[int, int]:
    """Return the largest micro-batch, and the bytes saved for the backward pass per item.

    Args:
        network: the network, on its device.
        preprocess: its preprocessing.
        sample: one of the largest samples.
        bf16: whether training uses bf16 autocast.
        freeze: frozen layers, which save nothing for the backward pass.
    """
    device = device_of(network)
    room = torch.cuda.mem_get_info()[0] if device.type == "cuda" else memory_bytes() // local_processes()
    each = kept_bytes_an_item(network, preprocess, sample, bf16=bf16, freeze=freeze)
    return max(1, int(_SHARE[device.type] * room / each)), each


def kept_bytes_an_item(
    network: Network, preprocess: Preprocess, sample: Tensor, *, bf16: bool, freeze: str | int
) -> int:
    """Measure the bytes that one item's forward pass saves for the backward pass, on a copy of the network."""
    trial = copy.deepcopy(network)
    apply_freeze(trial, freeze)
    own = {parameter.untyped_storage().data_ptr() for parameter in trial.parameters()}
    saved_bytes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        flat = network.spec.dims == 1  # masked norms save the positions of all items in one axis
        if storage.data_ptr() not in own and (flat or tensor.shape[:1] == (_ITEMS,)):
            saved_bytes[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = device_of(network)
    masked = network.spec.dims == 1 and sample.shape[-1] > 1
    masked &= not isinstance(network, CustomNetwork) or network.takes_mask
    other = sample[..., :-1] if masked else sample
    x, mask = preprocess.inputs(preprocess.stack([sample] * (_ITEMS - 1) + [other]).to(device))
    with (
        seeded(0, device),  # dropout draws, and nothing depends on what
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16),
    ):
        logits = trial(laid_out(x), mask)
    del logits
    return max(1, sum(saved_bytes.values()) // _ITEMS)
