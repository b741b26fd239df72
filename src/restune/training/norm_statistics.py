"""Batch-norm statistics of the weights as they are: estimated anew over training batches before each validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from restune.data.batches import TrainingBatches
from restune.training.distributed import average_statistics
from restune.training.gradients import Gradients


def reestimate(network: nn.Module, batches: TrainingBatches, gradients: Gradients, epoch: int, count: int) -> None:
    """Replace the running statistics of the batch norms in training mode by their mean over `count` training batches.

    Running statistics are averages over the last steps, of weights that have changed since. In runs of few steps, and
    for averaged weights, they lag behind ("precise batch norm", Wu and Johnson 2021, arXiv:2105.07576). All other
    layers run as in inference. The network is left in eval mode.

    Args:
        network: with the weights to be validated.
        batches: of the training items; the first `count` of the epoch are used, augmented as in training.
        gradients: makes the network's input from a batch, in micro-batches where memory requires it.
        epoch: index of the epoch that ends.
        count: number of batches.
    """
    with estimating(network):
        for batch in itertools.islice(batches.epoch(epoch, epoch * len(batches)), count):
            gradients.forward(batch)
        average_statistics(network, gradients.world)
    network.eval()


@contextmanager
def estimating(network: nn.Module) -> Iterator[None]:
    """Within this block only the norms that were in training mode are, with statistics reset and averaged evenly."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    momentum = [module.momentum for module in norms]
    network.eval()
    for module in norms:
        module.train()
        module.reset_running_stats()
        module.momentum = None  # torch then averages all batches with equal weight
    try:
        yield
    finally:
        for module, value in zip(norms, momentum, strict=True):
            module.momentum = value
