"""Give a learner's module the weights of a reference, by the order in which their layers run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restune.lessons.exercises.grading import FaultError

_WEIGHTED = (nn.Conv2d, nn.Linear)


class Group:
    """A convolution or linear layer that ran, and the batch norm that ran right after it, if any."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.norm: nn.BatchNorm2d | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the layer's weight."""
        return tuple(self.layer.get_parameter("weight").shape)


def groups_run(module: nn.Module, x: Tensor) -> list[Group]:
    """Run `module` on `x` and return its layers in the order in which they ran."""
    groups: list[Group] = []

    def record(layer: nn.Module, _inputs: object, _output: object) -> None:
        if isinstance(layer, _WEIGHTED):
            groups.append(Group(layer))
        elif isinstance(layer, nn.BatchNorm2d) and groups and groups[-1].norm is None:
            groups[-1].norm = layer

    handles = [layer.register_forward_hook(record) for layer in module.modules()]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return groups


def share_weights(reference: nn.Module, learner: nn.Module, x: Tensor, *, shortcut_first: bool = False) -> None:
    """Copy the reference's weights into the learner's layers of the same shape, in the order in which they run.

    Raises FaultError when the layers that ran differ.

    Args:
        shortcut_first: the learner's blocks run the projection before the branch; the reference's run it after.
    """
    ours, theirs = groups_run(reference, x), groups_run(learner, x)
    if shortcut_first:
        ours = _shortcuts_first(ours, reference)
    if sorted(group.shape for group in ours) != sorted(group.shape for group in theirs):
        raise FaultError("layers-differ", found=_listed(theirs), expected=_listed(ours))
    waiting = list(theirs)
    with torch.no_grad():
        for group in ours:
            partner = next(other for other in waiting if other.shape == group.shape)
            waiting.remove(partner)
            _copy(group, partner)


def randomise_norms(module: nn.Module, seed: int = 0) -> None:
    """Give the batch norms weights, biases and statistics that are not the identity, so that their place matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for name, low in (("weight", 0.5), ("running_var", 0.5), ("bias", -0.5), ("running_mean", -0.5)):
                    values = layer.get_parameter(name) if name in ("weight", "bias") else layer.get_buffer(name)
                    values.copy_(low + torch.rand(values.shape, generator=generator))


def _shortcuts_first(groups: list[Group], reference: nn.Module) -> list[Group]:
    """Return the groups with each block's projection moved before its branch."""
    names = {module: name for name, module in reference.named_modules()}

    def block(group: Group) -> tuple[str, ...]:
        parts = names[group.layer].split(".")
        return tuple(parts[:2]) if parts[0].startswith("layer") else tuple(parts)

    order = {key: position for position, key in reversed(list(enumerate(map(block, groups))))}
    return sorted(groups, key=lambda group: (order[block(group)], "downsample" not in names[group.layer]))


def _copy(source: Group, target: Group) -> None:
    target.layer.get_parameter("weight").copy_(source.layer.get_parameter("weight"))
    bias = getattr(target.layer, "bias", None)
    if bias is not None:
        own = getattr(source.layer, "bias", None)
        bias.copy_(torch.zeros_like(bias) if own is None else own)
    if source.norm is not None and target.norm is not None:
        target.norm.load_state_dict(source.norm.state_dict())


def _listed(groups: list[Group]) -> str:
    kinds = {4: "Conv2d", 2: "Linear"}
    return ", ".join(f"{kinds[len(group.shape)]}{list(group.shape)}" for group in groups) or "-"
