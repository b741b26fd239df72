"""Checks of single values of a network's specification; each failure is one message."""

from __future__ import annotations

import reprlib
from typing import Any

from restune.core.errors import UserError, did_you_mean
from restune.networks.registry import OPTIONAL, arguments, known_blocks, registered_block


def known_block(name: Any) -> None:
    """Raise UserError for a block that is neither ours nor registered."""
    known = known_blocks()
    if name not in known:
        hint = did_you_mean(str(name), known) or f"one of {', '.join(known)}"
        raise UserError(
            f"unknown block {shown(name)}",
            where="block",
            fix=f"{hint}; a block of your own is registered in Python first: restune.register_block(NAME, CLASS)",
        )


def reject_not_taken(block: str, settings: list[str]) -> None:
    """Raise UserError if a registered block does not take one of these settings, which differ from their defaults."""
    registered = registered_block(block)
    assert registered is not None
    takes = arguments(registered)
    for name in settings:
        if name not in takes:
            raise UserError(
                f"the block {block} does not take {name}",
                where=name,
                fix=f"leave {name} at its default"
                + (f", or let the block's constructor take an argument {name!r}" if name in OPTIONAL else ""),
            )


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise UserError for a value that is not one of the choices."""
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise UserError(f"unknown {name} {value!r}", where=name, fix=hint or f"one of {', '.join(choices)}")


def positive(name: str, value: Any) -> None:
    """Raise UserError for anything but a whole number from 1 to 2**31 - 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, not {shown(value)}", where=name)
    if value >= 2**31:
        raise UserError(f"{name} is far too large: {shown(value)}", where=name)


def sizes(name: str, values: Any) -> None:
    """Raise UserError for anything but a tuple of positive whole numbers."""
    if not isinstance(values, tuple):
        raise UserError(f"{name} must be a tuple of whole numbers, not {shown(values)}", where=name)
    for value in values:
        positive(name, value)


def shown(value: Any) -> str:
    """Quote a value in a message, with long numbers and nested lists cut short."""
    return reprlib.repr(value)


def rate(name: str, value: float) -> None:
    """Raise UserError for a rate outside 0 to 1, 1 itself excluded."""
    if not 0.0 <= value < 1.0:
        raise UserError(f"{name} must be at least 0 and below 1, not {value!r}", where=name)
