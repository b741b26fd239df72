"""The one configuration a network takes: plain numbers and strings, checked when made."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from restune.core.errors import UserError, did_you_mean

BLOCKS = ("basic", "bottleneck")
STEMS = ("imagenet", "deep", "small")
SHORTCUTS = ("A", "B", "C", "D")
ATTENTIONS = ("none", "se", "eca")

MAX_PARAMETERS = 2_000_000_000
"""Twice the largest residual network published (BiT-M R152x4 has 937 million): beyond it, a slip of the keyboard."""
MAX_DEPTH = 10_000

EXPANSION = {"basic": 1, "bottleneck": 4}
"""How many times wider a block's output is than its `width` (He et al. 2016, section 4.1)."""


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A run of blocks at one resolution.

    Args:
        block: ``basic`` (two 3x3 convolutions) or ``bottleneck`` (1x1, 3x3, 1x1).
        depth: number of blocks.
        width: channels of the 3x3 convolutions before `groups` and `base_width`; the stage's output has
            ``width * EXPANSION[block]`` channels.
        stride: of the first block.
        dilation: of the 3x3 convolutions; the first block keeps the previous stage's, as in torchvision.
        groups: of a bottleneck's 3x3 convolution (ResNeXt's cardinality).
        base_width: a bottleneck's inner channels are ``int(width * base_width / 64) * groups``.
    """

    block: str = "basic"
    depth: int
    width: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    base_width: int = 64

    def __post_init__(self) -> None:
        _one_of("block", self.block, BLOCKS)
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
        if self.block == "basic" and (self.groups != 1 or self.base_width != 64):
            raise UserError(
                "basic blocks have no groups or base_width",
                where=f"groups={self.groups}, base_width={self.base_width}",
                fix="use block='bottleneck' with them",
            )

    @property
    def out_channels(self) -> int:
        """Channels after each block of this stage."""
        return self.width * EXPANSION[self.block]


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """Everything that decides a residual network's structure.

    Args:
        dims: 1 for series ``[N, C, L]``, 2 for images ``[N, C, H, W]``, 3 for clips ``[N, C, T, H, W]``.
        in_channels: C of the input.
        stem: ``imagenet`` (7x7 stride 2, max pool), ``deep`` (three 3x3, the first of stride 2, max pool;
            He et al. 2019) or ``small`` (3x3 stride 1, no pool: for inputs of 64 pixels or fewer).
        stem_width: channels after the stem.
        stages: from high to low resolution; three or four are usual, any number works.
        shortcut: where shapes change, ``A`` slices and pads zeros (no parameters), ``B`` projects by a
            1x1 convolution, ``D`` averages first, then projects; ``C`` projects in every block.
        preact: norm and activation before each convolution (He et al. 2016, "Identity Mappings").
        attention: ``se`` (Hu et al. 2018) or ``eca`` (Wang et al. 2020) on each residual branch.
        drop_path: stochastic depth's rate at the last block, rising linearly from 0 (Huang et al. 2016).
        residual: False gives the plain twin: the same layers with no shortcuts.
        num_classes: rows of the head.
        dropout: before the head.
        zero_init_residual: start each branch's last norm at 0, so that blocks begin as identities
            (Goyal et al. 2017, section 5.1). Not for plain networks, which would then output zeros, nor for
            `preact`, whose branches end in a convolution.
    """

    dims: int = 2
    in_channels: int = 3
    stem: str = "imagenet"
    stem_width: int = 64
    stages: tuple[StageSpec, ...]
    shortcut: str = "B"
    preact: bool = False
    attention: str = "none"
    drop_path: float = 0.0
    residual: bool = True
    num_classes: int = 1000
    dropout: float = 0.0
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        if self.dims not in (1, 2, 3):
            raise UserError(f"dims must be 1, 2 or 3, not {self.dims!r}", where="ResNetSpec.dims")
        _one_of("stem", self.stem, STEMS)
        _one_of("shortcut", self.shortcut, SHORTCUTS)
        _one_of("attention", self.attention, ATTENTIONS)
        for name in ("in_channels", "stem_width", "num_classes"):
            _positive(name, getattr(self, name))
        for name in ("drop_path", "dropout"):
            _rate(name, getattr(self, name))
        if not self.stages or not all(isinstance(stage, StageSpec) for stage in self.stages):
            raise UserError("a network needs at least one stage", where="ResNetSpec.stages")
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

        if self._least_parameters() > MAX_PARAMETERS:
            raise UserError(
                f"this network would have more than {MAX_PARAMETERS:,} parameters",
                where="ResNetSpec",
                fix="use a smaller width, fewer blocks, or fewer classes",
            )

    def _least_parameters(self) -> int:
        """No more than there are: the blocks' 3x3 convolutions, the first layer's and the head's."""
        blocks = 0
        for stage in self.stages:
            inner = int(stage.width * stage.base_width / 64)  # channels of a group
            blocks += stage.depth * 3**self.dims * inner**2 * stage.groups
        return blocks + self.in_channels * self.stem_width + self.num_classes * self.num_features

    @property
    def num_features(self) -> int:
        """Channels after the last stage, which the head reads."""
        return self.stages[-1].out_channels

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings; `from_dict` is its inverse."""
        content = asdict(self)
        content["stages"] = [dict(stage) for stage in content["stages"]]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ResNetSpec:
        """The spec that `to_dict` described. Raises UserError on unknown keys and wrong types."""
        return cls(**_checked(cls, content))

    def override(self, **changes: Any) -> ResNetSpec:
        """A copy with fields changed; shorthands apply to all stages.

        Shorthands: `depths` (one number a stage; more or fewer stages than now are added with doubled width
        and stride 2, or cut), `width` (of the first stage; later stages and the stem keep their ratio to it),
        `block`, `groups`, `base_width`.

        Raises UserError for a name that is neither a field nor a shorthand.
        """
        stages = self.stages
        if (depths := changes.pop("depths", None)) is not None:
            stages = _with_depths(stages, depths)
        if (width := changes.pop("width", None)) is not None:
            _positive("width", width)
            first = stages[0].width
            stages = tuple(replace(stage, width=_scaled(stage.width, width, first)) for stage in stages)
            changes.setdefault("stem_width", _scaled(self.stem_width, width, first))
        every_stage = {name: changes.pop(name) for name in ("block", "groups", "base_width") if name in changes}
        if every_stage:
            stages = tuple(replace(stage, **every_stage) for stage in stages)
        return replace(self, **_checked(type(self), {"stages": stages, **changes}))


def same_structure(one: ResNetSpec, other: ResNetSpec) -> bool:
    """Whether weights of one network mean the same in the other: all but head, input channels and training aids."""
    aside = {"num_classes": 1, "in_channels": 1, "dropout": 0.0, "drop_path": 0.0, "zero_init_residual": False}
    return replace(one, **aside) == replace(other, **aside)  # type: ignore[arg-type]


SHORTHANDS = ("depths", "width", "block", "groups", "base_width")


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


def _shown(value: Any) -> str:
    """A value as a message quotes it: not all of a thousand digits, nor of lists in lists."""
    return reprlib.repr(value)


def _rate(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise UserError(f"{name} must be at least 0 and below 1, not {value!r}", where=name)
