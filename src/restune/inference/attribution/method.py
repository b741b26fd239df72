"""How to explain: the method, the class and the stage. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from restune.core.errors import UserError, did_you_mean, shorten

METHODS = ("cam", "gradcam", "occlusion", "integrated-gradients")


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """How to explain.

    Args:
        label: the class to explain; None: the predicted one of each input.
        method: one of `METHODS`.
        stage: for ``cam`` and ``gradcam``, 0 for the stem to the number of stages; None: the last stage.
    """

    label: str | None = None
    method: str = "cam"
    stage: int | None = None


def check_method(method: str, stage: int | None) -> None:
    """Raise UserError for an unknown method, and for a stage where the method does not use one."""
    if method not in METHODS:
        hint = did_you_mean(method, METHODS) or f"one of {', '.join(METHODS)}"
        raise UserError(f"unknown method {method!r}", where="--method", fix=hint)
    if stage is not None and method not in ("cam", "gradcam"):
        raise UserError(f"--method {method} does not use a stage", where="--stage", fix="leave it out")


def resolve_class(classes: tuple[str, ...], label: str | None) -> int | None:
    """Return the index of the class to explain; None for None. Raises UserError for a class that there is not."""
    if label is None:
        return None
    if label not in classes:
        hint = did_you_mean(label, classes) or f"one of {shorten(classes)}"
        raise UserError(f"the model does not have a class {label!r}", where="--explain-class", fix=hint)
    return classes.index(label)
