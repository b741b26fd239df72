"""An exponential moving average of the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from restune.training.freeze import frozen_modules


class WeightAverage:
    """Averages of weights and statistics; those of frozen layers stay bit-identical.

    Args:
        network: the averages start at its weights.
        decay: share of the old average in each step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int, freeze: str | int) -> None:
        """Move the averages toward the network's weights after optimiser step `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))  # early weights are forgotten sooner
        frozen = _frozen_names(network, freeze)
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in network.state_dict().items():
            if name in frozen:
                continue
            if value.is_floating_point():
                averages.append(self.average[name])
                values.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    @torch.no_grad()
    def copy_statistics(self, network: nn.Module) -> None:
        """Take over the network's buffers, estimated for the averaged weights."""
        for name, value in network.named_buffers():
            self.average[name].copy_(value)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Copy the averages of a checkpoint."""
        for name, value in average.items():
            self.average[name].copy_(value)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Within this block the network has the averaged weights; afterwards its own again."""
        own = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.average)
        try:
            yield
        finally:
            network.load_state_dict(own)


def _frozen_names(network: nn.Module, freeze: str | int) -> set[str]:
    frozen = {id(module) for part in frozen_modules(network, freeze) for module in part.modules()}  # type: ignore[arg-type]
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if id(module) in frozen
        for name in module.state_dict(keep_vars=True)
    }
