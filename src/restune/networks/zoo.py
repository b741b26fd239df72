"""The named networks: for each a spec and the input it was designed for, nothing else."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from typing import Any

from restune.core.errors import UserError, did_you_mean
from restune.networks.spec import ResNetSpec, StageSpec


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """A named network.

    Args:
        name: its usual name.
        spec: its structure.
        source: the paper, or the reference implementation whose details it follows.
        kind: kind of input: ``image``, ``signal``, ``text`` or ``video``.
        crop: side of the square input of images and clips, pixels.
        resize: the shorter side is resized to this before the centre crop; None: resize straight to `crop`.
        frames: frames per clip.
        length: for series, the length used to describe the network; for texts, the length to which longer ones are
            cut. Any other length works.
    """

    name: str
    spec: ResNetSpec
    source: str
    kind: str = "image"
    crop: int = 0
    resize: int | None = None
    frames: int = 0
    length: int = 0

    def input_shape(self, size: int | None = None) -> tuple[int, ...]:
        """Return the shape of one input, without the batch: ``[C, H, W]`` for images, ``[C, T, H, W]`` for clips,
        ``[C, L]`` for series, ``[L]`` for tokens. `size` replaces the side or the length."""
        if self.kind == "text":
            return (size or self.length,)
        side = size or self.crop
        positions = {"image": (side, side), "video": (self.frames, side, side), "signal": (size or self.length,)}
        return (self.spec.in_channels, *positions[self.kind])


HE = "He et al. 2016, arXiv:1512.03385"
XIE = "Xie et al. 2017, arXiv:1611.05431"
ZAGORUYKO = "Zagoruyko and Komodakis 2016, arXiv:1605.07146"
BAG_OF_TRICKS = "He et al. 2019, arXiv:1812.01187"
SQUEEZE = "Hu et al. 2018, arXiv:1709.01507"
ECA = "Wang et al. 2020, arXiv:1910.03151"
IDENTITY = "He et al. 2016, arXiv:1603.05027"
WANG = "Wang et al. 2017, arXiv:1611.06455"
CONNEAU = "Conneau et al. 2017, arXiv:1606.01781"
TRAN = "Tran et al. 2018, arXiv:1711.11248"

BYTES = 257
"""Vocabulary of a text read as bytes: 256 values, and 0 for the padding."""


def _stages(block: str, depths: tuple[int, ...], **changes: Any) -> tuple[StageSpec, ...]:
    """Build stages that start at 64 channels and double them where the resolution halves."""
    return tuple(
        StageSpec(block=block, depth=depth, width=64 * 2**i, stride=1 if i == 0 else 2, **changes)
        for i, depth in enumerate(depths)
    )


def _imagenet(name: str, block: str, depths: tuple[int, ...], source: str = HE, **changes: Any) -> ZooEntry:
    stage = {key: changes.pop(key) for key in ("groups", "base_width") if key in changes}
    spec = ResNetSpec(stages=_stages(block, depths, **stage), **changes)
    return ZooEntry(name=name, spec=spec, crop=224, resize=256, source=source)


def _cifar(name: str, depth: int, source: str = f"{HE}, section 4.2", **changes: Any) -> ZooEntry:
    """Build a network of ``6n + 2`` layers: three stages of n basic blocks, 16, 32 and 64 channels, 32x32 pixels."""
    blocks = (depth - 2) // 6
    stages = tuple(StageSpec(depth=blocks, width=16 * 2**i, stride=1 if i == 0 else 2) for i in range(3))
    spec = ResNetSpec(stem="small", stem_width=16, stages=stages, shortcut="A", num_classes=10, **changes)
    return ZooEntry(name=name, spec=spec, crop=32, resize=None, source=source)


def _wide_cifar(name: str) -> ZooEntry:
    """Build one wide basic block per stage, each behind a max pool: few, large matrix products, which train fast."""
    stages = tuple(StageSpec(depth=1, width=width, stride=2, downsample="max-pool") for width in (128, 256, 256))
    spec = ResNetSpec(stem="small", stages=stages, num_classes=10)
    return ZooEntry(name=name, spec=spec, crop=32, resize=None, source=f"{ZAGORUYKO}, with max pools")


def _series(name: str, block: str, depths: tuple[int, ...]) -> ZooEntry:
    """Build the one-dimensional version of an ImageNet network."""
    spec = ResNetSpec(dims=1, in_channels=1, stages=_stages(block, depths), num_classes=10)
    return ZooEntry(name=name, spec=spec, kind="signal", length=128, source=HE)


def _wang(name: str) -> ZooEntry:
    """Build three blocks of three convolutions at full resolution, each with a norm in its shortcut."""
    stages = tuple(StageSpec(block="triple", depth=1, width=width, kernels=(8, 5, 3)) for width in (64, 128, 128))
    spec = ResNetSpec(dims=1, in_channels=1, stem="none", stages=stages, shortcut="norm", num_classes=10)
    return ZooEntry(name=name, spec=spec, kind="signal", length=128, source=WANG)


def _vdcnn(name: str, depths: tuple[int, ...]) -> ZooEntry:
    """Build ``2 * sum(depths) + 1`` convolutions over characters, halved by max pools (there, figure 1, table 2)."""
    spec = ResNetSpec(
        dims=1,
        vocabulary=BYTES,
        in_channels=16,
        stem="small",
        stages=_stages("basic", depths, downsample="max-pool"),
        pool="k-max",
        k_max=8,
        hidden=(2048, 2048),
        num_classes=2,
    )
    return ZooEntry(name=name, spec=spec, kind="text", length=1024, source=CONNEAU)


def _textresnet(name: str) -> ZooEntry:
    """Build two blocks, one dilated, over words or bytes at full resolution: for data sets of a few thousand texts."""
    spec = ResNetSpec(
        dims=1,
        vocabulary=BYTES,
        in_channels=128,
        stem="none",
        # A stage's first block uses the previous stage's dilation, so these two have 1 and 2.
        stages=(StageSpec(depth=1, width=128, dilation=2), StageSpec(depth=1, width=128, dilation=2)),
        pool="average+max",
        embedding_dropout=0.3,
        zero_init_residual=True,  # starts as a bag of words, which few texts suffice to train
        dropout=0.5,
        num_classes=2,
    )
    return ZooEntry(name=name, spec=spec, kind="text", length=64, source=f"{HE}, in one dimension, dilated")


def _video(name: str, *convs: str) -> ZooEntry:
    """Build ResNet-18 for clips; `convs` is each stage's kind of convolution."""
    stages = tuple(replace(stage, conv=kind) for stage, kind in zip(_stages("basic", (2, 2, 2, 2)), convs, strict=True))
    spec = ResNetSpec(dims=3, stem="clip", stages=stages, num_classes=400)
    return ZooEntry(name=name, spec=spec, kind="video", crop=112, resize=128, frames=16, source=TRAN)


