"""The network that a run starts from, what its input is, and how training changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.core.streams import torch_seed
from restune.data.augment import Augment
from restune.data.dataset import Dataset
from restune.data.preprocess import NOUNS, Preprocess
from restune.data.preprocess.text import TextPreprocess
from restune.networks import zoo
from restune.networks.resnet import ResNet
from restune.networks.seeding import seeded
from restune.training.recipe import Recipe
from restune.runs.preprocessing import starting_preprocess
from restune.weights import hub
from restune.weights.load import Weights, infer_model, load_into, read_weights, reject_other_structure


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from.

    Args:
        name: the zoo's name for its network; None for a home-made one.
        origin: its weights; None from scratch.
        preprocess: what its input is, as far as that does not depend on which items train.
    """

    name: str | None
    origin: Weights | None
    preprocess: Preprocess


def starting_point(recipe: Recipe, dataset: Dataset, verb: str, encoding: str | None = None) -> Start:
    """The weights that a run starts from, and the input it wants. Raises UserError for weights of another kind."""
    origin = read_weights(recipe.weights or _usual_weights(recipe.model, dataset.kind)) if verb == "finetune" else None
    name = recipe.model or "resnet18"
    if origin is not None:
        own = origin.model if origin.info or origin.spec is not None else infer_model(origin)
        if recipe.model not in (None, own):
            raise UserError(
                f"these weights are {own or 'a home-made network'}'s, not {recipe.model}'s",
                where=origin.source,
                fix="leave --model out, or name other weights",
            )
        name = own or ""
    reads = _kind(origin, name)
    if reads != dataset.kind:
        raise UserError(
            f"{name or 'this network'} reads {NOUNS[reads]}, the data is {NOUNS[dataset.kind]}",
            where=dataset.source if origin is None else origin.source,
            fix="name a network for this data with --model; `restune models` lists them"
            if origin is None
            else "name weights of a network for such data",
        )
    preprocess = starting_preprocess(recipe, name, origin, dataset)
    if encoding is not None and preprocess.kind == "text":
        preprocess = preprocess.override(encoding=encoding)
    return Start(name=name or None, origin=origin, preprocess=preprocess)


def _kind(origin: Weights | None, name: str) -> str:
    """What a network reads: as its weights say, else as the zoo does, else by its dimensions."""
    if origin is not None and origin.preprocess is not None:
        return origin.preprocess.kind
    if name in zoo.ZOO:
        return zoo.ZOO[name].kind
    if origin is None or origin.spec is None:
        return zoo.find(name).kind  # which says what may have been meant
    return {1: "text" if origin.spec.vocabulary else "signal", 2: "image", 3: "video"}[origin.spec.dims]


def starting_network(start: Start, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> ResNet:
    """The network that a run starts from, with a fresh head, in one that was trained before the only new layer."""
    with seeded(torch_seed(recipe.seed, "initial weights")):
        return _starting_network(start, recipe, dataset, preprocess)


def _starting_network(start: Start, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> ResNet:
    origin = start.origin
    spec = origin.spec if origin is not None and origin.spec is not None else zoo.find(start.name or "").spec
    reads: dict[str, Any] = {"in_channels": preprocess.channels}
    if isinstance(preprocess, TextPreprocess):
        reads = {"vocabulary": preprocess.vocabulary_size}
    decided = [key for key in recipe.spec if key == "vocabulary" or (key in reads and dataset.kind == "signal")]
    if decided:
        raise UserError(
            f"{decided[0]} follows from the data and cannot be set",
            where=f"--set spec.{decided[0]}",
            fix="leave it out",
        )
    spec = spec.override(**{**reads, **recipe.spec, "num_classes": len(dataset.classes)})
    network = ResNet(spec)
    if origin is not None:
        reject_other_structure(origin, spec)
        note(f"{start.name or 'network'} from {origin.source}: {load_into(network, origin)}")
        network.reset_head(len(dataset.classes))
        known = f"{origin.num_classes} classes" if origin.num_classes else "no classes"
        note(f"the head, made for {known}, is replaced by one for {len(dataset.classes)}: {shorten(dataset.classes)}")
    return network


def _usual_weights(name: str | None, kind: str) -> str:
    """The published weights that a network is fine-tuned from where none are named."""
    available = hub.available(name or {"image": "resnet18", "video": "r3d_18"}.get(kind, ""))
    if not available and name is None:
        raise UserError(
            f"there are no published weights for {NOUNS[kind]}", where="--weights", fix="name a run of yours, or a file"
        )
    if not available:
        raise UserError(
            f"there are no published weights for {name}", where="--weights", fix="name a file, a bundle or a run"
        )
    return available[0]


_WINDOW, _LEAST_WINDOW = 256, 0.5
_SAMPLED = 200


def with_window(augment: Augment, recipe: Recipe, preprocess: Preprocess, train: Dataset) -> Augment:
    """The window that random views of series keep, where the recipe leaves it to their usual length."""
    if preprocess.kind != "signal" or recipe.augment.window is not None:
        return augment
    lengths = [preprocess.whole(item.location.read()).shape[1] for item in train.items[:_SAMPLED]]
    usual = sorted(lengths)[len(lengths) // 2]
    window = min(1.0, max(_LEAST_WINDOW, _WINDOW / usual))
    if window < 1:
        note(f"augment.window: {window:.2f} (series of {usual} values)")
    return replace(augment, window=window)


def settled_augment(recipe: Recipe, dataset: Dataset) -> Augment:
    """The recipe's augmentation, with mirroring decided: never for digits and letters, nor for motion."""
    settings = recipe.augment.model_dump()
    settings["window"] = settings["window"] or 1.0
    if dataset.kind != "image":
        settings["flip"] = bool(settings["flip"])  # left and right may be what classes of motion differ by
    if settings["flip"] is None:
        characters = all(len(name) == 1 for name in dataset.classes)
        settings["flip"] = not characters
        if characters:
            note("classes are single characters: images are not mirrored (augment.flip=true to do so)")
    return Augment(**settings)
