"""The engines by name, and whether they are installed; imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

from restune.core.errors import UserError, did_you_mean

ENGINES = ("auto", "torch", "onnx", "openvino")
PRECISIONS = ("auto", "fp32", "bf16")
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The package of each engine other than torch."""


def is_installed(engine: str) -> bool:
    """Return whether an engine's package is installed.

    >>> is_installed("torch")
    True
    """
    return engine not in PACKAGES or find_spec(PACKAGES[engine]) is not None


def reject_unknown(engine: str, precision: str) -> None:
    """Raise UserError for an engine or a precision that there is not."""
    for value, allowed, option in ((engine, ENGINES, "--engine"), (precision, PRECISIONS, "--precision")):
        if value not in allowed:
            raise UserError(
                f"unknown value {value!r}",
                where=option,
                fix=did_you_mean(value, allowed) or f"use one of {', '.join(allowed)}",
            )


def not_installed(engine: str) -> UserError:
    """Return the error for an engine whose package is missing."""
    package = PACKAGES[engine]
    return UserError(
        f"the engine {engine} needs the package {package}",
        where=f"--engine {engine}",
        fix="pip install 'restune[export]'",
    )
