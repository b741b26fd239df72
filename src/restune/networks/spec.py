"""The one configuration a network takes: plain numbers and strings, checked when made."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from restune.core.errors import UserError, did_you_mean

BLOCKS = ("basic", "bottleneck", "triple")
CONVOLUTIONS = ("full", "2+1", "spatial")
DOWNSAMPLINGS = ("stride", "max-pool")
STEMS = ("imagenet", "deep", "small", "none", "clip")
SHORTCUTS = ("A", "B", "C", "D", "norm")
ATTENTIONS = ("none", "se", "eca")
POOLS = ("average", "max", "average+max", "k-max")

MAX_PARAMETERS = 2_000_000_000
"""Twice the largest residual network published (BiT-M R152x4 has 937 million): beyond it, a slip of the keyboard."""
MAX_DEPTH = 10_000

EXPANSION = {"basic": 1, "bottleneck": 4, "triple": 1}
"""How many times wider a block's output is than its `width` (He et al. 2016, section 4.1)."""

USUAL_KERNELS = {"basic": (3, 3), "bottleneck": (1, 3, 1), "triple": (3, 3, 3)}
"""Sizes of a block's convolutions where the stage names none."""


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A run of blocks at one resolution.

    Args:
        block: ``basic`` (two 3x3 convolutions), ``bottleneck`` (1x1, 3x3, 1x1) or ``triple`` (three of one width;
            Wang et al. 2017).
        depth: number of blocks.
        width: channels of the 3x3 convolutions before `groups` and `base_width`; the stage's output has
            ``width * EXPANSION[block]`` channels.
        stride: of the first block.
        dilation: of the 3x3 convolutions; the first block keeps the previous stage's, as in torchvision.
        groups: of a bottleneck's 3x3 convolution (ResNeXt's cardinality).
        base_width: a bottleneck's inner channels are ``int(width * base_width / 64) * groups``.
        kernels: sizes of the block's convolutions in order; (): the block's usual ones. Even ones are for series
            (dims=1), padded by one more at the end, as Keras does.
        conv: of clips (dims=3), ``full`` convolves time and space at once, ``2+1`` first space and then time (Tran
            et al. 2018, "R(2+1)D"), ``spatial`` space alone; the stride then leaves time alone, too.
        downsample: ``stride`` has it in the first block's convolution, ``max-pool`` in a pool before that block
            (Conneau et al. 2017).

    >>> StageSpec(depth=2, width=64).depth
    2
    """

    block: str = "basic"
    depth: int
    width: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    base_width: int = 64
    kernels: tuple[int, ...] = ()
    conv: str = "full"
    downsample: str = "stride"

    def __post_init__(self) -> None:
        _one_of("block", self.block, BLOCKS)
        _one_of("conv", self.conv, CONVOLUTIONS)
        _one_of("downsample", self.downsample, DOWNSAMPLINGS)
        for name in ("depth", "width", "stride", "dilation", "groups", "base_width"):
            _positive(name, getattr(self, name))
        if self.depth > MAX_DEPTH:
            raise UserError(f"a stage has at most {MAX_DEPTH:,} blocks, not {self.depth:,}", where="depth")
        if int(self.width * self.base_width / 64) < 1:
            raise UserError(
                f"width {self.width} with base_width {self.base_width} leaves no channels",
                where="StageSpec",
                fix=f"use a width of at least {-(-64 // self.base_width)}",
            )
        if self.block != "bottleneck" and (self.groups != 1 or self.base_width != 64):
            raise UserError(
                f"{self.block} blocks have no groups or base_width",
                where=f"groups={self.groups}, base_width={self.base_width}",
                fix="use block='bottleneck' with them",
            )
        if self.conv == "2+1" and self.groups != 1:
            raise UserError("2+1 convolutions have no groups", where=f"groups={self.groups}", fix="leave them at 1")
        self._check_kernels()

    def _check_kernels(self) -> None:
        _sizes("kernels", self.kernels)
        if self.kernels and len(self.kernels) != len(USUAL_KERNELS[self.block]):
            raise UserError(
                f"a {self.block} block has {len(USUAL_KERNELS[self.block])} convolutions, not {len(self.kernels)}",
                where=f"kernels={self.kernels}",
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the block's convolutions in order."""
        return self.kernels or USUAL_KERNELS[self.block]

    @property
    def inner_channels(self) -> int:
        """Channels of the 3x3 convolutions: the width, widened by ResNeXt's and Wide ResNet's rules."""
        return int(self.width * self.base_width / 64) * self.groups

    @property
    def out_channels(self) -> int:
        """Channels after each block of this stage."""
        return self.width * EXPANSION[self.block]

    def convolution_parameters(self, inputs: int, dims: int) -> int:
        """Parameters of the convolutions of a block that reads `inputs` channels, its shortcut aside."""
        found, inner = 0, self.inner_channels
        channels = (inputs, *[inner] * (len(self.sizes) - 1), self.out_channels)
        for size, (before, after) in zip(self.sizes, pairwise(channels), strict=True):
            if self.conv == "2+1" and size > 1:
                found += midplanes(inputs, inner, size) * (before * size**2 + after * size)
            else:
                groups = self.groups if self.block == "bottleneck" and before == after == inner else 1
                found += before // groups * after * size ** (2 if self.conv == "spatial" else dims)
        return found


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """Everything that decides a residual network's structure.

    Args:
        dims: 1 for series ``[N, C, L]``, 2 for images ``[N, C, H, W]``, 3 for clips ``[N, C, T, H, W]``.
        in_channels: C of the input; with a `vocabulary` the width of the embedding.
        vocabulary: number of tokens that a text network embeds, counting 0, the padding; 0: the input is numbers.
        embedding_dropout: on the embedded tokens.
        stem: ``imagenet`` (7x7 stride 2, max pool), ``deep`` (three 3x3, the first of stride 2, max pool;
            He et al. 2019), ``small`` (3x3 stride 1, no pool: for inputs of 64 pixels or fewer), ``clip`` (dims=3:
            3x7x7, stride 2 in space, no pool; in two steps where the first stage is ``2+1``; Tran et al. 2018) or
            ``none`` (the stages read the input).
        stem_width: channels after the stem; not read where there is none.
        stages: from high to low resolution; three or four are usual, any number works.
        shortcut: where shapes change, ``A`` slices and pads zeros (no parameters), ``B`` projects by a
            1x1 convolution, ``D`` averages first, then projects; ``C`` projects in every block; ``norm`` is B,
            with a batch norm where shapes agree (Wang et al. 2017's code).
        preact: norm and activation before each convolution (He et al. 2016, "Identity Mappings").
        attention: ``se`` (Hu et al. 2018) or ``eca`` (Wang et al. 2020) on each residual branch.
        drop_path: stochastic depth's rate at the last block, rising linearly from 0 (Huang et al. 2016).
        residual: False gives the plain twin: the same layers with no shortcuts.
        pool: what is left of all positions: their ``average``, their ``max``, both side by side (``average+max``)
            or the `k_max` largest of each channel in order of position (``k-max``; Kalchbrenner et al. 2014).
        k_max: how many ``k-max`` keeps; not read by other pools.
        hidden: widths of linear layers with ReLU between the pool and the head.
        num_classes: rows of the head.
        dropout: before the head, and between hidden layers.
        zero_init_residual: start each branch's last norm at 0, so that blocks begin as identities
            (Goyal et al. 2017, section 5.1). Not for plain networks, which would then output zeros, nor for
            `preact`, whose branches end in a convolution.

    >>> spec = restune.create_model("resnet50").spec
    >>> [stage.depth for stage in spec.stages]
    [3, 4, 6, 3]
    >>> spec.override(num_classes=10, stem="small").num_classes
    10
    """

    dims: int = 2
    in_channels: int = 3
    vocabulary: int = 0
    embedding_dropout: float = 0.0
    stem: str = "imagenet"
    stem_width: int = 64
    stages: tuple[StageSpec, ...]
    shortcut: str = "B"
    preact: bool = False
    attention: str = "none"
    drop_path: float = 0.0
    residual: bool = True
    pool: str = "average"
    k_max: int = 8
    hidden: tuple[int, ...] = ()
    num_classes: int = 1000
    dropout: float = 0.0
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        if self.dims not in (1, 2, 3):
            raise UserError(f"dims must be 1, 2 or 3, not {self.dims!r}", where="ResNetSpec.dims")
        _one_of("stem", self.stem, STEMS)
        _one_of("shortcut", self.shortcut, SHORTCUTS)
        _one_of("attention", self.attention, ATTENTIONS)
        _one_of("pool", self.pool, POOLS)
        for name in ("in_channels", "stem_width", "num_classes", "k_max"):
            _positive(name, getattr(self, name))
        for name in ("drop_path", "dropout", "embedding_dropout"):
            _rate(name, getattr(self, name))
        _sizes("hidden", self.hidden)
        if not self.stages or not all(isinstance(stage, StageSpec) for stage in self.stages):
            raise UserError("a network needs at least one stage", where="ResNetSpec.stages")
        self._check_combinations()
        self._check_dimensions()
        if self._least_parameters() > MAX_PARAMETERS:
            raise UserError(
                f"this network would have more than {MAX_PARAMETERS:,} parameters",
                where="ResNetSpec",
                fix="use a smaller width, fewer blocks, or fewer classes",
            )

    def _check_combinations(self) -> None:
        """Settings that contradict each other are named."""
        if self.zero_init_residual and (self.preact or not self.residual):
            kind = "pre-activation" if self.preact else "plain"
            raise UserError(
                f"zero_init_residual makes no sense for a {kind} network",
                where="ResNetSpec.zero_init_residual",
                fix="leave it off",
            )
        if self.drop_path and not self.residual:
            raise UserError(
                "drop_path drops residual branches, and a plain network has none",
                where="ResNetSpec.drop_path",
                fix="leave it at 0",
            )
        if self.preact:
            forbidden = {
                "triple blocks": any(stage.block == "triple" for stage in self.stages),
                "shortcut='norm'": self.shortcut == "norm",
                "stem='none'": self.stem == "none",
            }
            if found := [what for what, there in forbidden.items() if there]:
                raise UserError(f"{found[0]} and pre-activation do not go together", where="ResNetSpec.preact")

    def _check_dimensions(self) -> None:
        """What only series, or only clips, have."""
        if not isinstance(self.vocabulary, int) or isinstance(self.vocabulary, bool) or self.vocabulary < 0:
            raise UserError(
                f"vocabulary must be a whole number, not {_shown(self.vocabulary)}", where="ResNetSpec.vocabulary"
            )
        if self.vocabulary == 1:
            raise UserError("a vocabulary has the padding and at least one token", where="ResNetSpec.vocabulary")
        if self.vocabulary and self.dims != 1:
            raise UserError("tokens stand in a row: a vocabulary needs dims=1", where=f"dims={self.dims}")
        if self.embedding_dropout and not self.vocabulary:
            raise UserError(
                "there is no embedding to drop from", where="ResNetSpec.embedding_dropout", fix="leave it at 0"
            )
        if self.stem == "clip" and self.dims != 3:
            raise UserError("stem='clip' is for clips, dims=3", where=f"dims={self.dims}")
        even = [size for stage in self.stages for size in stage.sizes if size % 2 == 0]
        if even and self.dims != 1:
            raise UserError(
                f"convolutions of even size are for series, dims=1, not of size {even[0]}", where=f"dims={self.dims}"
            )
        convolutions = {stage.conv for stage in self.stages} - {"full"}
        if convolutions and self.dims != 3:
            raise UserError(f"conv={min(convolutions)!r} is for clips, dims=3", where=f"dims={self.dims}")

    def _least_parameters(self) -> int:
        """No more than there are: the blocks' convolutions, the first layer, the embedding, the linear layers."""
        found, channels = self.vocabulary * self.in_channels, self.stem_channels
        if self.stem != "none":
            found += self.in_channels * self.stem_width
        for stage in self.stages:
            found += stage.convolution_parameters(channels, self.dims)
            found += (stage.depth - 1) * stage.convolution_parameters(stage.out_channels, self.dims)
            channels = stage.out_channels
        widths = (self.pooled_features, *self.hidden, self.num_classes)
        return found + sum(before * after for before, after in pairwise(widths))

    @property
    def stem_channels(self) -> int:
        """Channels that the first stage reads."""
        return self.in_channels if self.stem == "none" else self.stem_width

    @property
    def pooled_features(self) -> int:
        """Numbers that the pool leaves of an input."""
        return self.stages[-1].out_channels * {"average+max": 2, "k-max": self.k_max}.get(self.pool, 1)

    @property
    def num_features(self) -> int:
        """Numbers that the head reads."""
        return self.hidden[-1] if self.hidden else self.pooled_features

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings; `from_dict` is its inverse."""
        content = asdict(self)
        content["stages"] = [{**stage, "kernels": list(stage["kernels"])} for stage in content["stages"]]
        content["hidden"] = list(content["hidden"])
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ResNetSpec:
        """The spec that `to_dict` described. Raises UserError on unknown keys and wrong types."""
        return cls(**_checked(cls, content))

    def override(self, **changes: Any) -> ResNetSpec:
        """A copy with fields changed; shorthands apply to all stages.

        Shorthands: `depths` (one number a stage; more or fewer stages than now are added with doubled width
        and stride 2, or cut), `width` (of the first stage; later stages and the stem keep their ratio to it),
        `block`, `groups`, `base_width`, `kernels`, `conv`, `downsample`.

        Raises UserError for a name that is neither a field nor a shorthand.
        """
        if not changes.get("residual", True):  # whose blocks cannot begin as identities
            changes.setdefault("zero_init_residual", False)
        stages = self.stages
        if (depths := changes.pop("depths", None)) is not None:
            stages = _with_depths(stages, depths)
        if (width := changes.pop("width", None)) is not None:
            _positive("width", width)
            first = stages[0].width
            stages = tuple(replace(stage, width=_scaled(stage.width, width, first)) for stage in stages)
            changes.setdefault("stem_width", _scaled(self.stem_width, width, first))
        kinds = {field.name: str(field.type) for field in fields(StageSpec)}
        every_stage = {
            name: _coerced(name, changes.pop(name), kinds[name]) for name in _OF_ALL_STAGES if name in changes
        }
        if every_stage:
            stages = tuple(replace(stage, **every_stage) for stage in stages)
        return replace(self, **_checked(type(self), {"stages": stages, **changes}))


def same_structure(one: ResNetSpec, other: ResNetSpec) -> bool:
    """Whether weights of one network mean the same in the other: all but head, input channels and training aids."""
    aside: dict[str, Any] = {"num_classes": 1, "dropout": 0.0, "drop_path": 0.0, "zero_init_residual": False}
    aside["embedding_dropout"] = 0.0
    if not one.vocabulary:
        aside["in_channels"] = 1
    if one.stem == other.stem == "none":
        aside["stem_width"] = 1
    return replace(one, **aside) == replace(other, **aside)


_OF_ALL_STAGES = ("block", "groups", "base_width", "kernels", "conv", "downsample")
SHORTHANDS = ("depths", "width", *_OF_ALL_STAGES)


def midplanes(inputs: int, outputs: int, size: int) -> int:
    """Channels between the two steps of a 2+1 convolution, so that it has as many parameters as the full one (Tran
    et al. 2018, section 3.5)."""
    return max(1, inputs * outputs * size**3 // (inputs * size**2 + outputs * size))


def _with_depths(stages: tuple[StageSpec, ...], depths: Any) -> tuple[StageSpec, ...]:
    if not isinstance(depths, list | tuple) or not depths:
        raise UserError(f"depths must have one number a stage, not {depths!r}", where="depths")
    made: list[StageSpec] = []
    for position, depth in enumerate(depths):
        if position < len(stages):
            made.append(replace(stages[position], depth=depth))
        else:
            made.append(replace(made[-1], depth=depth, width=made[-1].width * 2, stride=2))
    return tuple(made)


def _scaled(value: int, width: int, first: int) -> int:
    return max(1, round(value * width / first))


def _checked(cls: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` when each key is a field of `cls` and each value of the field's kind; UserError otherwise."""
    if not isinstance(content, Mapping):
        raise UserError(f"expected a mapping, not {type(content).__name__}", where=cls.__name__)
    kinds = {field.name: str(field.type) for field in fields(cls)}
    needed = [field.name for field in fields(cls) if field.default is MISSING and field.name not in content]
    if needed:
        raise UserError(f"{needed[0]!r} is missing", where=cls.__name__)
    checked: dict[str, Any] = {}
    for name, value in content.items():
        if name not in kinds:
            known = [*kinds, *(SHORTHANDS if cls is ResNetSpec else ())]
            raise UserError(
                f"{name!r} is not a setting of a network",
                where=cls.__name__,
                fix=did_you_mean(str(name), known) or f"the settings are {', '.join(known)}",
            )
        checked[name] = _coerced(f"{cls.__name__}.{name}", value, kinds[name])
    return checked