_ENTRIES = (
    _imagenet("resnet18", "basic", (2, 2, 2, 2)),
    _imagenet("resnet34", "basic", (3, 4, 6, 3)),
    _imagenet("resnet50", "bottleneck", (3, 4, 6, 3)),
    _imagenet("resnet101", "bottleneck", (3, 4, 23, 3)),
    _imagenet("resnet152", "bottleneck", (3, 8, 36, 3)),
    _imagenet("resnext50_32x4d", "bottleneck", (3, 4, 6, 3), XIE, groups=32, base_width=4),
    _imagenet("resnext101_32x8d", "bottleneck", (3, 4, 23, 3), XIE, groups=32, base_width=8),
    _imagenet("resnext101_64x4d", "bottleneck", (3, 4, 23, 3), XIE, groups=64, base_width=4),
    _imagenet("wide_resnet50_2", "bottleneck", (3, 4, 6, 3), ZAGORUYKO, base_width=128),
    _imagenet("wide_resnet101_2", "bottleneck", (3, 4, 23, 3), ZAGORUYKO, base_width=128),
    _imagenet("resnet18d", "basic", (2, 2, 2, 2), BAG_OF_TRICKS, stem="deep", shortcut="D"),
    _imagenet("resnet34d", "basic", (3, 4, 6, 3), BAG_OF_TRICKS, stem="deep", shortcut="D"),
    _imagenet("resnet50d", "bottleneck", (3, 4, 6, 3), BAG_OF_TRICKS, stem="deep", shortcut="D"),
    _imagenet("resnet101d", "bottleneck", (3, 4, 23, 3), BAG_OF_TRICKS, stem="deep", shortcut="D"),
    _imagenet("seresnet50", "bottleneck", (3, 4, 6, 3), SQUEEZE, attention="se"),
    _imagenet("ecaresnet50d", "bottleneck", (3, 4, 6, 3), ECA, stem="deep", shortcut="D", attention="eca"),
    _imagenet("preresnet18", "basic", (2, 2, 2, 2), IDENTITY, preact=True),
    _imagenet("preresnet50", "bottleneck", (3, 4, 6, 3), IDENTITY, preact=True),
    _cifar("preresnet110", 110, IDENTITY, preact=True),
    _cifar("resnet8", 8),
    _cifar("resnet20", 20),
    _cifar("resnet32", 32),
    _cifar("resnet44", 44),
    _cifar("resnet56", 56),
    _cifar("resnet110", 110),
    _wide_cifar("wide_resnet8"),
    _wang("resnet1d_ts"),
    _series("resnet1d18", "basic", (2, 2, 2, 2)),
    _series("resnet1d34", "basic", (3, 4, 6, 3)),
    _series("resnet1d50", "bottleneck", (3, 4, 6, 3)),
    _vdcnn("vdcnn9", (1, 1, 1, 1)),
    _vdcnn("vdcnn17", (2, 2, 2, 2)),
    _vdcnn("vdcnn29", (5, 5, 2, 2)),
    _vdcnn("vdcnn49", (8, 8, 5, 3)),
    _textresnet("textresnet"),
    _video("r3d_18", "full", "full", "full", "full"),
    _video("mc3_18", "full", "spatial", "spatial", "spatial"),
    _video("r2plus1d_18", "2+1", "2+1", "2+1", "2+1"),
)

ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> ZooEntry:
    """Return the zoo entry of that name. Raises UserError with a suggestion if there is none."""
    if not isinstance(name, str):
        raise UserError(f"a network's name must be a string, not {name!r}", where="the model's name")
    if name not in ZOO:
        raise UserError(
            f"unknown network {name!r}",
            where="the model's name",
            fix=did_you_mean(name, ZOO) or "`restune models` lists them",
        )
    return ZOO[name]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names in the zoo that match a shell-style pattern, in the zoo's order.

    >>> restune.list_models("resnet?")
    ['resnet8']
    """
    return [name for name in ZOO if fnmatch.fnmatchcase(name, pattern)]
