"""What a run takes from Python and no recipe can hold: a module, a block, functions. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError
from restune.networks.registry import registered_block
from restune.runs.tracking import check_tool

if TYPE_CHECKING:
    from torch import Tensor, nn

    from restune.training.metrics_log import EpochRecord, StepRecord
    from restune.training.recipe import Recipe

_IN_WORDS = {
    "model": "a module",
    "block": "a registered block",
    "loss": "a loss function",
    "augment": "an augmentation",
}


@dataclass(frozen=True, kw_only=True)
class Custom:
    """The objects that a run takes from Python.

    Args:
        model: a module to train instead of a network of the zoo.
        loss: from logits ``[N, C]`` and targets to a scalar, or to one value per item ``[N]``.
        augment: from samples ``[N, ...]`` and a generator to samples.
        on_epoch, on_step: called after each epoch and optimiser step.
        track: the tool that logs the run, ``tensorboard`` or ``mlflow``: no setting, since it changes no result.
    """

    model: nn.Module | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    augment: Callable[..., Tensor] | None = None
    on_epoch: Callable[[EpochRecord], None] | None = None
    on_step: Callable[[StepRecord], None] | None = None
    track: str | None = None

    def names(self, spec: Mapping[str, Any]) -> list[str]:
        """Return what a repetition of the run needs besides its recipe."""
        named = [name for name in ("model", "loss", "augment") if getattr(self, name) is not None]
        return [*named, *(["block"] if registered_block(str(spec.get("block"))) is not None else [])]

    def settle(self, wanted: dict[str, Any], requested: Callable[[str], bool]) -> None:
        """Set the settings that these objects replace. Raises UserError where such a setting was requested.

        Args:
            wanted: the changes to the recipe, by dotted key; changed in place.
            requested: whether a setting was requested.
        """
        replaced: dict[str, tuple[str, Any]] = {}
        if self.loss is not None:
            replaced |= {"label_smoothing": ("loss", 0.0), "class_weights": ("loss", "none")}
            replaced |= {"teacher.model": ("loss", None)}
        if self.model is not None:
            replaced |= {"optimizer.layer_decay": ("model", 1.0), "freeze": ("model", "none"), "model": ("model", None)}
        for key, (name, value) in replaced.items():
            if requested(key) and wanted.get(key) != value:
                raise UserError(
                    f"{key} has no effect on {_IN_WORDS[name]} of your own", where=f"{name}=", fix="leave it out"
                )
            wanted[key] = value

    def check(self, recipe: Recipe, verb: str) -> None:
        """Raise UserError where a run cannot use these objects."""
        if self.model is not None and verb == "finetune":
            raise UserError(
                "finetune knows the stages and heads of restune's own networks only",
                where="model=",
                fix="load the weights into the module and call restune.train(data, model=MODULE); parameters with "
                "requires_grad=False stay as they are",
            )
        if self.model is not None and set(recipe.spec) - {"in_channels"}:
            name = min(set(recipe.spec) - {"in_channels"})
            raise UserError(f"{name} has no effect on a module of your own", where=f"{name}=", fix="leave it out")
        for name in ("loss", "augment", "on_step"):
            if recipe.fits_head and getattr(self, name) is not None:
                raise UserError(
                    f"{name} has no effect here: the head is fitted by logistic regression, not trained",
                    where=f"{name}=",
                    fix='leave it out, or train the head with set={"head": "sgd"}',
                )


def take_custom(options: Mapping[str, Any]) -> tuple[dict[str, Any], Custom]:
    """Divide the options of `train` and `finetune` into settings of a recipe and objects. Raises UserError for an
    object of the wrong type."""
    settings, objects = dict(options), {}
    if _is_module(settings.get("model")):
        objects["model"] = settings.pop("model")
    for name in ("loss", "augment"):
        if callable(settings.get(name)):
            objects[name] = settings.pop(name)
    for name in ("on_epoch", "on_step"):
        function = settings.pop(name, None)
        if function is not None and not callable(function):
            raise UserError(f"{name} must be a function of one argument, not {function!r}", where=f"{name}=")
        objects[name] = function
    objects["track"] = check_tool(settings.pop("track", None))
    return settings, Custom(**objects)


def reject_missing(recipe: Recipe, handed: list[str], where: str) -> None:
    """Raise UserError if a recipe was made with objects that are not handed over this time."""
    missing = [name for name in recipe.custom if name not in handed and name != "block"]  # the spec finds a block
    if missing:
        listed = " and ".join(_IN_WORDS[name] for name in missing)
        raise UserError(
            f"this run was made with {listed} of its own, which a recipe cannot hold",
            where=where,
            fix="pass it in Python: restune.train(data, ..., " + ", ".join(f"{name}=..." for name in missing) + ")",
        )


def recipe_comment(custom: Custom, names: list[str]) -> str:
    """Return the comment in recipe.yaml that says what the recipe does not hold; empty for most runs."""
    watching = [name for name in ("on_epoch", "on_step") if getattr(custom, name) is not None]
    if not names and not watching:
        return ""
    described = [f"{name} ({_described(getattr(custom, name, None)) or _IN_WORDS[name]})" for name in names]
    text = f"# not in this file, pass it again in Python: {', '.join(described)}\n" if names else ""
    return text + (f"# called during the run, not needed to repeat it: {', '.join(watching)}\n" if watching else "")


def _described(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or (type(value).__qualname__ if value is not None else "")
    return " ".join(str(name).split())[:100]


def _is_module(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return False
    if isinstance(value, type) and hasattr(value, "state_dict"):
        raise UserError("model is a class", where="model=", fix=f"pass a module, such as {value.__name__}(...)")
    return hasattr(value, "forward") and hasattr(value, "state_dict")