def _coerced(where: str, value: Any, kind: str) -> Any:
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == "tuple[StageSpec, ...]":
        if not isinstance(value, list | tuple):
            raise UserError("stages must be a list", where=where)
        return tuple(
            stage if isinstance(stage, StageSpec) else StageSpec(**_checked(StageSpec, stage)) for stage in value
        )
    if kind == "tuple[int, ...]":
        if not isinstance(value, list | tuple):
            raise UserError(f"expected a list of whole numbers, not {_shown(value)}", where=where)
        return tuple(value)
    wanted = {"int": int, "float": float, "bool": bool, "str": str}.get(kind)
    if wanted is not None and (type(value) is not wanted):
        raise UserError(f"expected {kind}, not {_shown(value)}", where=where)
    return value


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise UserError(f"unknown {name} {value!r}", where=name, fix=hint or f"one of {', '.join(choices)}")


def _positive(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, not {_shown(value)}", where=name)
    if value >= 2**31:
        raise UserError(f"{name} is far too large: {_shown(value)}", where=name)


def _sizes(name: str, values: Any) -> None:
    if not isinstance(values, tuple):
        raise UserError(f"{name} must be a tuple of whole numbers, not {_shown(values)}", where=name)
    for value in values:
        _positive(name, value)


def _shown(value: Any) -> str:
    """A value as a message quotes it: not all of a thousand digits, nor of lists in lists."""
    return reprlib.repr(value)


def _rate(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise UserError(f"{name} must be at least 0 and below 1, not {value!r}", where=name)
