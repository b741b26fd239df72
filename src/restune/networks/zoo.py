"""The networks that have names: for each a spec and the input it was made for, nothing else."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

from restune.core.errors import UserError, did_you_mean
from restune.networks.spec import ResNetSpec, StageSpec


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """A named network.

    Args:
        name: the field's name for it.
        spec: its structure.
        crop: side of the square input, pixels.
        resize: the shorter side is resized to this before the centre crop; None: resize straight to `crop`.
        source: the paper, or the reference implementation whose details it follows.
    """

    name: str
    spec: ResNetSpec
    crop: int
    resize: int | None
    source: str


HE = "He et al. 2016, arXiv:1512.03385"
XIE = "Xie et al. 2017, arXiv:1611.05431"
ZAGORUYKO = "Zagoruyko and Komodakis 2016, arXiv:1605.07146"
BAG_OF_TRICKS = "He et al. 2019, arXiv:1812.01187"
SQUEEZE = "Hu et al. 2018, arXiv:1709.01507"
ECA = "Wang et al. 2020, arXiv:1910.03151"
IDENTITY = "He et al. 2016, arXiv:1603.05027"


def _imagenet(name: str, block: str, depths: tuple[int, ...], source: str = HE, **changes: Any) -> ZooEntry:
    stage = {key: changes.pop(key) for key in ("groups", "base_width") if key in changes}
    stages = tuple(
        StageSpec(block=block, depth=depth, width=64 * 2**i, stride=1 if i == 0 else 2, **stage)
        for i, depth in enumerate(depths)
    )
    return ZooEntry(name=name, spec=ResNetSpec(stages=stages, **changes), crop=224, resize=256, source=source)


def _cifar(name: str, depth: int, source: str = f"{HE}, section 4.2", **changes: Any) -> ZooEntry:
    """``6n + 2`` layers: three stages of n basic blocks of 16, 32 and 64 channels, on 32x32 pixels."""
    blocks = (depth - 2) // 6
    stages = tuple(StageSpec(depth=blocks, width=16 * 2**i, stride=1 if i == 0 else 2) for i in range(3))
    spec = ResNetSpec(stem="small", stem_width=16, stages=stages, shortcut="A", num_classes=10, **changes)
    return ZooEntry(name=name, spec=spec, crop=32, resize=None, source=source)


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
)

ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> ZooEntry:
    """The zoo entry of that name. Raises UserError with a suggestion when there is none."""
    if not isinstance(name, str):
        raise UserError(f"a network's name is a string, not {name!r}", where="the model's name")
    if name not in ZOO:
        raise UserError(
            f"there is no network named {name!r}",
            where="the model's name",
            fix=did_you_mean(name, ZOO) or "`restune models` lists them",
        )
    return ZOO[name]


def list_models(pattern: str = "*") -> list[str]:
    """Names of the zoo that match a shell-style pattern, in the zoo's order."""
    return [name for name in ZOO if fnmatch.fnmatchcase(name, pattern)]
