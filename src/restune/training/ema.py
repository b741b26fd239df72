"""An exponential moving average of the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restune.training.freeze import frozen_modules


class WeightAverage:
    """Averages of everything that changes; what is frozen is left as it is, to the bit.

    Args:
        network: whose weights are averaged.
        decay: a step's share of the old average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int, freeze: str | int) -> None:
        """Move the averages toward the weights after optimiser step `step`, counted from 1."""
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


def _frozen_names(network: nn.Module, freeze: str | int) -> set[str]:
    frozen = {id(module) for part in frozen_modules(network, freeze) for module in part.modules()}  # type: ignore[arg-type]
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if id(module) in frozen
        for name in module.state_dict(keep_vars=True)
    }
