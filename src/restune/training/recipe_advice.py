"""Advice for wrong settings: the values allowed, the setting or value that was probably meant."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from restune.core.errors import UserError, did_you_mean

_OTHER_NAMES = {
    "padding": "augment.shift",
    "pad": "augment.shift",
    "random_crop": "augment.crop_scale",
    "horizontal_flip": "augment.flip",
    "hflip": "augment.flip",
    "random_erasing": "augment.erase",
    "randaugment": "augment.policy",
    "trivialaugment": "augment.policy",
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "betas": "optimizer.momentum and optimizer.beta2",
    "grad_clip": "optimizer.clip_norm",
    "gradient_clip_val": "optimizer.clip_norm",
    "accumulate_grad_batches": "optimizer.accumulate",
    "scheduler": "schedule.name",
    "warmup": "schedule.warmup_epochs",
    "criterion": "loss",
    "patience": "early_stopping.patience",
    "num_workers": "workers",
    "bs": "batch_size",
    "max_epochs": "epochs",
    "arch": "model",
}
"""Names of settings elsewhere, and ours."""
_OTHER_VALUES = {
    "multistep": "step",
    "multisteplr": "step",
    "steplr": "step",
    "cosineannealing": "cosine",
    "cosineannealinglr": "cosine",
    "onecycle": "one-cycle",
    "onecyclelr": "one-cycle",
    "randaugment": "rand",
    "trivialaugment": "trivial",
    "ce": "cross-entropy",
    "bce": "binary-cross-entropy",
    "bcewithlogits": "binary-cross-entropy",
    "fp16": "bf16",
    "amp": "bf16",
    "float32": "fp32",
    "bfloat16": "bf16",
}
"""Values elsewhere, and the nearest of ours."""


def unknown_key(key: str, known: Sequence[str], where: str) -> UserError:
    """The error for a setting that does not exist, with the one that was probably meant."""
    last = key.split(".")[-1]
    exact = [name for name in known if name.split(".")[-1] == last]
    if last.lower() in _OTHER_NAMES:
        hint = f"use {_OTHER_NAMES[last.lower()]}"
    elif len(exact) == 1:
        hint = f"Did you mean {exact[0]!r}?"
    else:
        hint = did_you_mean(key, known) or did_you_mean(last, [*known, *(name.split(".")[-1] for name in known)])
    sections = sorted({name.split(".")[0] for name in known if "." in name})
    return UserError(
        f"{key!r} is not a setting of a recipe",
        where=where,
        fix=hint or f"recipe.yaml of any run lists all settings; sections are {', '.join(sections)}",
    )


def allowed_values(model: type[BaseModel], key: str, value: Any) -> str:
    """Say which values a setting may have, and which of them is nearest to a wrong one.

    Args:
        model: of the recipe.
        key: dotted; pydantic's additions for members of unions and items of lists are ignored.
        value: the wrong one.
    """
    parts = key.split(".")
    while parts and _field(model, parts) is None:
        parts.pop()
    field = _field(model, parts)
    if field is None:
        return f"replace the value {reprlib.repr(value)}"
    choices = _choices(field.annotation)
    if choices:
        word = str(value).lower().replace("_", "-")
        meant = _OTHER_VALUES.get(word.replace("-", ""))
        hint = f"use {meant!r}; " if meant in choices else f"{did_you_mean(word, choices)} ".lstrip()
        return f"{hint}allowed: {', '.join(choices)}"
    bounds = [
        f"{word} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, word in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
        if hasattr(rule, name)
    ]
    default = "null" if field.default is None else reprlib.repr(field.default)
    return f"use a value {' and '.join(bounds)} (default {default})" if bounds else f"the default is {default}"


def _field(model: type[BaseModel], parts: Sequence[str]) -> Any:
    """The declaration of a setting; None where there is none."""
    section: Any = model
    found: Any = None
    for part in parts:
        found = getattr(section, "model_fields", {}).get(part)
        if found is None:
            return None
        section = found.annotation
    return found


def _choices(annotation: Any) -> list[str]:
    """The values of a `Literal`, and those of a union's."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]
