"""A module of one's own in the place of a `ResNet`: any ``torch.nn.Module`` from input to logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from restune.core.errors import UserError
from restune.networks.resnet import ResNet


@dataclass(frozen=True, kw_only=True)
class CustomSpec:
    """What is known of a module of one's own.

    Args:
        custom: the name of its class.
        dims, in_channels, vocabulary: its input, as in `ResNetSpec`.
        num_classes: its outputs.
    """

    custom: str
    dims: int
    in_channels: int
    vocabulary: int = 0
    num_classes: int

    @property
    def stages(self) -> tuple[()]:
        """No stages are known: a module is trained and saved as a whole."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CustomSpec:
        """Build a spec from the output of `to_dict`. Raises TypeError for other content."""
        spec = cls(**content)
        numbers = (spec.dims, spec.in_channels, spec.vocabulary, spec.num_classes)
        if not isinstance(spec.custom, str) or not all(type(number) is int for number in numbers):
            raise TypeError("the description of a custom module has values of other types")
        return spec


class CustomNetwork(nn.Module):
    """Gives any module the face of a network: a spec, and a forward pass that takes a mask and returns logits.

    Shapes: as for `ResNet`. The module's forward pass gets a second argument `mask` only where items differ in length.

    Args:
        module: returns logits ``[N, num_classes]``, or an object or mapping with them as ``logits``.
        spec: its input and its number of classes.
    """

    def __init__(self, module: nn.Module, spec: CustomSpec) -> None:
        super().__init__()
        self.module, self.spec = module, spec

    @property
    def takes_mask(self) -> bool:
        """Whether the module's forward pass has an argument `mask`."""
        return "mask" in signature(self.module.forward).parameters

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits ``[N, num_classes]``. Raises UserError for an output of another shape."""
        if mask is not None and not self.takes_mask:
            raise UserError(
                "the module does not take a mask, which items of different lengths need",
                where=f"{self.spec.custom}.forward",
                fix="let it take a second argument `mask`, bool [N, L], True at real positions",
            )
        output = self.module(x) if mask is None else self.module(x, mask=mask)
        logits = output["logits"] if isinstance(output, Mapping) else getattr(output, "logits", output)
        expected = [len(x), self.spec.num_classes]
        if not isinstance(logits, Tensor) or list(logits.shape) != expected:
            what = list(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
            raise UserError(
                f"the module returns {what} where logits {expected} are needed: {self.spec.num_classes} classes",
                where=f"{self.spec.custom}.forward",
                fix="return one logit per class of the data",
            )
        return logits


Network = ResNet | CustomNetwork
"""What is trained, evaluated and saved."""


def device_of(network: Network) -> torch.device:
    """Return the device of a network's parameters."""
    return next(network.parameters()).device


def own_names(state: Mapping[str, Tensor], spec: object) -> dict[str, Tensor]:
    """Return a network's tensors under the names that the module itself gives them, each in memory of its own."""
    if not isinstance(spec, CustomSpec):
        return dict(state)
    return {name.removeprefix("module."): value.detach().clone() for name, value in state.items()}


def load_custom(network: CustomNetwork, state: Mapping[str, Tensor], source: str) -> None:
    """Load the tensors of a file into the module, in place. Raises UserError unless they fit exactly."""
    own = network.module.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    for what, names in (("lack", missing), ("have other shapes for", shapes), ("also hold", unknown)):
        if names:
            raise UserError(
                f"these weights do not fit the module: they {what} {names[0]}"
                + (f" and {len(names) - 1} more" if len(names) > 1 else ""),
                where=source,
                fix=f"pass a module like the one that was trained, a {network.spec.custom}",
            )
    network.module.load_state_dict(dict(state))
