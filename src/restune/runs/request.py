"""From options to a settled recipe and a folder for the run, new or taken up again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from restune.core.errors import UserError, shorten
from restune.core.files import cannot_write, user_path
from restune.data.augment import OF_KINDS
from restune.data.preprocess import NOUNS
from restune.training.recipe import Recipe, parse_duration, read_recipe

_SHORT = {"lr": "optimizer.lr"}
"""Options whose recipe key has another name."""

_WEIGHTS_DECIDE = "the input is what the weights were trained with"
_HEAD_IS_SOLVED = "the head is solved, not trained (head=sgd trains it)"

_IDLE: tuple[tuple[str, Callable[[Recipe], bool], str], ...] = (
    ("optimizer.nesterov", lambda r: r.optimizer.name == "adamw", "AdamW has no Nesterov momentum"),
    ("optimizer.beta2", lambda r: r.optimizer.name == "sgd", "SGD has no beta2"),
    ("schedule.milestones", lambda r: r.schedule.name != "step", "only the step schedule has milestones"),
    ("schedule.gamma", lambda r: r.schedule.name != "step", "only the step schedule has a gamma"),
    ("schedule.peak", lambda r: r.schedule.name != "one-cycle", "only one-cycle has a peak"),
    ("schedule.warmup_epochs", lambda r: r.schedule.name == "one-cycle", "one-cycle is its own warm-up"),
    ("augment.rand_ops", lambda r: r.augment.policy != "rand", "only the policy rand chains operations"),
    ("augment.rand_magnitude", lambda r: r.augment.policy != "rand", "only the policy rand has a magnitude"),
    ("augment.crop_ratio", lambda r: r.augment.crop_scale is None, "without crop_scale there is no random crop"),
    ("epochs", lambda r: r.time is not None, "with --time the clock decides"),
    ("steps", lambda r: r.time is not None, "with --time the clock decides"),
    ("steps", lambda r: r.epochs is not None and r.steps is not None, "epochs are set"),
    ("keep_statistics", lambda r: r.weights is None, "without weights there are no statistics to keep"),
    ("text.min_count", lambda r: r.text.tokens == "bytes", "bytes have no vocabulary"),
    ("text.vocabulary", lambda r: r.text.tokens == "bytes", "bytes have no vocabulary"),
    ("text.tokens", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("text.min_count", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("text.vocabulary", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("signal.normalization", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("views", lambda r: r.freeze == "none", "views are of frozen layers, and none are frozen"),
    ("cache", lambda r: r.freeze == "none", "what is kept is what frozen layers compute, and none are frozen"),
    ("head", lambda r: r.freeze not in ("all", "auto"), "the head is solved with --freeze all and auto"),
    ("monitor", lambda r: r.val == 0 and r.monitor != "train_loss", "no items are held out to be monitored"),
    ("early_stopping", lambda r: r.val == 0 and r.monitor != "train_loss", "no items are held out to be monitored"),
    ("store_size", lambda r: _is_solved(r), "a solved head sees images as they will be in use"),
    ("augment.repeats", lambda r: _is_solved(r), "a solved head has --views for that"),
    ("smoke", lambda r: _is_solved(r) and r.smoke, _HEAD_IS_SOLVED),
    ("epochs", lambda r: _is_solved(r), _HEAD_IS_SOLVED),
    ("batch_size", lambda r: _is_solved(r), _HEAD_IS_SOLVED),
    ("optimizer", lambda r: _is_solved(r), _HEAD_IS_SOLVED),
    ("schedule", lambda r: _is_solved(r), _HEAD_IS_SOLVED),
    ("ema", lambda r: _is_solved(r), _HEAD_IS_SOLVED),
    ("early_stopping", lambda r: _is_solved(r), _HEAD_IS_SOLVED),
    ("checkpoint", lambda r: _is_solved(r), _HEAD_IS_SOLVED),
)
"""Settings, or sections of them, that do nothing when this holds, and why: asking for one is an error."""


_SETTLED = (
    *("model", "preprocess", "image_size", "precision", "memory_format", "compile", "device"),
    *("threads", "workers", "micro_batch", "epochs"),
)
"""Keys that may be open when a run is asked for, and are settled in its recipe.yaml."""


def _is_solved(recipe: Recipe) -> bool:
    return recipe.freeze == "all" and recipe.head == "solve"


USUAL_RECIPES = {
    "train": {"image": "default", "signal": "series", "sound": "sounds", "text": "text", "video": "video"},
    "finetune": {
        "image": "finetune",
        "signal": "finetune-series",
        "sound": "finetune-series",
        "text": "finetune-text",
        "video": "finetune-video",
    },
}
"""The recipe of a verb where none is named, by the kind of data."""


class Request:
    """What was asked for: a recipe or none, options, and single settings. Raises UserError for what cannot be.

    Args:
        verb: whose usual recipe is taken where none is named.
        recipe: a shipped recipe's name, or a file.
        options: the command line's, with underscores; None for what was not named.
        changes: settings by dotted key, which win over options.
    """

    def __init__(self, verb: str, recipe: str | Path | None, options: dict[str, Any], changes: dict[str, Any]) -> None:
        self.verb, self.recipe = verb, recipe
        given = {_SHORT.get(key, key): value for key, value in options.items() if value is not None}
        if "time" in given:
            given["time"] = parse_duration(given["time"])
        for key in ("weights", "model", "val", "test"):
            if isinstance(given.get(key), Path):
                given[key] = str(given[key])
        self.given, self.changes = given, changes
        made = self._made("image")
        if recipe is not None:  # what does nothing is known before any data is read
            self._reject_idle(made)
        self.device = made.device

    def has(self, key: str) -> bool:
        """Whether a setting was asked for."""
        return self._asked(key) is not None

    def settled(self, kind: str, *, sounds: bool = False) -> Recipe:
        """The recipe for this kind of data. Raises UserError for what has no effect on it."""
        made = self._made("sound" if sounds else kind)
        self._reject_idle(made)
        self._reject_other_kinds(made, kind)
        return made

    def _made(self, kind: str) -> Recipe:
        read = read_recipe(self.recipe or USUAL_RECIPES[self.verb][kind])
        given = dict(self.given)
        sections = [f"{section}." for section in _SECTIONS]
        if given.get("image_size") not in (None, read.image_size) or any(
            key.startswith(tuple(sections)) for key in (*given, *self.changes)
        ):
            given["preprocess"] = None  # a stored one is for what it was stored with
        short = {"epochs": 1, "time": None} if given.get("smoke") else {}
        wanted = {**given, **self.changes, **short}
        for one, other in (("epochs", "steps"), ("steps", "epochs")):  # the one that is asked for decides
            if wanted.get(one) is not None and other not in wanted:
                wanted[other] = None
        if "schedule.warmup_epochs" in wanted:
            wanted.setdefault("schedule.warmup_share", None)
        return read.changed(wanted)

    def _reject_idle(self, made: Recipe) -> None:
        for key, is_idle, why in _IDLE:
            asked = self._asked(key)
            if asked is not None and is_idle(made):
                raise UserError(f"{asked} has no effect here: {why}", where=self._option(asked), fix="leave it out")

    def _asked(self, key: str) -> str | None:
        """The setting by which a key, or something in its section, was asked for."""
        asked = (*self.given, *self.changes)
        return next((name for name in asked if name == key or name.startswith(f"{key}.")), None)

    def _option(self, key: str) -> str:
        """How a setting was asked for."""
        return f"--{key.replace('_', '-')}" if key in self.given and key not in self.changes else f"--set {key}"

    def _reject_other_kinds(self, made: Recipe, kind: str) -> None:
        """Raise UserError for settings that only other kinds of data know, whether asked for or in a recipe."""
        foreign = [f"{other}.{name}" for other, names in _SECTIONS.items() if other != kind for name in names]
        known = set().union(*OF_KINDS.values())
        foreign += [f"augment.{name}" for name in known - OF_KINDS[kind]]
        foreign += {"image": [], "video": ["store_size"]}.get(kind, ["store_size", "image_size"])
        foreign += ["mixup", "cutmix"] if kind == "text" else ["cutmix"] if kind != "image" else []
        for key in sorted(foreign):
            if _value(made, key) != _value(Recipe(), key):
                raise UserError(
                    f"{key} has no effect here: the data is {NOUNS[kind]}",
                    where=self._option(key) if self.recipe is None or self._asked(key) else f"--recipe {self.recipe}",
                    fix="leave it out" if self._asked(key) else f"use --recipe {USUAL_RECIPES[self.verb][kind]}",
                )


_SECTIONS = {name: tuple(getattr(Recipe(), name).model_dump()) for name in ("signal", "text", "video")}
"""Sections of a recipe that belong to one kind of data."""


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def run_folder(verb: str, out: str | Path | None, *, resume: bool) -> tuple[Path, bool]:
    """The run's folder, and whether there is a run in it to go on with."""
    if out is None:
        if resume:
            raise UserError("which run is to go on?", where="--resume", fix="name its folder with --out")
        number = 1
        while (Path("runs") / f"{verb}-{number:03d}").exists():
            number += 1
        folder = Path("runs") / f"{verb}-{number:03d}"
    else:
        folder = user_path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = any(folder.iterdir())
    except OSError as error:
        raise cannot_write(folder, error) from error
    if there and not resume:
        raise UserError("this folder is not empty", where=str(folder), fix="name another with --out, or add --resume")
    return folder, there and (folder / "recipe.yaml").exists()


