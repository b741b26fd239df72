"""Recipes: all settings of a training run as one validated document, read from and written to YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from restune.core.errors import UserError, did_you_mean
from restune.core.files import is_there, user_path
from restune.networks.spec import SHORTHANDS, ResNetSpec
from restune.training.recipe_advice import allowed_values, unknown_key

Rate = float
_MOST_BYTES = 64 * 1024
_MOST_VALUES = 10_000
_MOST_BITS = 128


class _Section(BaseModel):
    """Base of the sections: rejects unknown keys, accepts numbers as text (PyYAML reads 1e-3 as text)."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="after")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value


class OptimizerRecipe(_Section):
    """Optimiser settings. Norms and biases get no weight decay."""

    name: Literal["sgd", "adamw", "adam", "muon"] = "sgd"
    """muon: Muon for the stages' convolutions, SGD for all other parameters."""
    lr: float = Field(0.1, gt=0, le=100)
    """Peak learning rate, for the recipe's batch size. Muon's is relative to filters of norm 1."""
    weight_decay: float = Field(5e-4, ge=0, le=10)
    """Not of Muon's parameters, whose norm is fixed."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD's or Muon's momentum, or Adam's and AdamW's first beta."""
    sgd_lr: float = Field(0.05, gt=0, le=100)
    """With muon, the peak learning rate of all other parameters."""
    sgd_momentum: float = Field(0.85, ge=0, lt=1)
    """With muon, the momentum of all other parameters."""
    beta2: float = Field(0.999, ge=0, lt=1)
    nesterov: bool = True
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Each stage's learning rate is that of the stage above it times this."""
    clip_norm: float | None = Field(None, gt=0)
    """Gradients with a larger norm are scaled down to it."""
    accumulate: int = Field(1, ge=1, le=1024)
    """Batches over which gradients are averaged before a step."""


