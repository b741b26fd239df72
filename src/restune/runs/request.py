"""The request of a run: a recipe, options and single settings, checked and merged into one recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.data.kinds import IMAGE, KINDS, Kind
from restune.networks.registry import block_name
from restune.runs.custom import reject_missing, take_custom
from restune.runs.network_options import check_network_options, named_fully
from restune.training.recipe import Recipe, parse_duration, read_recipe

_SHORT = {"lr": "optimizer.lr", "teacher": "teacher.model"}
"""Options whose recipe key has another name."""

_WEIGHTS_DECIDE = "the input is that of the weights"
_HEAD_IS_FITTED = "the head is fitted by logistic regression, not trained (head=sgd trains it)"
_NO_TEACHER = "there is no teacher"
_ASKED_ABOUT_ONE = "the teacher is asked once about whole, single items"

_ONE_OPTIMIZER = "only beside Muon are other parameters trained by SGD (optimizer.name=muon)"

_IDLE: tuple[tuple[str, Callable[[Recipe], bool], str], ...] = (
    ("optimizer.nesterov", lambda r: r.optimizer.name in ("adam", "adamw"), "only SGD and Muon have Nesterov momentum"),
    ("optimizer.beta2", lambda r: r.optimizer.name == "sgd", "SGD has no beta2"),
    ("optimizer.beta2", lambda r: r.optimizer.name == "muon", "Muon has no beta2"),
    ("optimizer.sgd_lr", lambda r: r.optimizer.name != "muon", _ONE_OPTIMIZER),
    ("optimizer.sgd_momentum", lambda r: r.optimizer.name != "muon", _ONE_OPTIMIZER),
    ("schedule.milestones", lambda r: r.schedule.name != "step", "only the step schedule has milestones"),
    ("schedule.gamma", lambda r: r.schedule.name != "step", "only the step schedule has a gamma"),
    ("schedule.peak", lambda r: r.schedule.name != "one-cycle", "only one-cycle has a peak"),
    ("schedule.warmup_epochs", lambda r: r.schedule.name == "one-cycle", "one-cycle is its own warm-up"),
    ("augment.border", lambda r: r.augment.shift == 0, "images are not shifted"),
    ("augment.alternate_flip", lambda r: r.augment.flip is False, "images are not mirrored"),
    ("augment.rand_ops", lambda r: r.augment.policy != "rand", "only the policy rand chains operations"),
    ("augment.rand_magnitude", lambda r: r.augment.policy != "rand", "only the policy rand has a magnitude"),
    ("augment.crop_ratio", lambda r: r.augment.crop_scale is None, "without crop_scale there is no random crop"),
    ("epochs", lambda r: r.time is not None, "with --time the clock decides"),
    ("steps", lambda r: r.time is not None, "with --time the clock decides"),
    ("steps", lambda r: r.epochs is not None and r.steps is not None, "epochs are set"),
    ("keep_statistics", lambda r: r.spec.get("norm") == "group", "group norm does not keep statistics"),
    ("sync_batch_norm", lambda r: r.spec.get("norm") == "group", "group norm does not keep statistics"),
    ("keep_statistics", lambda r: r.weights is None, "without weights there are no statistics to keep"),
    ("text.min_count", lambda r: r.text.tokens == "bytes", "bytes have no vocabulary"),
    ("text.vocabulary", lambda r: r.text.tokens == "bytes", "bytes have no vocabulary"),
    ("text.tokens", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("text.min_count", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("text.vocabulary", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("signal.normalization", lambda r: r.weights is not None, _WEIGHTS_DECIDE),
    ("views", lambda r: r.freeze == "none", "views are for frozen layers, and no layer is frozen"),
    ("cache", lambda r: r.freeze == "none", "the cache is for activations of frozen layers, and no layer is frozen"),
    ("head", lambda r: r.freeze not in ("all", "auto"), "logistic regression fits the head with --freeze all and auto"),
    ("monitor", lambda r: r.val == 0 and r.monitor != "train_loss", "there are no validation items to monitor"),
    ("early_stopping", lambda r: r.val == 0 and r.monitor != "train_loss", "there are no validation items to monitor"),
    ("ema.every", lambda r: r.ema.decay is None, "there is no average (ema.decay)"),
    ("ema.ramp", lambda r: r.ema.decay is None, "there is no average (ema.decay)"),
    ("store_size", lambda r: r.fits_head, "the head is fitted on images preprocessed as at inference"),
    ("augment.repeats", lambda r: r.fits_head, "use --views for a fitted head"),
    ("smoke", lambda r: r.fits_head and r.smoke, _HEAD_IS_FITTED),
    ("epochs", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("batch_size", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("optimizer", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("schedule", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("ema", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("image_sizes", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("early_stopping", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("checkpoint", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("teacher", lambda r: r.fits_head, _HEAD_IS_FITTED),
    ("teacher.temperature", lambda r: r.teacher.model is None, _NO_TEACHER),
    ("teacher.weight", lambda r: r.teacher.model is None, _NO_TEACHER),
    ("teacher.views", lambda r: r.teacher.model is None, _NO_TEACHER),
    ("mixup", lambda r: r.teacher.model is not None, _ASKED_ABOUT_ONE),
    ("cutmix", lambda r: r.teacher.model is not None, _ASKED_ABOUT_ONE),
    ("augment.erase", lambda r: r.teacher.model is not None, _ASKED_ABOUT_ONE),
)
"""Settings or sections, the condition under which they have no effect, and why; requesting one is then an error."""


class Request:
    """A recipe or none, options, and single settings. Raises UserError for wrong values.

    Args:
        verb: whose default recipe is taken where none is named.
        recipe: a shipped recipe's name, or a file.
        options: the command line's, with underscores; None for those that were not used. From Python also options of
            networks, such as `width`, and the objects of `Custom`.
        changes: settings by dotted key, which win over options.
        resumes: the recipe of the run to resume, taken where no recipe is named: settings that are not requested stay.
    """

    def __init__(
        self,
        verb: str,
        recipe: str | Path | None,
        options: dict[str, Any],
        changes: dict[str, Any],
        resumes: Path | None = None,
    ) -> None:
        self.verb, self.recipe = verb, recipe or resumes
        self.resumes = recipe is None and resumes is not None
        settings, self.custom = take_custom(options)
        used = {_SHORT.get(key, key): value for key, value in named_fully(settings).items() if value is not None}
        for changed in (used, changes):
            if isinstance(changed.get("spec.block"), type):
                changed["spec.block"] = block_name(changed["spec.block"])
        if self.resumes and not used.get("smoke"):
            used.pop("smoke", None)
        if "time" in used:
            used["time"] = parse_duration(used["time"])
        for key in ("weights", "model", "val", "test", "teacher.model"):
            if isinstance(used.get(key), Path):
                used[key] = str(used[key])
        self.options, self.changes = used, changes
        resolved = self._recipe(IMAGE, None)
        check_network_options(resolved.model, resolved.spec)
        if self.recipe is not None:  # settings without effect are found before any data is read
            self._reject_idle(resolved)
        self.device, self.seed = resolved.device, resolved.seed

    def has(self, key: str) -> bool:
        """Return whether a setting was requested."""
        return self._setting(key) is not None

    def recipe_for(self, kind: Kind, form: str | None = None) -> Recipe:
        """Return the recipe for this kind of data. Raises UserError for settings without effect on it.

        Args:
            form: of the kind, such as ``sound``.
        """
        recipe = self._recipe(kind, form)
        self._reject_idle(recipe)
        self._reject_other_kinds(recipe, kind, form)
        return recipe

    def _recipe(self, kind: Kind, form: str | None) -> Recipe:
        base = read_recipe(self.recipe or kind.recipe(self.verb, form))
        options = dict(self.options)
        sections = tuple(f"{other.section}." for other in KINDS.values() if other.section)
        if options.get("image_size") not in (None, base.image_size) or any(
            key.startswith(sections) for key in (*options, *self.changes)
        ):
            options["preprocess"] = None  # a stored one belongs to the settings it was stored with
        short = {"epochs": 1, "time": None} if options.get("smoke") else {}
        wanted = {**options, **self.changes, **short}
        for one, other in (("epochs", "steps"), ("steps", "epochs")):  # the requested one decides
            if wanted.get(one) is not None and other not in wanted:
                wanted[other] = None
        if self.resumes and wanted.get("epochs") is not None:  # a run by the clock goes on by epochs
            wanted.setdefault("time", None)
        if "schedule.warmup_epochs" in wanted:
            wanted.setdefault("schedule.warmup_share", None)
        self.custom.settle(wanted, self.has)
        recipe = base.changed(wanted)
        names = self.custom.names(recipe.spec)
        reject_missing(base, names, f"--recipe {self.recipe}")
        recipe = recipe.changed({"custom": names}) if [*recipe.custom] != names else recipe
        self.custom.check(recipe, self.verb)
        return recipe

    def without_idle(self, settings: Mapping[str, Any], kind: Kind, form: str | None = None) -> dict[str, Any]:
        """Return those of some settings that have an effect in this request's recipe once all of them are made.

        Args:
            settings: by dotted key.
            kind, form: of the data, as of `recipe_for`.
        """
        recipe = self._recipe(kind, form).changed(settings)
        idle = [key for key, is_idle, _ in _IDLE if is_idle(recipe)]
        return {
            name: value
            for name, value in settings.items()
            if not any(name == key or name.startswith(f"{key}.") for key in idle)
        }

    def _reject_idle(self, recipe: Recipe) -> None:
        for key, is_idle, why in _IDLE:
            setting = self._setting(key)
            if setting is not None and is_idle(recipe):
                raise UserError(f"{setting} has no effect here: {why}", where=self._option(setting), fix="leave it out")

    def _setting(self, key: str) -> str | None:
        """Return the requested setting that is this key or lies in its section."""
        asked = (*self.options, *self.changes)
        return next((name for name in asked if name == key or name.startswith(f"{key}.")), None)

    def _option(self, key: str) -> str:
        """Return the option by which a setting was requested."""
        return f"--{key.replace('_', '-')}" if key in self.options and key not in self.changes else f"--set {key}"

    def _reject_other_kinds(self, recipe: Recipe, kind: Kind, form: str | None) -> None:
        """Raise UserError for settings that only other kinds of data have, whether requested or in a recipe."""
        for key in sorted(foreign_settings(kind)):
            if _value(recipe, key) != _value(Recipe(), key):
                asked = self._setting(key)
                raise UserError(
                    f"{key} has no effect here: the data is {kind.noun}",
                    where=self._option(key) if self.recipe is None or asked else f"--recipe {self.recipe}",
                    fix="leave it out" if asked else f"use --recipe {kind.recipe(self.verb, form)}",
                )


def foreign_settings(kind: Kind) -> set[str]:
    """Return the dotted keys of settings that other kinds of data have and this one does not."""
    others = [other for other in KINDS.values() if other != kind]
    fields = {f"augment.{name}" for other in others for name in other.augment_fields - kind.augment_fields}
    fields |= {name for other in others for name in other.recipe_fields - kind.recipe_fields}
    for other in others:
        if other.section:
            fields |= {f"{other.section}.{name}" for name in getattr(Recipe(), other.section).model_dump()}
    return fields


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value
