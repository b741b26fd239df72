"""SGD, Adam, AdamW and Muon with parameter groups (weight decay, layer-wise rates) and state by parameter name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restune.core.errors import UserError
from restune.networks.custom import CustomNetwork, Network
from restune.training.freeze import stage_of, trainable_parameters
from restune.training.muon import Muon
from restune.training.recipe import OptimizerRecipe


class NamedOptimizer:
    """torch's SGD, Adam or AdamW over the trainable parameters, or Muon over the stages' convolutions and SGD over the
    rest.

    Norms and biases (parameters with at most one dimension) get no weight decay, nor do Muon's parameters, whose norm
    is fixed. A parameter's learning rate is the peak times ``layer_decay`` to the power of its distance from the head.

    Args:
        network: its trainable parameters are those with ``requires_grad``.
        recipe: name and hyper-parameters.
        lr_scale: multiplies the peak learning rate.
        bf16: whether Muon computes in bf16.

    Raises UserError for Muon where it has nothing to update.
    """

    def __init__(self, network: Network, recipe: OptimizerRecipe, lr_scale: float = 1.0, *, bf16: bool = False) -> None:
        self.recipe, self.peak = recipe, recipe.lr * lr_scale
        self.names: dict[Tensor, str] = {}
        stages = len(network.spec.stages)
        groups: dict[tuple[int, bool], list[Tensor]] = {}
        for name, parameter in trainable_parameters(network):
            self.names[parameter] = name
            groups.setdefault((stage_of(name, stages), parameter.ndim > 1), []).append(parameter)
        filters: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for (stage, is_matrix), parameters in groups.items():
            by_muon = recipe.name == "muon" and is_matrix and 0 < stage <= stages
            peak = self.peak if by_muon or recipe.name != "muon" else recipe.sgd_lr * lr_scale
            group = {"params": parameters, "lr": peak, "peak": peak * recipe.layer_decay ** (stages + 1 - stage)}
            if by_muon:
                filters.append(group)
            else:
                others.append({**group, "weight_decay": recipe.weight_decay if is_matrix else 0.0})
        self.optimizers = [_make(others, recipe)]
        if recipe.name == "muon":
            _check_muon(network, filters)
            self.optimizers.append(Muon(filters, momentum=recipe.momentum, nesterov=recipe.nesterov, bf16=bf16))

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups, each with its learning rate and its peak."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self, multiplier: float) -> float:
        """Update the weights at `multiplier` times the peak learning rate; clear gradients. Returns the rate of layers
        without layer decay."""
        for group in self.groups:
            group["lr"] = group["peak"] * multiplier
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(self.names), self.recipe.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.zero_grad()
        return self.peak * multiplier

    def zero_grad(self) -> None:
        """Clear the accumulated gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """The state for a checkpoint: ``parameter name/slot`` to tensor."""
        tensors: dict[str, Tensor] = {}
        for optimizer in self.optimizers:
            for parameter, slots in optimizer.state.items():
                for slot, value in slots.items():
                    if value is not None:
                        tensors[f"{self.names[parameter]}/{slot}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Load the result of `state`. Parameters that are not in it start without momentum."""
        by_name = {self.names[one]: (one, part) for part in self.optimizers for one in _parameters(part)}
        for key, value in tensors.items():
            name, slot = key.rsplit("/", 1)
            if name in by_name:
                parameter, optimizer = by_name[name]
                # In the parameter's own memory format: fused optimisers pair elements by their position in memory.
                like = torch.empty((), dtype=value.dtype, device=parameter.device) if value.ndim == 0 else parameter
                own = torch.empty_like(like).copy_(value)
                optimizer.state[parameter][slot] = own


def _make(groups: list[dict[str, Any]], recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    if recipe.name == "adamw":
        return torch.optim.AdamW(groups, betas=(recipe.momentum, recipe.beta2), fused=True)
    if recipe.name == "adam":
        return torch.optim.Adam(groups, betas=(recipe.momentum, recipe.beta2), fused=True)
    momentum = recipe.sgd_momentum if recipe.name == "muon" else recipe.momentum
    return torch.optim.SGD(groups, momentum=momentum, nesterov=recipe.nesterov and momentum > 0, fused=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _check_muon(network: Network, filters: list[dict[str, Any]]) -> None:
    """Raise UserError where no parameter is Muon's."""
    if isinstance(network, CustomNetwork):
        what, fix = "Muon is for restune's own networks, whose stages it knows", "use another optimizer.name"
    elif not filters:
        what, fix = "Muon updates the stages' convolutions, and all of them are frozen", "use --freeze none"
    else:
        return
    raise UserError(what, where="optimizer.name", fix=fix)
