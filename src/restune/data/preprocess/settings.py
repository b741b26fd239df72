"""Settings that are changed by name, and those that a kind of data does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from restune.core.errors import UserError


def named_changes(changes: Mapping[str, Any], known: Iterable[str], kind: str) -> dict[str, Any]:
    """What is not None of `changes`. Raises UserError for a setting that this kind of data does not have."""
    wanted = {name: value for name, value in changes.items() if value is not None}
    options = tuple(known)
    for name in wanted:
        if name not in options:
            raise UserError(
                f"{as_option(name)} has no meaning for {kind}",
                where=as_option(name),
                fix=f"leave it out; {kind} has {', '.join(map(as_option, options))}",
            )
    return wanted


def per_channel(values: float | tuple[float, ...], channels: int, option: str) -> tuple[float, ...]:
    """One number for each channel, from one for all or one each. Raises UserError."""
    numbers = (float(values),) if isinstance(values, int | float) else tuple(values)
    if len(numbers) == 1:
        return numbers * channels
    if len(numbers) != channels:
        raise UserError(
            f"{len(numbers)} numbers for {channels} channels", where=option, fix="give one, or one a channel"
        )
    return numbers


def framed(crop: int, resize: int | None, image_size: int | None, share: float | None) -> tuple[int, int | None]:
    """The side of the square that is seen, and what the shorter side is resized to before (None: all is the square).

    Args:
        image_size: another side; `resize` keeps its ratio to it.
        share: of the resized shorter side that the square keeps; 0: no crop. Raises UserError.
    """
    if image_size is not None:
        resize = None if resize is None else max(image_size, round(resize * image_size / crop))
        crop = image_size
    if share is not None:
        if not 0 <= share <= 1:
            raise UserError(f"the crop is a share from 0 to 1, not {share}", where="--crop")
        resize = int(crop / share) if share else None
    return crop, resize


def averaged(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """As many numbers as channels: those there are, or else their average for each; none of none."""
    if len(values) in (0, channels):
        return values
    return (sum(values) / len(values),) * channels


def as_option(name: str) -> str:
    """A setting as the command line writes it."""
    return "--" + name.replace("_", "-")


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether a value is a whole number in a range."""
    return type(value) is int and least <= value <= most
