"""Optimisers in groups: decayed and not, slower toward the stem; their state known by parameter names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restune.networks.resnet import ResNet
from restune.training.freeze import learning_parameters, stage_of
from restune.training.recipe import OptimizerRecipe


class NamedOptimizer:
    """torch's SGD or AdamW over the parameters that learn.

    Norms and biases (everything with one dimension or none) are not decayed. A parameter's learning rate is the
    peak times ``layer_decay`` to the power of its distance from the head.
    """

    def __init__(self, network: ResNet, recipe: OptimizerRecipe, lr_scale: float = 1.0) -> None:
        self.recipe = recipe
        self.names: dict[Tensor, str] = {}
        stages = len(network.spec.stages)
        groups: dict[tuple[int, bool], list[Tensor]] = {}
        for name, parameter in learning_parameters(network):
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
        """Move the weights along their gradients at `multiplier` times the peak learning rate; the head's rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * multiplier
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(self.names), self.recipe.clip_norm)
        self.optimizer.step()
        self.forget()
        return float(self.optimizer.param_groups[-1]["lr"])

    def forget(self) -> None:
        """Drop the gradients gathered so far."""
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """``parameter name/slot`` to tensor: what a checkpoint keeps."""
        kept: dict[str, Tensor] = {}
        for parameter, slots in self.optimizer.state.items():
            for slot, value in slots.items():
                if value is not None:
                    kept[f"{self.names[parameter]}/{slot}"] = torch.as_tensor(value)
        return kept

    def load_state(self, kept: dict[str, Tensor]) -> None:
        """Take back what `state` gave; parameters that learn since then start afresh."""
        by_name = {name: parameter for parameter, name in self.names.items()}
        for key, value in kept.items():
            name, slot = key.rsplit("/", 1)
            if name in by_name:
                parameter = by_name[name]
                # In the parameter's own memory format: fused steps pair numbers by their place in memory.
                like = torch.empty((), dtype=value.dtype, device=parameter.device) if slot == "step" else parameter
                own = torch.empty_like(like).copy_(value)
                self.optimizer.state[parameter][slot] = own


def _make(groups: list[dict[str, Any]], recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    if recipe.name == "adamw":
        return torch.optim.AdamW(groups, betas=(recipe.momentum, recipe.beta2), fused=True)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=nesterov, fused=True)
