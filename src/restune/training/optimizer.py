"""SGD, Adam and AdamW with parameter groups (weight decay, layer-wise learning rates) and state by parameter name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restune.networks.custom import Network
from restune.training.freeze import stage_of, trainable_parameters
from restune.training.recipe import OptimizerRecipe


class NamedOptimizer:
    """torch's SGD, Adam or AdamW over the trainable parameters.

    Norms and biases (parameters with at most one dimension) get no weight decay. A parameter's learning rate is the
    peak times ``layer_decay`` to the power of its distance from the head.

    Args:
        network: its trainable parameters are those with ``requires_grad``.
        recipe: name and hyper-parameters.
        lr_scale: multiplies the peak learning rate.
    """

    def __init__(self, network: Network, recipe: OptimizerRecipe, lr_scale: float = 1.0) -> None:
        self.recipe = recipe
        self.names: dict[Tensor, str] = {}
        stages = len(network.spec.stages)
        groups: dict[tuple[int, bool], list[Tensor]] = {}
        for name, parameter in trainable_parameters(network):
            self.names[parameter] = name
            groups.setdefault((stage_of(name, stages), parameter.ndim > 1), []).append(parameter)
        peak = recipe.lr * lr_scale
        options: list[dict[str, Any]] = [
            {
                "params": parameters,
                "lr": peak,
                "peak": peak * recipe.layer_decay ** (stages + 1 - stage),
                "weight_decay": recipe.weight_decay if decayed else 0.0,
            }
            for (stage, decayed), parameters in groups.items()
        ]
        self.optimizer = _make(options, recipe)

    def step(self, multiplier: float) -> float:
        """Update the weights at `multiplier` times the peak learning rate; clear gradients. Returns the head's rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * multiplier
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(self.names), self.recipe.clip_norm)
        self.optimizer.step()
        self.zero_grad()
        return float(self.optimizer.param_groups[-1]["lr"])

    def zero_grad(self) -> None:
        """Clear the accumulated gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """The state for a checkpoint: ``parameter name/slot`` to tensor."""
        tensors: dict[str, Tensor] = {}
        for parameter, slots in self.optimizer.state.items():
            for slot, value in slots.items():
                if value is not None:
                    tensors[f"{self.names[parameter]}/{slot}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Load the result of `state`. Parameters that are not in it start without momentum."""
        by_name = {name: parameter for parameter, name in self.names.items()}
        for key, value in tensors.items():
            name, slot = key.rsplit("/", 1)
            if name in by_name:
                parameter = by_name[name]
                # In the parameter's own memory format: fused optimisers pair elements by their position in memory.
                like = torch.empty((), dtype=value.dtype, device=parameter.device) if slot == "step" else parameter
                own = torch.empty_like(like).copy_(value)
                self.optimizer.state[parameter][slot] = own


def _make(groups: list[dict[str, Any]], recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    if recipe.name == "adamw":
        return torch.optim.AdamW(groups, betas=(recipe.momentum, recipe.beta2), fused=True)
    if recipe.name == "adam":
        return torch.optim.Adam(groups, betas=(recipe.momentum, recipe.beta2), fused=True)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=nesterov, fused=True)
