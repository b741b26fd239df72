"""Describe a network part by part, from one run on the meta device: layers, shortcuts, shapes, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from restune.networks.blocks import Block as NetworkBlock
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec, StageSpec
from restune.networks.structure import Block, Description, Fork, Layer, ModelInfo, Part
from restune.networks.trace import Recorder, Step, kind_of_step
from restune.networks.zoo import ZooEntry

__all__ = ["Description", "ModelInfo", "Part", "describe", "describe_entry", "describe_network"]


def describe(spec: ResNetSpec, size: int | tuple[int, ...]) -> Description:
    """Build the network on the meta device, without weights, and describe it.

    Args:
        spec: the network's spec.
        size: the input's size: one value for all axes, or one per axis: (height, width), (frames, height, width),
            (length,).
    """
    with torch.device("meta"):
        model = ResNet(spec).eval()
    return describe_network(model, (size,) * spec.dims if isinstance(size, int) else size)


def describe_network(model: ResNet, positions: tuple[int, ...]) -> Description:
    """Describe a network on the meta device, in eval mode, by running it on one input of this size per axis."""
    spec = model.spec
    channels = () if spec.vocabulary else (spec.in_channels,)
    with torch.device("meta"):
        x = torch.empty(1, *channels, *positions, dtype=torch.int64 if spec.vocabulary else torch.float32)
    stages = model.stages()
    blocks = {id(block) for stage in stages for block in stage}

    def is_container(module: nn.Module) -> bool:
        return isinstance(module, nn.Sequential | ResNet | NetworkBlock) or id(module) in blocks

    recorder = Recorder(is_container)
    recorder.begin(x, spec.dims)
    with torch.no_grad(), recorder.watching(model):
        outputs = model.forward_stages(x)
    parts = _Parts(model, recorder)
    described = [parts.stem(outputs["stem"])]
    for number, (stage, plan) in enumerate(zip(stages, spec.stages, strict=True), start=1):
        described.append(parts.stage(f"stage{number}", stage, plan, outputs[f"stage{number}"]))
    described.append(parts.head(outputs["logits"]))
    return Description(
        input_shape=tuple(x.shape[1:]),
        parts=tuple(described),
        sees_everything=recorder.window(outputs[f"stage{len(stages)}"]).everything,
    )


def describe_entry(entry: ZooEntry, size: int | None = None, spec: ResNetSpec | None = None) -> Description:
    """Describe a zoo network on its own input or another side or length; `spec` replaces the network's own spec."""
    spec = spec or entry.spec
    shape = entry.input_shape(size)
    return describe(spec, shape[-spec.dims :] if spec.dims == entry.spec.dims else shape[-1])


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


