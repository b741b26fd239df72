"""What a network is made of, measured on it: shapes, parameters and operations, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec


@dataclass(frozen=True, kw_only=True)
class Part:
    """One row of a description.

    Args:
        name: ``stem``, ``stage1``, ..., ``head``.
        role: what it does, in a few words.
        shape: of its output for one input, without the batch.
        parameters: trainable numbers in it.
        flops: multiply-adds for one input; one multiply-add counts as one, as in the papers and in torchvision.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """A network's parts, and their sums."""

    input_shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """All trainable numbers."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Multiply-adds of one forward pass of one input."""
        return sum(part.flops for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A network of the zoo: its description and where weights for it are published."""

    name: str
    source: str
    image_size: int
    weights: tuple[str, ...]
    description: Description

    def to_dict(self) -> dict[str, Any]:
        """What ``restune models --json`` prints of it."""
        return {
            "name": self.name,
            "source": self.source,
            "image_size": self.image_size,
            "parameters": self.description.parameters,
            "flops": self.description.flops,
            "weights": list(self.weights),
            "parts": [{**part.__dict__, "shape": list(part.shape)} for part in self.description.parts],
        }


def describe(spec: ResNetSpec, size: int) -> Description:
    """Run a weightless copy of the network on one input of `size` positions a side and note what passes by."""
    with torch.device("meta"):
        model = ResNet(spec).eval()
        x = torch.empty(1, spec.in_channels, *[size] * spec.dims)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = _unchanged  # type: ignore[method-assign]  # keeps shapes; meta norms are slow
    operations = _count_operations(model)
    stages = model.stages()
    with torch.no_grad():
        outputs = model.forward_stages(x)
    stem = [model.conv1, model.bn1, model.maxpool]
    parts = [_part("stem", _STEM_ROLES[spec.stem], outputs["stem"], stem, operations)]
    for number, (stage, plan) in enumerate(zip(stages, spec.stages, strict=True), start=1):
        noun = "block" if plan.depth == 1 else "blocks"
        role = f"{plan.depth} {plan.block} {noun}, {plan.out_channels} channels"
        role += f", stride {plan.stride}" if plan.stride > 1 else ""
        parts.append(_part(f"stage{number}", role, outputs[f"stage{number}"], [stage], operations))
    role = f"global average, {spec.num_features} features to {spec.num_classes} classes"
    parts.append(_part("head", role, outputs["logits"], [model.norm, model.fc], operations))
    return Description(input_shape=tuple(x.shape[1:]), parts=tuple(parts))


def _unchanged(input: Tensor) -> Tensor:
    return input


_STEM_ROLES = {
    "imagenet": "7x7 convolution, stride 2; max pool, stride 2",
    "deep": "three 3x3 convolutions, stride 2; max pool, stride 2",
    "small": "3x3 convolution, full resolution",
}


def _part(name: str, role: str, output: Tensor, modules: list[nn.Module], operations: dict[nn.Module, int]) -> Part:
    return Part(
        name=name,
        role=role,
        shape=tuple(output.shape[1:]),
        parameters=sum(p.numel() for module in modules for p in module.parameters()),
        flops=sum(operations.get(leaf, 0) for module in modules for leaf in module.modules()),
    )


def _count_operations(model: nn.Module) -> dict[nn.Module, int]:
    """A dictionary that a forward pass fills: multiply-adds of each convolution and linear layer."""
    counted: dict[nn.Module, int] = {}

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        per_output = weight[0].numel()  # inputs one output number is made from
        counted[module] = per_output * output.numel()

    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    return counted
