"""An exponential moving average of the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from restune.training.freeze import frozen_modules
from restune.training.recipe import EmaRecipe


class WeightAverage:
    """Averages of weights and statistics; those of frozen layers stay bit-identical.

    Args:
        network: the averages start at its weights.
        decay: share of the old average in each step.
        every: steps between two updates, each of which counts for all of them: they cost less time.
        ramp: 0: early in the run the decay is at most (1 + step) / (10 + step); otherwise the decay is multiplied by
            the share of the run that is done to this power, and averages only the last steps (airbench: 3).
    """

    def __init__(self, network: nn.Module, decay: float, every: int = 1, ramp: float = 0.0) -> None:
        self.decay, self.every, self.ramp = decay, every, ramp
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int, freeze: str | int, progress: float = 1.0) -> None:
        """Move the averages toward the network's weights after optimiser step `step`, counted from 1.

        Args:
            network: the weights.
            step: of the run.
            freeze: the freezing policy.
            progress: share of the run that is done.
        """
        if step % self.every:
            return
        decay = self.decay_at(step, progress)
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

    def decay_at(self, step: int, progress: float) -> float:
        """Return the share of the old average in an update; early weights are forgotten sooner."""
        if self.ramp:
            return float(self.decay**self.every * min(1.0, progress) ** self.ramp)
        return float(min(self.decay, (1 + step) / (10 + step)) ** self.every)

    def restarted(self, network: nn.Module) -> WeightAverage:
        """Return an average with the same settings that starts at the network's weights."""
        return WeightAverage(network, self.decay, self.every, self.ramp)

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


def average_of(network: nn.Module, recipe: EmaRecipe) -> WeightAverage | None:
    """Return the average that a recipe asks for; None without one."""
    return None if recipe.decay is None else WeightAverage(network, recipe.decay, recipe.every, recipe.ramp)


def _frozen_names(network: nn.Module, freeze: str | int) -> set[str]:
    frozen = {id(module) for part in frozen_modules(network, freeze) for module in part.modules()}  # type: ignore[arg-type]
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if id(module) in frozen
        for name in module.state_dict(keep_vars=True)
    }
