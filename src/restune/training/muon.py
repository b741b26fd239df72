"""Muon: momentum whose updates are orthogonalised, for the filters of convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ITERATIONS = 3
"""Newton-Schulz iterations: as many as airbench takes for convolutions; language models take 5."""
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for parameters of two or more dimensions, whose filters keep their total norm.

    The momentum's matrix ``[filters, weights per filter]`` is replaced by a nearly orthogonal one, so that all of its
    directions move by about the learning rate. Before each update a parameter is scaled back to the norm that it had
    at the first one, as in airbench; under a norm layer, which takes the scale out of the output, this keeps the
    learning rate in proportion to the weights.

    Args:
        groups: parameters with their ``lr``: the update's singular values, relative to filters of norm 1.
        momentum: share of the former momentum that is added to each gradient.
        nesterov: whether the update looks ahead by one step.
        bf16: whether to orthogonalise in bf16, which is enough, and fast where the hardware multiplies it.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, and github.com/KellerJordan/cifar10-airbench.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, nesterov: bool, bf16: bool) -> None:
        super().__init__(groups, {"momentum": momentum, "nesterov": nesterov})
        self.dtype = torch.bfloat16 if bf16 else torch.float32

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        slots, filters = self.state[parameter], len(parameter)
        norm = parameter.norm()
        if "momentum_buffer" not in slots:
            slots["momentum_buffer"] = torch.zeros_like(gradient)
        if "norm" not in slots:
            slots["norm"] = torch.where(norm > 0, norm, filters**0.5)  # weights that start at 0 could not grow
        momentum = slots["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        ahead = gradient.add(momentum, alpha=group["momentum"]) if group["nesterov"] else momentum
        update = orthogonalized(ahead.flatten(1).to(self.dtype)).view_as(parameter)
        parameter.mul_(slots["norm"] / norm.clamp(min=1e-12))
        parameter.sub_(update * (slots["norm"] * (group["lr"] / filters**0.5)))


def orthogonalized(matrix: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Return a matrix ``[M, N]`` with the same singular vectors and singular values near 1 (Newton-Schulz).

    The iteration's polynomial rises so steeply at 0 that singular values end between about 0.5 and 1.5, which trains
    as well as 1 would.

    >>> nearly = orthogonalized(torch.diag(torch.tensor([4.0, 2.0, 1.0])), iterations=5)
    >>> bool(((nearly.diag() - 1).abs() < 0.5).all())
    True
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x