def stored_recipe(folder: Path, asked: Recipe, *, accept_changes: bool) -> Recipe:
    """The recipe of the run that goes on. Raises UserError where it was asked for something else."""
    stored = read_recipe(folder / "recipe.yaml")
    old, new = stored.model_dump(mode="json"), asked.model_dump(mode="json")
    differing = [key for key in new if new[key] != old[key] and not (key in _SETTLED and new[key] in (None, "auto"))]
    if differing and not accept_changes:
        raise UserError(
            "the recipe is not the one this run began with: "
            + shorten(f"{key} was {old[key]!r}, is {new[key]!r}" for key in differing),
            where=str(folder),
            fix="use the same options, or --accept-changes",
        )
    fixed = [key for key in differing if _is_fixed(key, old[key], new[key])]
    if fixed:
        raise UserError(
            "this cannot change in a run that has begun: "
            + shorten(f"{key} was {old[key]!r}, is {new[key]!r}" for key in fixed),
            where=str(folder),
            fix="leave it as it was, or start another run with --out",
        )
    kept = {key: old[key] for key in _SETTLED if new[key] in (None, "auto")}
    if new["image_size"] not in (None, old["image_size"]):
        kept.pop("preprocess", None)
    return asked.changed(kept) if differing else stored


def _is_fixed(key: str, old: Any, new: Any) -> bool:
    """Whether what a checkpoint holds would no longer fit."""
    if key == "optimizer":
        return bool(old["name"] != new["name"])
    if key == "ema":
        return (old["decay"] is None) != (new["decay"] is None)
    return key in ("model", "spec", "freeze", "head", "weights") and not (key in _SETTLED and new is None)
