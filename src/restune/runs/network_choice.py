"""Choose network, stem and image size for training from scratch, where no network is named: by the items' size and
number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from restune.data.dataset import Dataset, Item
from restune.networks.resnet import SMALL_SIDE
from restune.training.distributed import World
from restune.training.recipe import Recipe
from restune.training.resolve_auto import Decision

_SAMPLED = 64
"""Images whose size is read, evenly spaced over the data."""
_SMALL = 96
"""Side in pixels up to which images are used at their own size; larger ones are resized to 128 or 224."""
_LEAST_SIDE = 16
_FEW = 5_000
"""Items below which a narrow network, with more epochs in the same time, scores higher from scratch."""
_NARROW = 32

SPEC_KEYS = ("stem", "width")
"""The changes to the network that the choice consists of."""


def choose_network(recipe: Recipe, dataset: Dataset, world: World) -> tuple[Recipe, list[Decision]]:
    """Return the recipe with network, stem and image size resolved, and these decisions with their reasons.

    Nothing is changed where the recipe names a network.

    Args:
        recipe: the requested one; an `image_size` in it is kept, and its changes to the network win.
        dataset: the labelled items, before they are split.
        world: the processes that train together; the first one reads the images' sizes.
    """
    if recipe.model is not None:
        return recipe, []
    if dataset.kind == "signal":
        return _chosen_for_sounds(recipe, len(dataset))
    if dataset.kind != "image":
        return recipe, []
    count, own = len(dataset), int(world.agreed(lambda: str(typical_side(dataset.items))))
    side = recipe.image_size or _input_side(own, count)
    spec: dict[str, Any] = {"width": _NARROW} if count < _FEW else {}
    reason = _why_width(count, "images")
    if side <= SMALL_SIDE:
        spec["stem"] = "small"
        reason += f"; stem small: one of stride 4 would leave {-(-side // 4)}x{-(-side // 4)} positions"
    decisions = [Decision("model", _described("resnet18", spec), reason)]
    if recipe.image_size is None:
        decisions.append(Decision("image_size", side, _why_side(own, side)))
    return recipe.changed({"model": "resnet18", "image_size": side, "spec": {**spec, **recipe.spec}}), decisions


def typical_side(items: Sequence[Item]) -> int:
    """Return the median of the images' shorter sides, over evenly spaced ones; 0 where none can be read."""
    from restune.data.decode import read_size

    step = max(1, len(items) // _SAMPLED)
    sizes = (read_size(items[position].location) for position in range(0, len(items), step))
    sides = sorted(min(size) for size in sizes if size is not None)
    return sides[len(sides) // 2] if sides else 0


def _chosen_for_sounds(recipe: Recipe, count: int) -> tuple[Recipe, list[Decision]]:
    spec: dict[str, Any] = {"width": _NARROW} if count < _FEW else {}
    decision = Decision("model", _described("resnet1d18", spec), _why_width(count, "series"))
    return recipe.changed({"model": "resnet1d18", "spec": {**spec, **recipe.spec}}), [decision]


def _input_side(own: int, count: int) -> int:
    """Return the side of the network's input: the images' own up to `_SMALL`, else 128 for few images, or 224."""
    if 0 < own <= _SMALL:
        return max(own, _LEAST_SIDE)
    return min(own or 224, 128 if count < _FEW else 224)


def _described(name: str, spec: dict[str, Any]) -> str:
    """Describe a network and the changes to it."""
    changes = [f"{key} {value}" for key, value in spec.items()]
    return f"{name} with {' and '.join(changes)}" if changes else name


def _why_width(count: int, noun: str) -> str:
    if count < _FEW:
        return f"{count:,} {noun}: half the usual width, for more epochs in the same time"
    return f"{count:,} {noun} suffice for the usual width"


def _why_side(own: int, side: int) -> str:
    if own == side:
        return "the images' own size"
    if 0 < own < side:
        return f"the images have about {own} pixels, fewer than four stages need"
    if side < 224:
        return f"smaller than the images, which are fewer than {_FEW:,}: more epochs in the same time"
    return "the usual size"
