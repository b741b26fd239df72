"""Options of networks in a request: their names, and whether they can be combined. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from restune.core.errors import UserError, did_you_mean
from restune.networks import zoo
from restune.networks.spec import SHORTHANDS, ResNetSpec

NETWORK_OPTIONS = (*(field.name for field in fields(ResNetSpec)), *SHORTHANDS)
_TYPICAL = ("resnet18", "resnet50", "resnet1d18", "textresnet", "r3d_18")
"""One network for each kind of data, for requests that do not name one."""


def named_fully(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with those of networks under the key that they have in a recipe: ``width`` as ``spec.width``."""
    return {f"spec.{key}" if key in NETWORK_OPTIONS else key: value for key, value in options.items()}


def check_network_options(model: str | None, spec: Mapping[str, Any]) -> None:
    """Raise UserError for options that do not exist, that follow from the data, or that no network can have.

    Args:
        model: the network's name, if it was requested.
        spec: changes to its structure.
    """
    for name in spec:
        if name not in NETWORK_OPTIONS:
            raise UserError(
                f"{name!r} is not an option of a network",
                where=f"--set spec.{name}",
                fix=did_you_mean(name, NETWORK_OPTIONS) or f"the options are {', '.join(NETWORK_OPTIONS)}",
            )
    if "num_classes" in spec:
        raise UserError(
            "num_classes follows from the data and cannot be set", where="--set spec.num_classes", fix="leave it out"
        )
    first: UserError | None = None
    for base in (model,) if model is not None and model in zoo.ZOO else _TYPICAL:
        try:
            zoo.find(base).spec.override(**spec)
        except UserError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise first