@dataclass
class _Parts:
    """Turns recorded steps into parts."""

    model: ResNet
    recorder: Recorder
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = {id(module): name for name, module in self.model.named_modules()}

    def stem(self, output: Tensor) -> Part:
        """Describe everything before the first stage."""
        layers = [self._layer(step, "") for step in self._outside_stages() if step.number <= self._last(output)]
        modules = self.model.parts_below(0)
        return _part("stem", _stem_role(self.model.spec), output, modules, layers, self._extent(output))

    def stage(self, name: str, stage: nn.Sequential, plan: StageSpec, output: Tensor) -> Part:
        """Describe a stage, block by block."""
        blocks = [self._block(block) for block in stage]
        part = _part(name, _stage_role(plan), output, [stage], [], self._extent(output))
        return replace(
            part,
            blocks=tuple(blocks),
            flops=sum(block.flops for block in blocks),
            activations=sum(block.activations for block in blocks),
        )

    def head(self, logits: Tensor) -> Part:
        """Describe everything after the last stage: the functions of the pool are one layer."""
        spec, stages = self.model.spec, self.model.stages()
        after = self._last(self.recorder.calls[self.names[id(stages[-1][-1])]][1])
        layers: list[Layer] = []
        for step in self._outside_stages():
            if step.number <= after:
                continue
            layer = self._layer(step, "")
            if step.module is None and layer.kind != "activation":
                layer = replace(layer, kind="pool", label=spec.pool)
                if layers and layers[-1].label == spec.pool:
                    layers.pop()
            layers.append(layer)
        modules = [self.model.norm, self.model.hidden, self.model.fc]
        return _part("head", _head_role(spec), logits, modules, layers, ())

    def _block(self, block: nn.Module) -> Block:
        name = self.names[id(block)]
        given, output = self.recorder.calls[name]
        steps = [step for step in self.recorder.steps if step.place and name in step.place]
        items = tuple(self._items(steps, name, self.recorder.origin(given), self._last(output)))
        return Block(
            name=name,
            label=type(block).__name__,
            items=items,
            input_shape=tuple(given.shape[1:]),
            shape=tuple(output.shape[1:]),
            parameters=sum(p.numel() for p in block.parameters()),
            flops=sum(step.flops for step in steps),
            activations=sum(step.activations for step in steps),
            receptive_field=self._extent(output),
        )

    def _items(self, steps: Sequence[Step], name: str, start: int, end: int) -> list[Layer | Fork]:
        """Follow the data from the block's output back to its input; a sum of two paths is a fork."""
        by_number = {step.number: step for step in steps}
        paths = _Paths(by_number)
        items: list[Layer | Fork] = []
        at = end
        while at != start and at in by_number:
            step = by_number[at]
            if kind_of_step(step) == "sum" and (fork := paths.fork(step, start)) is not None:
                branch, shortcut, at = fork
                items.append(self._fork(branch, shortcut, at, name))
            elif len(step.parents) == 1:
                items.append(self._layer(step, name))
                (at,) = step.parents
            else:  # another shape than a branch with a shortcut: the layers in order of execution
                return [self._layer(step, name) for step in steps]
        return items[::-1]

    def _fork(self, branch: list[Step], shortcut: list[Step], common: int, name: str) -> Fork:
        taken, around = ([self._layer(step, name) for step in path] for path in (branch, shortcut))
        before = next((tuple(x.shape[1:]) for x in self.recorder.made_by(common)), ())
        return Fork(branch=tuple(taken), shortcut=tuple(around), kind=_shortcut_kind(around, before))

    def _layer(self, step: Step, within: str) -> Layer:
        own = step.place[-1].removeprefix(f"{within}.") if step.module is not None else ""
        return Layer(
            name=own,
            kind=kind_of_step(step),
            label=type(step.module).__name__ if step.module is not None else step.function.rstrip("_"),
            shape=step.shape,
            parameters=sum(p.numel() for p in step.module.parameters()) if step.module is not None else 0,
            flops=step.flops,
            activations=step.activations,
            kernel=step.kernel,
            stride=step.stride,
            dilation=step.dilation,
            groups=step.groups,
        )

    def _outside_stages(self) -> list[Step]:
        blocks = {self.names[id(block)] for stage in self.model.stages() for block in stage}
        return [step for step in self.recorder.steps if not blocks & set(step.place)]

    def _last(self, output: Tensor) -> int:
        return self.recorder.origin(output)

    def _extent(self, output: Tensor) -> tuple[int, ...]:
        return self.recorder.window(output).extent


@dataclass(frozen=True)
class _Paths:
    """Paths through a block's steps."""

    steps: dict[int, Step]

    def fork(self, total: Step, start: int) -> tuple[list[Step], list[Step], int] | None:
        """Return branch, shortcut and where they part, for a sum of two straight paths; None for any other sum."""
        if len(total.parents) != 2:
            return None
        one, two = (self._back(parent, start) for parent in sorted(total.parents))
        common = next((number for number in one if number in two), None)
        if common is None:
            return None
        paths = [[self.steps[number] for number in path[: path.index(common)][::-1]] for path in (one, two)]
        shortcut, branch = sorted(paths, key=_likely_shortcut)
        return branch, shortcut, common

    def _back(self, number: int, start: int) -> list[int]:
        """Return the steps from here back to the start, or to one that reads two others."""
        path = [number]
        while number != start and number in self.steps and len(self.steps[number].parents) == 1:
            (number,) = self.steps[number].parents
            path.append(number)
        return path


def _likely_shortcut(path: list[Step]) -> tuple[bool, int]:
    """Order paths so that the shortcut comes first: the one named `downsample`, else the one of fewer layers."""
    return not any(step.place and "downsample" in step.place[-1] for step in path), len(path)


def _shortcut_kind(layers: Sequence[Layer], given: tuple[int, ...]) -> str:
    """Name a shortcut by its layers and the shape of its input."""
    kinds = [layer.kind for layer in layers]
    weighted = [kind for kind in kinds if kind != "norm"]
    if not kinds:
        return "identity"
    if weighted == ["zeros"]:
        return "A"
    if weighted == ["conv"]:
        return "C" if layers[-1].shape == given else "projection"
    if weighted == ["pool", "conv"]:
        return "D"
    return "norm" if not weighted else "other"


def _part(
    name: str, role: str, output: Tensor, modules: Sequence[nn.Module], layers: Sequence[Layer], extent: tuple[int, ...]
) -> Part:
    return Part(
        name=name,
        role=role,
        shape=tuple(output.shape[1:]),
        parameters=sum(p.numel() for module in modules for p in module.parameters()),
        flops=sum(layer.flops for layer in layers),
        activations=sum(layer.activations for layer in layers),
        receptive_field=extent,
        layers=tuple(layers),
    )
