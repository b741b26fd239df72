"""Build the preprocessing that is stored in a model's file or a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restune.core.errors import UserError
from restune.data.kinds import KINDS
from restune.data.preprocess.base import Preprocess


def preprocess_from_dict(content: Mapping[str, Any]) -> Preprocess:
    """Build the preprocessing from its stored settings. Raises UserError for a kind that this version does not know."""
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(
            f"this model takes data of the kind {kind!r}, which this version of restune does not know",
            fix="upgrade restune",
        )
    cls = KINDS[kind].preprocess_class
    unknown = sorted(set(content) - set(cls.__dataclass_fields__))
    if unknown:
        raise UserError(f"unknown preprocessing setting {unknown[0]!r}", where="preprocess", fix="upgrade restune")
    missing = sorted({"mean", "std"} & set(cls.__dataclass_fields__) - set(content))
    if missing:  # a default would pass for the values that the network was trained with
        raise UserError(f"the preprocessing settings lack {missing[0]}", where="preprocess")
    try:
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        preprocess: Preprocess = cls(**values)
    except (KeyError, TypeError) as error:
        raise UserError(f"the preprocessing settings cannot be read: {error}", where="preprocess") from error
    return preprocess