class ScheduleRecipe(_Section):
    """Learning-rate schedule."""

    name: Literal["cosine", "linear", "step", "one-cycle", "constant"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    """Linear warm-up from `start` times the peak. Not for one-cycle, which has its own."""
    warmup_share: float | None = Field(None, ge=0, le=0.5)
    """The warm-up as a share of the run, instead of `warmup_epochs`."""
    start: float = Field(0.01, ge=0, le=1)
    final: float = Field(0.0, ge=0, le=1)
    """Share of the peak at the end of cosine, linear and one-cycle."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Shares of the run at which `step` multiplies by `gamma`."""
    gamma: float = Field(0.1, gt=0, le=1)
    peak: float = Field(0.3, gt=0, lt=1)
    """Share of the run at which one-cycle reaches its peak."""


class AugmentRecipe(_Section):
    """Augmentation settings; see `restune.data.augment.Augment`."""

    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    shift: int = Field(0, ge=0, le=512)
    border: Literal["zeros", "reflect"] = "zeros"
    """What a shift moves into the image: black, or the image's own mirrored edge."""
    flip: bool | None = None
    """null: mirror, unless the classes are ten or more single characters, which are taken for digits or letters."""
    alternate_flip: bool = False
    """Mirror each image in every other epoch, half of them in the first, instead of at random (Jordan 2024)."""
    policy: Literal["auto", "none", "trivial", "rand"] = "none"
    """auto: none in short runs, else trivial."""
    rand_ops: int = Field(2, ge=1, le=8)
    rand_magnitude: int = Field(9, ge=0, le=30)
    erase: float = Field(0.0, ge=0, le=1)
    repeats: int = Field(1, ge=1, le=16)
    jitter: float = Field(0.0, ge=0, le=10)
    scaling: float = Field(0.0, ge=0, le=10)
    warp: float = Field(0.0, ge=0, le=10)
    window: float | None = Field(1.0, gt=0, le=1)
    """null: the share that keeps 256 values of a typical series, at least half of it."""
    drop_tokens: float = Field(0.0, ge=0, lt=1)

    @field_validator("crop_scale", "crop_ratio", mode="after")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("must be two numbers above 0, the smaller first")
        return value


class SignalRecipe(_Section):
    """Preprocessing of series; see `restune.data.preprocess.signal.SignalPreprocess`."""

    normalization: Literal["series", "channel", "none"] = "series"
    rate: int | None = Field(None, ge=1, le=1_000_000)
    """Sample rate to which sounds are resampled, Hz; null: 16,000."""
    length: int | None = Field(None, ge=1, le=10_000_000)
    """Maximum values per channel; null: all."""


class TextRecipe(_Section):
    """Tokenisation of texts; see `restune.data.preprocess.text.TextPreprocess`."""

    tokens: Literal["words", "bytes"] = "bytes"
    length: int | None = Field(None, ge=1, le=1_000_000)
    """Maximum tokens per text, longer texts are cut; null: 128 words or 1,024 bytes."""
    min_count: int = Field(1, ge=1)
    """Words that occur fewer times in the training items are unknown."""
    vocabulary: int = Field(50_000, ge=1, le=199_998)
    """Maximum number of words; the most frequent are kept."""


class VideoRecipe(_Section):
    """Sampling of clips from videos; see `restune.data.preprocess.video.VideoPreprocess`."""

    frames: int | None = Field(None, ge=1, le=1024)
    """Frames per clip; null: as the weights, or the zoo entry."""
    rate: float | None = Field(None, gt=0, le=1000)
    """Frames per second to which a video is resampled; null: as the weights, or the video's own rate."""
    stride: int | None = Field(None, ge=1, le=1000)
    """Temporal stride: every n-th of these frames is kept; null: 1."""
    clips: int | None = Field(None, ge=1, le=100)
    """Clips scored per video, evenly spaced; null: 3."""


class TeacherRecipe(_Section):
    """Distillation from a trained model; see `restune.training.teacher.Teacher`."""

    model: str | None = None
    """The teacher: a run's folder, a model's file or published weights with the data's classes; null: none."""
    temperature: float = Field(4.0, gt=0, le=100)
    """Divides both networks' logits before their softmax."""
    weight: float = Field(0.9, ge=0, le=1)
    """Share of the teacher's term in the loss; the labels' term has the rest."""
    views: int | None = Field(None, ge=1, le=1000)
    """Augmented views per item, which epochs show in turn; the teacher computes each once. null: one per epoch, at most
    8, fewer where they would take more than 0.3 of a time budget."""


class EmaRecipe(_Section):
    """Exponential moving average of the weights; if on, the average is validated and saved."""

    decay: float | None = Field(None, gt=0, lt=1)
    """Weight of the old average at each step; null: off. Early in the run, (1 + step) / (10 + step) if that is less."""
    every: int = Field(1, ge=1, le=1000)
    """Steps between two updates, each of which counts for all of them."""
    ramp: float = Field(0.0, ge=0, le=10)
    """0: off; otherwise the decay is multiplied by the share of the run that is done to this power."""


class EarlyStoppingRecipe(_Section):
    """Stop when the monitored metric no longer improves."""

    patience: int | None = Field(None, ge=1)
    """Epochs without improvement; null: never."""
    min_delta: float = Field(0.0, ge=0)
    """Smaller gains do not reset the patience. The best weights are kept, however small the gain."""


class CheckpointRecipe(_Section):
    """When to write checkpoints, besides after each epoch."""

    every_steps: int | None = Field(None, ge=1)
    """Training waits for the write, so that at most this many steps can be lost."""
    every_minutes: float | None = Field(10.0, gt=0)
    """Written in the background, like the checkpoint after each epoch."""


class ImageSizePart(_Section):
    """A part of a run whose training images are resized; see `restune.training.image_sizes.ImageSizes`."""

    until: float = Field(gt=0, le=1)
    """Share of the run at which the part ends."""
    size: int = Field(ge=1, le=4096)
    """Side of the training images, pixels."""


class EarlierLength(_Section):
    """An earlier length of a run that was resumed with more epochs or time."""

    epochs: int | None = Field(None, ge=1)
    time: float | None = Field(None, gt=0)
    until_step: int = Field(ge=0)
    """Optimiser steps before this one follow the schedule of that many epochs."""


class Recipe(_Section):
    """Settings of one training run. Every key can be set by ``--set key=value``."""

    model: str | None = None
    """A zoo name; null: the network of the weights, or, from scratch, one chosen by the items' size and number."""
    weights: str | None = None
    """Source of the pretrained weights for fine-tuning."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """Changes to the network: `restune.create_model`'s overrides."""
    custom: tuple[Literal["model", "block", "loss", "augment"], ...] = ()
    """What the run was given in Python and this recipe does not hold."""
    preprocess: dict[str, Any] | None = None
    """The resolved inference preprocessing; null: as the weights, or the zoo entry, at `image_size`. Does not include
    a text vocabulary, which follows from the training items."""
    image_size: int | None = Field(None, ge=1, le=4096)
    image_sizes: tuple[ImageSizePart, ...] = ()
    """Progressive resizing: smaller training images in the first parts of the run, for example ``[{until: 0.4, size:
    20}, {until: 0.7, size: 26}]``; the rest and validation are at `image_size`."""
    store_size: int | None = Field(None, ge=1, le=4096)
    """Resize each image's shorter side to this and crop the centre square once, before augmentation, so that the data
    can be held in memory. Augmentation then works on the smaller images."""
    smoke: bool = False
    """Run two batches only, to check that everything works."""
    epochs: int | None = Field(90, ge=1, le=100_000)
    """Number of epochs; null: derived from `steps`."""
    steps: int | None = Field(None, ge=1, le=1_000_000_000)
    """Approximate number of optimiser steps, rounded to whole epochs, if `epochs` is null: small data sets get more
    epochs than large ones."""
    time: float | None = Field(None, gt=0)
    """Time budget, seconds; the schedule follows the clock and ends with it, whatever the number of epochs."""
    lengthened: tuple[EarlierLength, ...] = ()
    """Written by --resume with more --epochs or --time: the lengths before. The learning rate follows the schedule of
    the first length until its step, then the schedule of the next; phases of unfreezing stay where the first put them.
    """
    batch_size: int = Field(128, ge=1, le=65_536)
    micro_batch: int | None = Field(None, ge=1)
    """Items per forward and backward pass: gradients of a batch are accumulated over micro-batches, and each batch norm
    sees one micro-batch at a time. null: as many as fit in memory, at most the batch."""
    seed: int = Field(0, ge=0)
    val: float | str | None = None
    test: float | str | None = None
    min_class_items: int = Field(5, ge=1)
    monitor: Literal[
        "val_accuracy",
        "val_balanced_accuracy",
        "val_macro_f1",
        "val_map",
        "val_mae",
        "val_r2",
        "val_loss",
        "train_loss",
    ] = "val_accuracy"
    """The metric that decides which epoch is best; by default val_map of multi-label data, val_loss of regression."""
    loss: Literal["cross-entropy", "binary-cross-entropy", "huber", "squared-error"] = "cross-entropy"
    """The training loss; by default binary-cross-entropy of multi-label data, huber of regression."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["uniform", "balanced"] = "uniform"
    mixup: float = Field(0.0, ge=0, le=10)
    cutmix: float = Field(0.0, ge=0, le=10)
    freeze: Literal["auto", "all", "none"] | int = "none"
    """Frozen layers when fine-tuning: all but the head, none, the stem and stages 1 to K, or, with auto, all but the
    head at first and then fewer, from the top."""
    keep_statistics: bool = False
    """Keep the pretrained running statistics of batch norms fixed, also where their scales are trained: for fine-tuning
    with batches too small to estimate them."""
    norm_batches: int | None = Field(None, ge=0, le=1_000_000)
    """Training batches over which batch-norm statistics are estimated anew before each validation, for the weights that
    are validated; 0: the running averages are used. null: some batches in runs of few steps from scratch, else 0."""
    sync_batch_norm: bool = False
    """On several GPUs, compute batch-norm statistics over the batch of all processes."""
    head: Literal["solve", "sgd"] = "solve"
    """How to train the head on frozen layers: by logistic regression with a chosen L2 strength, or by SGD steps."""
    cache: bool = True
    """Cache the activations of frozen layers on disk and reuse them, in this run and later ones."""
    novelty: bool = True
    """Keep embeddings of at most 2,000 training items with the model, so that it can tell inputs unlike them."""
    views: int | None = Field(None, ge=1, le=1000)
    """Augmented copies per training item for frozen layers. Where the head is fitted, the first copy is not augmented;
    where layers are trained by SGD, all are augmented and epochs take them in turn. null: chosen automatically."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "channels-last", "contiguous"] = "auto"
    compile: Literal["auto", "yes", "no"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int | None = Field(None, ge=0, le=1024)
    threads: int | None = Field(None, ge=1, le=1024)
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    signal: SignalRecipe = SignalRecipe()
    text: TextRecipe = TextRecipe()
    video: VideoRecipe = VideoRecipe()
    teacher: TeacherRecipe = TeacherRecipe()
    ema: EmaRecipe = EmaRecipe()
    early_stopping: EarlyStoppingRecipe = EarlyStoppingRecipe()
    checkpoint: CheckpointRecipe = CheckpointRecipe()

    @model_validator(mode="after")
    def _has_a_length(self) -> Recipe:
        if self.epochs is None and self.steps is None and self.time is None:
            raise ValueError("epochs, steps or time must be set")
        return self

    @field_validator("image_sizes", mode="after")
    @classmethod
    def _in_order(cls, parts: tuple[ImageSizePart, ...]) -> tuple[ImageSizePart, ...]:
        if any(one.until >= other.until for one, other in pairwise(parts)):
            raise ValueError("each part must end later than the one before it")
        return parts

    @property
    def fits_head(self) -> bool:
        """Whether logistic regression fits the head on a frozen network, and nothing is trained step by step."""
        return self.freeze == "all" and self.head == "solve"

    def to_yaml(self, without: Collection[str] = ()) -> str:
        """Return all settings, defaults included, as YAML; `read_recipe` is the inverse.

        Args:
            without: dotted keys to leave out where they have their defaults; sections left empty go, too.
        """
        content, defaults = self.model_dump(mode="json"), Recipe().model_dump(mode="json")
        for key in without:
            section, _, name = key.rpartition(".")
            place, default = (content[section], defaults[section]) if section else (content, defaults)
            if place[name] == default[name]:
                del place[name]
        sections = {key.partition(".")[0] for key in without if "." in key}
        kept = {key: value for key, value in content.items() if value or key not in sections}
        return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return a copy with settings changed, by dotted key. Raises UserError for unknown keys and wrong values."""
        content = self.model_dump(mode="json")
        for key, value in changes.items():
            _set(content, key, value)
        return parse(content, "--set")


def parse(content: Mapping[str, Any], where: str) -> Recipe:
    """Build a recipe from plain values. Raises UserError with the key, the mistake and, if possible, a suggestion."""
    try:
        return Recipe(**content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown_key(key, all_keys(), where) from None
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{key}: {reason[0].lower()}{reason[1:]}",
            where=where,
            fix=allowed_values(Recipe, key, first["input"]),
        ) from None
    except TypeError as error:
        raise UserError(f"a recipe is a mapping of keys to values: {error}", where=where) from None


def read_recipe(name: str | Path) -> Recipe:
    """Read a shipped recipe by name, or a YAML file. Raises UserError. YAML tags are never executed."""
    path = user_path(name)
    shipped = shipped_recipes()
    if is_there(path) and path.is_file():
        text = _text(path)
    elif str(name) in shipped:
        text = (resources.files("restune") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        hint = did_you_mean(str(name), shipped) or f"the shipped ones are {', '.join(shipped)}"
        raise UserError(f"unknown recipe {str(name)!r}", where="--recipe", fix=hint)
    content = _plain_values(text, str(name))
    if not isinstance(content, dict):
        raise UserError("a recipe is a mapping of keys to values", where=str(name))
    return parse(content, str(name))


def read_settings(path: Path) -> Any:
    """Read plain values from a YAML file within the limits of recipes; tags are never executed. Raises UserError."""
    if not (is_there(path) and path.is_file()):
        raise UserError("there is no such file", where=str(path), fix="check the path")
    return _plain_values(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(f"a recipe has at most {_MOST_BYTES:,} bytes", where=str(path), fix="name a recipe file")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"this recipe cannot be read: {error}", where=str(path)) from error


def _plain_values(text: str, where: str) -> Any:
    """Parse YAML to plain values, tags rejected. Raises UserError, also for aliases that would expand without end."""
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # PyYAML raises any exception for invalid dates, invalid numbers and deep nesting
        reason = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        raise UserError(f"this is not valid YAML: {reason}", where=where) from error
    waiting, seen = [content], 0
    while waiting:
        value, seen = waiting.pop(), seen + 1
        if seen + len(waiting) > _MOST_VALUES:
            raise UserError(f"a recipe has at most {_MOST_VALUES:,} values, aliases expanded", where=where)
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise UserError(f"a number has more than {_MOST_BITS} bits", where=where, fix="use a smaller number")
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
    return content


def shipped_recipes() -> list[str]:
    """List the names of the recipes that come with restune."""
    folder = resources.files("restune") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)?\s*")


def parse_duration(value: str | float) -> float:
    """Parse ``90``, ``90s``, ``10m``, ``2 min``, ``1.5h`` or ``1h30m`` to seconds. Raises UserError.

    >>> parse_duration("1h30m"), parse_duration("2 min")
    (5400.0, 120.0)
    """
    seconds = float(value) if isinstance(value, int | float) else _seconds(value.strip().lower())
    if not 1 <= seconds <= 1e9:
        raise UserError(
            f"{value!r} is not a duration", where="--time", fix="write it like 90s, 10m or 1h30m, at least 1s"
        )
    return seconds


def _seconds(text: str) -> float:
    """The sum of numbers with units, each unit smaller than the one before; 0 for other texts."""
    parts = list(_PART.finditer(text))
    units = [(part[2] or "s")[0] for part in parts]
    is_whole = "".join(part[0] for part in parts) == text and bool(parts)
    if not is_whole or [*units] != sorted(set(units), key="hms".index):
        return 0.0
    return sum(float(part[1]) * _UNITS[unit] for part, unit in zip(parts, units, strict=True))


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split ``optimizer.lr=0.1`` into a key and a value, parsed as YAML. Raises UserError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{text!r} is not an assignment", where="--set", fix="write it as --set optimizer.lr=0.1")
    return key.strip(), _plain_values(value, f"--set {key}")


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    place = content
    for section in sections:
        inner = place.get(section)
        if not isinstance(inner, dict):
            raise unknown_key(key, [*all_keys(), *_network_keys()], "--set")
        place = inner
    if last not in place and sections != ["spec"]:
        raise unknown_key(key, [*all_keys(), *_network_keys()], "--set")
    place[last] = value


def _network_keys() -> list[str]:
    """List the keys of a network's options."""
    return [f"spec.{name}" for name in (*(option.name for option in fields(ResNetSpec)), *SHORTHANDS)]


def all_keys() -> list[str]:
    """List every dotted key of a recipe."""
    keys: list[str] = []
    for name, value in Recipe().model_dump().items():
        keys.extend(f"{name}.{inner}" for inner in value) if isinstance(value, dict) and value else keys.append(name)
    return keys
