"""Helpers to change preprocessing settings by name and to reject those of another kind of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from restune.core.errors import UserError


def named_changes(changes: Mapping[str, Any], known: Iterable[str], kind: str) -> dict[str, Any]:
    """Return the entries of `changes` that are not None. Raises UserError for a setting that is not in `known`."""
    wanted = {name: value for name, value in changes.items() if value is not None}
    options = tuple(known)
    for name in wanted:
        if name not in options:
            raise UserError(
                f"{as_option(name)} does not apply to {kind} data",
                where=as_option(name),
                fix=f"leave it out; {kind} options are {', '.join(map(as_option, options))}",
            )
    return wanted


def per_channel(values: float | tuple[float, ...], channels: int, option: str) -> tuple[float, ...]:
    """Return one value per channel, from a single value or one value per channel. Raises UserError."""
    listed = (float(values),) if isinstance(values, int | float) else tuple(values)
    if len(listed) == 1:
        return listed * channels
    if len(listed) != channels:
        raise UserError(
            f"{len(listed)} values for {channels} channels", where=option, fix="pass one value, or one per channel"
        )
    return listed


def framed(crop: int, resize: int | None, image_size: int | None, share: float | None) -> tuple[int, int | None]:
    """Return the crop and the shorter side before it (None: no crop, the whole image is resized to the square).

    Args:
        crop, resize: the present settings, pixels.
        image_size: new crop; `resize` keeps its ratio to it.
        share: share of the resized shorter side that the crop keeps; 0: no crop.

    Raises UserError.
    """
    if image_size is not None:
        resize = None if resize is None else max(image_size, round(resize * image_size / crop))
        crop = image_size
    if share is not None:
        if not 0 <= share <= 1:
            raise UserError(f"the crop must be a share from 0 to 1, not {share}", where="--crop")
        resize = int(crop / share) if share else None
    return crop, resize


def averaged(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return `values` if there is one per channel, or none at all; else their average for every channel."""
    if len(values) in (0, channels):
        return values
    return (sum(values) / len(values),) * channels


def as_option(name: str) -> str:
    """Return a setting's name as a command-line option."""
    return "--" + name.replace("_", "-")


def is_whole(value: object, least: int, most: int) -> bool:
    """Return whether a value is an integer from `least` to `most`."""
    return type(value) is int and least <= value <= most
