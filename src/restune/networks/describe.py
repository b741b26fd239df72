"""Describe a network part by part: output shapes, parameters and multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec, StageSpec
from restune.networks.zoo import ZooEntry


@dataclass(frozen=True, kw_only=True)
class Part:
    """One row of a description.

    Args:
        name: ``stem``, ``stage1``, ..., ``head``.
        role: what it does, in a few words.
        shape: shape of its output for one input, without the batch.
        parameters: number of parameters.
        flops: multiply-adds for one input; one multiply-add counts as one, as in the papers and in torchvision.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """A network's parts and their totals."""

    input_shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """Total number of parameters."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Total multiply-adds of one forward pass on one input."""
        return sum(part.flops for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A network of the zoo: its description and the names of its published weights."""

    name: str
    kind: str
    source: str
    image_size: int | None
    weights: tuple[str, ...]
    description: Description

    def to_dict(self) -> dict[str, Any]:
        """Return its entry in ``restune models --json``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "image_size": self.image_size,
            "input": list(self.description.input_shape),
            "parameters": self.description.parameters,
            "flops": self.description.flops,
            "weights": list(self.weights),
            "parts": [{**part.__dict__, "shape": list(part.shape)} for part in self.description.parts],
        }


def describe(spec: ResNetSpec, size: int | tuple[int, ...]) -> Description:
    """Run the network on the meta device, without weights, and record shapes and multiply-adds.

    Args:
        spec: the network's spec.
        size: the input's size: one value for all axes, or one per axis: (height, width), (frames, height, width),
            (length,).
    """
    with torch.device("meta"):
        model = ResNet(spec).eval()
        positions = (size,) * spec.dims if isinstance(size, int) else size
        channels = () if spec.vocabulary else (spec.in_channels,)
        x = torch.empty(1, *channels, *positions, dtype=torch.int64 if spec.vocabulary else torch.float32)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm):
            module.forward = _unchanged  # type: ignore[method-assign]  # keeps shapes; meta norms are slow
    operations = _count_operations(model)
    with torch.no_grad():
        outputs = model.forward_stages(x)
    stem = model.parts_below(0)
    parts = [_part("stem", _stem_role(spec), outputs["stem"], stem, operations)]
    for number, (stage, plan) in enumerate(zip(model.stages(), spec.stages, strict=True), start=1):
        parts.append(_part(f"stage{number}", _stage_role(plan), outputs[f"stage{number}"], [stage], operations))
    head = [model.norm, model.hidden, model.fc]
    parts.append(_part("head", _head_role(spec), outputs["logits"], head, operations))
    return Description(input_shape=tuple(x.shape[1:]), parts=tuple(parts))


def describe_entry(entry: ZooEntry, size: int | None = None, spec: ResNetSpec | None = None) -> Description:
    """Describe a zoo network on its own input or another side or length; `spec` replaces the network's own spec."""
    spec = spec or entry.spec
    shape = entry.input_shape(size)
    return describe(spec, shape[-spec.dims :] if spec.dims == entry.spec.dims else shape[-1])


def _unchanged(input: Tensor) -> Tensor:
    return input


def _stem_role(spec: ResNetSpec) -> str:
    seven, three = (f"{size}-wide" if spec.dims == 1 else "x".join([str(size)] * spec.dims) for size in (7, 3))
    role = {
        "imagenet": f"{seven} convolution, stride 2; max pool, stride 2",
        "deep": f"three {three} convolutions, stride 2; max pool, stride 2",
        "small": f"{three} convolution, full resolution",
        "clip": "3x7x7 convolution, stride 2 in space",
        "none": "none: the stages read the input",
    }[spec.stem]
    if spec.norm == "group":
        role += f"; group norm ({spec.norm_groups} groups) in all layers"
    if spec.act != "relu":
        role += f"; {spec.act} in all layers"
    if not spec.vocabulary:
        return role
    embedding = f"embedding of {spec.vocabulary} tokens in {spec.in_channels} channels"
    return embedding if spec.stem == "none" else f"{embedding}; {role}"


def _stage_role(stage: StageSpec) -> str:
    role = f"{stage.depth} {stage.block} {'block' if stage.depth == 1 else 'blocks'}, {stage.out_channels} channels"
    role += f", kernels {', '.join(map(str, stage.kernels))}" if stage.kernels else ""
    role += {"full": "", "2+1": ", space then time", "spatial": ", space only"}[stage.conv]
    role += f", dilation {stage.dilation}" if stage.dilation > 1 else ""
    if stage.stride == 1:
        return role
    return role + f", {'max pool, ' if stage.downsample == 'max-pool' else ''}stride {stage.stride}"


def _head_role(spec: ResNetSpec) -> str:
    pools = {"k-max": f"{spec.k_max} largest per channel", "average+max": "global average and maximum"}
    pool = pools.get(spec.pool, f"global {spec.pool.replace('max', 'maximum')}")
    widths = " to ".join(str(width) for width in (spec.pooled_features, *spec.hidden))
    return f"{pool}, {widths} features to {spec.num_classes} classes"


def _part(name: str, role: str, output: Tensor, modules: list[nn.Module], operations: dict[nn.Module, int]) -> Part:
    return Part(
        name=name,
        role=role,
        shape=tuple(output.shape[1:]),
        parameters=sum(p.numel() for module in modules for p in module.parameters()),
        flops=sum(operations.get(leaf, 0) for module in modules for leaf in module.modules()),
    )


def _count_operations(model: nn.Module) -> dict[nn.Module, int]:
    """Return a dictionary that the next forward pass fills: multiply-adds of each convolution and linear layer."""
    counted: dict[nn.Module, int] = {}

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        per_output = weight[0].numel()  # multiply-adds per output value
        counted[module] = per_output * output.numel()

    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    return counted
