"""The configuration of a network: plain values, validated on construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from restune.core.errors import UserError, did_you_mean
from restune.networks.registry import block_name, expansion, registered_block
from restune.networks.spec_checks import known_block, one_of, positive, rate, reject_not_taken, shown, sizes

CONVOLUTIONS = ("full", "2+1", "spatial")
DOWNSAMPLINGS = ("stride", "max-pool")
STEMS = ("imagenet", "deep", "small", "none", "clip")
SHORTCUTS = ("A", "B", "C", "D", "norm")
ATTENTIONS = ("none", "se", "eca")
POOLS = ("average", "max", "average+max", "k-max")
NORMS = ("batch", "group")
ACTS = ("relu", "gelu", "silu", "leaky-relu")

MAX_PARAMETERS = 2_000_000_000
"""Twice the largest published residual network (BiT-M R152x4, 937 million); more is taken for a typing error."""
MAX_DEPTH = 10_000

USUAL_KERNELS = {"basic": (3, 3), "bottleneck": (1, 3, 1), "triple": (3, 3, 3)}
"""Sizes of a block's convolutions where the stage does not set `kernels`."""


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A sequence of blocks at one resolution.

    Args:
        block: ``basic`` (two 3x3 convolutions), ``bottleneck`` (1x1, 3x3, 1x1), ``triple`` (three of one width;
            Wang et al. 2017), or the name or class of a block of your own, see `restune.register_block`.
        depth: number of blocks.
        width: channels of the 3x3 convolutions before `groups` and `base_width`; the stage's output has
            ``width * expansion`` channels: 4 for ``bottleneck``, 1 for the others, a registered block's own.
        stride: stride of the first block.
        dilation: of the 3x3 convolutions; the first block uses the previous stage's, as in torchvision.
        groups: of a bottleneck's 3x3 convolution (ResNeXt's cardinality).
        base_width: a bottleneck's inner channels are ``int(width * base_width / 64) * groups``.
        kernels: sizes of the block's convolutions in order; (): the block's defaults. Even sizes are for series only
            (dims=1), padded by one more at the end, as in Keras.
        conv: for clips (dims=3): ``full`` convolves time and space together, ``2+1`` first space, then time (Tran et
            al. 2018, "R(2+1)D"), ``spatial`` space only, and strides space only.
        downsample: ``stride``: the first block's convolution is strided; ``max-pool``: a pool before that block
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
        object.__setattr__(self, "block", block_name(self.block))
        known_block(self.block)
        one_of("conv", self.conv, CONVOLUTIONS)
        one_of("downsample", self.downsample, DOWNSAMPLINGS)
        for name in ("depth", "width", "stride", "dilation", "groups", "base_width"):
            positive(name, getattr(self, name))
        if self.depth > MAX_DEPTH:
            raise UserError(f"a stage has at most {MAX_DEPTH:,} blocks, not {self.depth:,}", where="depth")
        if int(self.width * self.base_width / 64) < 1:
            raise UserError(
                f"width {self.width} with base_width {self.base_width} leaves no channels",
                where="StageSpec",
                fix=f"use a width of at least {-(-64 // self.base_width)}",
            )
        if self.is_registered:
            self._check_registered()
        elif self.block != "bottleneck" and (self.groups != 1 or self.base_width != 64):
            raise UserError(
                f"{self.block} blocks do not support groups or base_width",
                where=f"groups={self.groups}, base_width={self.base_width}",
                fix="use block='bottleneck' with them",
            )
        if self.conv == "2+1" and self.groups != 1:
            raise UserError("2+1 convolutions do not support groups", where=f"groups={self.groups}", fix="use groups=1")
        self._check_kernels()

    def _check_registered(self) -> None:
        """Raise UserError for settings of the stage that its registered block does not take."""
        settings = {"dilation": 1, "groups": 1, "base_width": 64, "kernels": (), "conv": "full", "downsample": "stride"}
        reject_not_taken(self.block, [name for name, usual in settings.items() if getattr(self, name) != usual])

    def _check_kernels(self) -> None:
        sizes("kernels", self.kernels)
        if self.kernels and len(self.kernels) != len(USUAL_KERNELS[self.block]):
            raise UserError(
                f"a {self.block} block has {len(USUAL_KERNELS[self.block])} convolutions, not {len(self.kernels)}",
                where=f"kernels={self.kernels}",
            )

    @property
    def is_registered(self) -> bool:
        """Whether the block is one that a program registered."""
        return registered_block(self.block) is not None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the block's convolutions in order; () for a registered block."""
        return self.kernels or USUAL_KERNELS.get(self.block, ())

    @property
    def inner_channels(self) -> int:
        """Channels of the 3x3 convolutions: the width, widened by ResNeXt's and Wide ResNet's rules."""
        return int(self.width * self.base_width / 64) * self.groups

    @property
    def out_channels(self) -> int:
        """Channels after each block of this stage."""
        return self.width * expansion(self.block)

    def convolution_parameters(self, inputs: int, dims: int) -> int:
        """Return the convolution parameters of a block with `inputs` input channels, without its shortcut; 0 for a
        registered block, whose layers are unknown."""
        if self.is_registered:
            return 0
        count, inner = 0, self.inner_channels
        channels = (inputs, *[inner] * (len(self.sizes) - 1), self.out_channels)
        for size, (before, after) in zip(self.sizes, pairwise(channels), strict=True):
            if self.conv == "2+1" and size > 1:
                count += midplanes(inputs, inner, size) * (before * size**2 + after * size)
            else:
                groups = self.groups if self.block == "bottleneck" and before == after == inner else 1
                count += before // groups * after * size ** (2 if self.conv == "spatial" else dims)
        return count


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """The complete structure of a residual network.

    Args:
        dims: 1 for series ``[N, C, L]``, 2 for images ``[N, C, H, W]``, 3 for clips ``[N, C, T, H, W]``.
        in_channels: C of the input; with a `vocabulary`, the width of the embedding.
        vocabulary: number of tokens of a text network, including 0, the padding; 0: no embedding.
        embedding_dropout: on the embedded tokens.
        stem: ``imagenet`` (7x7 stride 2, max pool), ``deep`` (three 3x3, the first of stride 2, max pool;
            He et al. 2019), ``small`` (3x3 stride 1, no pool: for inputs of 48 pixels or fewer), ``clip`` (dims=3:
            3x7x7, stride 2 in space, no pool; in two steps where the first stage is ``2+1``; Tran et al. 2018) or
            ``none`` (the stages read the input).
        stem_width: channels after the stem; unused with ``none``.
        stages: from high to low resolution; three or four are usual, any number works.
        shortcut: where shapes change, ``A`` slices and pads zeros (no parameters), ``B`` projects by a
            1x1 convolution, ``D`` average-pools, then projects; ``C`` projects in every block; ``norm`` is B,
            with a batch norm where shapes agree (Wang et al. 2017's code).
        norm: ``batch`` (Ioffe and Szegedy 2015) or ``group`` (Wu and He 2018), in stem, blocks and shortcuts.
        norm_groups: of group norm. Layers whose channels it does not divide use the greatest common divisor.
        act: the activation in stem, blocks and hidden layers: ``relu``, ``gelu`` (Hendrycks and Gimpel 2016), ``silu``
            or ``leaky-relu`` (slope 0.01). Squeeze-and-excitation keeps its own ReLU, as in timm.
        preact: norm and activation before each convolution (He et al. 2016, "Identity Mappings").
        attention: ``se`` (Hu et al. 2018) or ``eca`` (Wang et al. 2020) on each residual branch.
        drop_path: stochastic-depth rate of the last block, rising linearly from 0 (Huang et al. 2016).
        residual: False gives the plain twin: the same layers without shortcuts.
        pool: global pooling: ``average``, ``max``, both concatenated (``average+max``), or the `k_max` largest values
            of each channel in order of position (``k-max``; Kalchbrenner et al. 2014).
        k_max: values per channel for ``k-max``; unused by other pools.
        hidden: widths of linear layers with activations between the pool and the head.
        num_classes: outputs of the head.
        dropout: before the head, and between hidden layers.
        zero_init_residual: initialise each branch's last norm to 0, so that blocks start as identities
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
    norm: str = "batch"
    norm_groups: int = 32
    act: str = "relu"
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
        one_of("stem", self.stem, STEMS)
        one_of("shortcut", self.shortcut, SHORTCUTS)
        one_of("attention", self.attention, ATTENTIONS)
        one_of("pool", self.pool, POOLS)
        one_of("norm", self.norm, NORMS)
        one_of("act", self.act, ACTS)
        for name in ("in_channels", "stem_width", "num_classes", "k_max", "norm_groups"):
            positive(name, getattr(self, name))
        for name in ("drop_path", "dropout", "embedding_dropout"):
            rate(name, getattr(self, name))
        sizes("hidden", self.hidden)
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
        """Raise UserError for settings that contradict each other."""
        if self.zero_init_residual and (self.preact or not self.residual):
            kind = "pre-activation" if self.preact else "plain"
            raise UserError(
                f"zero_init_residual does not apply to a {kind} network",
                where="ResNetSpec.zero_init_residual",
                fix="leave it off",
            )
        if self.drop_path and not self.residual:
            raise UserError(
                "drop_path drops residual branches, but a plain network does not have any",
                where="ResNetSpec.drop_path",
                fix="leave it at 0",
            )
        if self.preact:
            forbidden = {
                "triple blocks": any(stage.block == "triple" for stage in self.stages),
                "shortcut='norm'": self.shortcut == "norm",
                "stem='none'": self.stem == "none",
            }
            if present := [what for what, is_set in forbidden.items() if is_set]:
                raise UserError(f"{present[0]} cannot be combined with pre-activation", where="ResNetSpec.preact")
        if self.norm != "group" and self.norm_groups != 32:
            raise UserError("norm_groups needs norm='group'", where="ResNetSpec.norm_groups", fix="leave it out")
        usual = {"dims": 2, "residual": True, "drop_path": 0.0, "norm": "batch", "act": "relu"}
        usual |= {"attention": "none", "preact": False, "zero_init_residual": False}
        for block in {stage.block for stage in self.stages if stage.is_registered}:
            reject_not_taken(block, [name for name, value in usual.items() if getattr(self, name) != value])

    def _check_dimensions(self) -> None:
        """Raise UserError for settings that only series or only clips support."""
        if not isinstance(self.vocabulary, int) or isinstance(self.vocabulary, bool) or self.vocabulary < 0:
            raise UserError(
                f"vocabulary must be a whole number, not {shown(self.vocabulary)}", where="ResNetSpec.vocabulary"
            )
        if self.vocabulary == 1:
            raise UserError("a vocabulary needs the padding and at least one token", where="ResNetSpec.vocabulary")
        if self.vocabulary and self.dims != 1:
            raise UserError("a vocabulary needs dims=1: tokens form a sequence", where=f"dims={self.dims}")
        if self.embedding_dropout and not self.vocabulary:
            raise UserError(
                "embedding_dropout needs a vocabulary",
                where="ResNetSpec.embedding_dropout",
                fix="leave it at 0",
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
        """Return a lower bound on the parameters: block convolutions, first layer, embedding and linear layers."""
        count, channels = self.vocabulary * self.in_channels, self.stem_channels
        if self.stem != "none":
            count += self.in_channels * self.stem_width
        for stage in self.stages:
            count += stage.convolution_parameters(channels, self.dims)
            count += (stage.depth - 1) * stage.convolution_parameters(stage.out_channels, self.dims)
            channels = stage.out_channels
        widths = (self.pooled_features, *self.hidden, self.num_classes)
        return count + sum(before * after for before, after in pairwise(widths))

    @property
    def stem_channels(self) -> int:
        """Input channels of the first stage."""
        return self.in_channels if self.stem == "none" else self.stem_width

    @property
    def pooled_features(self) -> int:
        """Number of pooled features per input."""
        return self.stages[-1].out_channels * {"average+max": 2, "k-max": self.k_max}.get(self.pool, 1)

    @property
    def num_features(self) -> int:
        """Width of the embeddings, the head's input."""
        return self.hidden[-1] if self.hidden else self.pooled_features

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain dictionaries, lists, numbers and strings; `from_dict` is the inverse.

        Norm and activation are left out where they are the usual ones, so that older versions can read the file.
        """
        content = asdict(self)
        for name, usual in (("norm", "batch"), ("norm_groups", 32), ("act", "relu")):
            if content[name] == usual:
                del content[name]
        content["stages"] = [{**stage, "kernels": list(stage["kernels"])} for stage in content["stages"]]
        content["hidden"] = list(content["hidden"])
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ResNetSpec:
        """Build a spec from the output of `to_dict`. Raises UserError on unknown keys and wrong types."""
        return cls(**_checked(cls, content))

    def override(self, **changes: Any) -> ResNetSpec:
        """Return a copy with fields changed; shorthands apply to all stages.

        Shorthands: `depths` (one number per stage; added stages double the width with stride 2, missing ones are
        removed), `width` (of the first stage; later stages and the stem keep their ratio to it), `block`, `groups`,
        `base_width`, `kernels`, `conv`, `downsample`.

        Raises UserError for a name that is neither a field nor a shorthand.
        """
        if isinstance(changes.get("block"), type):
            changes["block"] = block_name(changes["block"])
        if not changes.get("residual", True):  # blocks without shortcuts cannot start as identities
            changes.setdefault("zero_init_residual", False)
        stages = self.stages
        if (depths := changes.pop("depths", None)) is not None:
            stages = _with_depths(stages, depths)
        if (width := changes.pop("width", None)) is not None:
            positive("width", width)
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
    """Return whether two networks can share weights: equal but for head, input channels and training-only settings."""
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
    """Return the channels between the two steps of a 2+1 convolution that give it as many parameters as the full one
    (Tran et al. 2018, section 3.5)."""
    return max(1, inputs * outputs * size**3 // (inputs * size**2 + outputs * size))


def _with_depths(stages: tuple[StageSpec, ...], depths: Any) -> tuple[StageSpec, ...]:
    if not isinstance(depths, list | tuple) or not depths:
        raise UserError(
            f"depths must have one number per stage, not {shown(depths)}",
            where="depths",
            fix="write it like [2, 2, 2]",
        )
    changed: list[StageSpec] = []
    for position, depth in enumerate(depths):
        if position < len(stages):
            changed.append(replace(stages[position], depth=depth))
        else:
            changed.append(replace(changed[-1], depth=depth, width=changed[-1].width * 2, stride=2))
    return tuple(changed)


def _scaled(value: int, width: int, first: int) -> int:
    return max(1, round(value * width / first))


def _checked(cls: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` if each key is a field of `cls` and each value has the field's type; else raise UserError."""
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
            raise UserError(f"expected a list of whole numbers, not {shown(value)}", where=where)
        return tuple(value)
    wanted = {"int": int, "float": float, "bool": bool, "str": str}.get(kind)
    if wanted is not None and (type(value) is not wanted):
        raise UserError(f"expected {kind}, not {shown(value)}", where=where)
    return value
