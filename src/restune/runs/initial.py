"""The network that a run starts from: its weights, input and structure, and the augmentation of its data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.core.streams import torch_seed
from restune.data.augment import Augment
from restune.data.dataset import Dataset
from restune.data.kinds import Kind, kind_of, kind_of_network
from restune.data.preprocess import InputSettings, Preprocess, preprocess_from_dict
from restune.networks import zoo
from restune.networks.custom import CustomNetwork, CustomSpec, Network
from restune.networks.resnet import ResNet
from restune.networks.seeding import seeded
from restune.networks.spec import same_structure
from restune.runs.default_weights import default_weights
from restune.training.recipe import Recipe
from restune.weights.load import Weights, infer_model, load_into, read_weights, reject_other_structure


@dataclass(frozen=True, kw_only=True)
class Initial:
    """The initial state of a run.

    Args:
        name: the zoo's name for its network; None for a home-made one.
        weights: None for training from scratch.
        preprocess: the network's input, before it is fitted to the training items.
        settings: the recipe's settings of the input.
        module: to train in place of a network of restune's.
    """

    name: str | None
    weights: Weights | None
    preprocess: Preprocess
    settings: InputSettings
    module: nn.Module | None = None

    @property
    def kind(self) -> Kind:
        """The kind of data that its network takes."""
        return kind_of(self.preprocess.kind)

    def with_preprocess(self, preprocess: Preprocess) -> Initial:
        """Return the same with another input."""
        return replace(self, preprocess=preprocess)


def initial_state(
    recipe: Recipe, dataset: Dataset, verb: str, encoding: str | None = None, module: nn.Module | None = None
) -> Initial:
    """Read the weights that the run starts from, and settle its input. Raises UserError for weights of another kind."""
    kind = kind_of(dataset.kind)
    weights = None
    if verb == "finetune":
        weights = read_weights(recipe.weights) if recipe.weights else default_weights(recipe.model, dataset)
        _reject_contradictions(recipe, weights)
    name = recipe.model or "resnet18"
    if weights is not None:
        name = _network_name(weights, recipe.model)
    if module is not None:
        name = kind.pretrained or ""  # whose input a module gets unless image_size says otherwise
    takes = kind if module is not None else _kind_of_weights(weights, name)
    if module is None and takes is not kind and not (weights is None and kind.fits(zoo.find(name).spec)):
        raise UserError(
            f"{name or 'this network'} takes {takes.noun}, the data is {kind.noun}",
            where=dataset.source if weights is None else weights.source,
            fix="name a network for this data with --model; `restune models` lists them"
            if weights is None
            else "choose weights of a network for this kind of data",
        )
    settings = InputSettings(
        image_size=recipe.image_size,
        in_channels=recipe.spec.get("in_channels"),
        weights_channels=None if weights is None else weights.in_channels,
        section=getattr(recipe, kind.section).model_dump() if kind.section else {},
        encoding=encoding,
        from_weights=recipe.weights is not None,
    )
    preprocess = _initial_preprocess(recipe, name, weights, dataset, settings)
    if module is not None:
        name = ""
    return Initial(name=name or None, weights=weights, preprocess=preprocess, settings=settings, module=module)


def build_network(
    initial: Initial, recipe: Recipe, classes: tuple[str, ...], preprocess: Preprocess, task: str = "single-label"
) -> Network:
    """Build the network with its initial weights and a head for `classes`.

    The head is the only new layer where the network was trained before, and keeps the rows of classes (or labels) that
    the weights have, too, if these are for the same task; that of regression is always new. Raises UserError for spec
    settings that follow from the data, and for weights of another structure.
    """
    weights = initial.weights
    if initial.module is not None:
        return _custom_network(initial.module, classes, preprocess)
    spec = weights.spec if weights is not None and weights.spec is not None else zoo.find(initial.name or "").spec
    follows = [key for key in recipe.spec if key in ("vocabulary", *kind_of(preprocess.kind).spec_fields)]
    if follows:
        raise UserError(
            f"{follows[0]} follows from the data and cannot be set",
            where=f"--set spec.{follows[0]}",
            fix="leave it out",
        )
    spec = spec.override(**{**preprocess.spec_fields(), **recipe.spec, "num_classes": len(classes)})
    with seeded(torch_seed(recipe.seed, "initial weights")):
        network = ResNet(spec)
        if weights is None:
            return network
        reject_other_structure(weights, spec)
        report = load_into(network, weights)
        network.reset_head(len(classes))
    note(f"{initial.name or 'network'} from {weights.source}: {report}")
    before = "single-label" if weights.info is None else weights.info.task
    shares = task == before != "regression"
    note(_head_note(weights, classes, _copy_shared_rows(network, weights, classes) if shares else [], task))
    return network


def _custom_network(module: nn.Module, classes: tuple[str, ...], preprocess: Preprocess) -> CustomNetwork:
    """Give a module the face of a network. Raises UserError for one without initialised parameters."""
    parameters = list(module.parameters())
    if not parameters or any(isinstance(value, nn.UninitializedParameter) for value in parameters):
        what = "does not have parameters" if not parameters else "has lazy layers that are not initialised"
        raise UserError(f"the module {what}", where="model=", fix="run it once on an input before training")
    vocabulary = preprocess.spec_fields().get("vocabulary", 0)
    spec = CustomSpec(
        custom=type(module).__name__,
        dims=kind_of(preprocess.kind).dims,
        in_channels=preprocess.channels,
        vocabulary=vocabulary,
        num_classes=len(classes),
    )
    note(f"{spec.custom}: {sum(value.numel() for value in parameters):,} parameters, with the weights that it has")
    return CustomNetwork(module, spec)


def _reject_contradictions(recipe: Recipe, weights: Weights) -> None:
    """Raise UserError for options of the network that differ from those that the weights were trained with."""
    own = weights.spec if weights.spec is not None or weights.model is None else zoo.find(weights.model).spec
    if own is None or not recipe.spec:
        return
    wanted = own.override(**recipe.spec)
    if same_structure(own, wanted):
        return
    theirs, ours = asdict(own), asdict(wanted)
    differing = [key for key in ours if ours[key] != theirs[key]]
    key = next((key for key in differing if key in recipe.spec), None)
    raise UserError(
        f"{key}={recipe.spec[key]!r} contradicts the weights, which were trained with {key}={theirs[key]!r}"
        if key is not None
        else f"{shorten(f'{name}={value!r}' for name, value in recipe.spec.items())} contradicts the weights, whose "
        "blocks have another structure",
        where=weights.source,
        fix="leave it out, or train a network with it from scratch: restune train",
    )


@torch.no_grad()
def _copy_shared_rows(network: ResNet, weights: Weights, classes: tuple[str, ...]) -> list[str]:
    """Copy the head's rows of the classes that the weights have, too, by name. Returns these classes."""
    rows = {name: row for row, name in enumerate(weights.classes or ())}
    shared = [name for name in classes if name in rows]
    weight, bias = weights.state.get("fc.weight"), weights.state.get("fc.bias")
    if weight is None or bias is None or weight.shape[1:] != network.fc.weight.shape[1:] or len(rows) != len(weight):
        return []
    for row, name in enumerate(classes):
        if name in rows:
            network.fc.weight[row] = weight[rows[name]]
            network.fc.bias[row] = bias[rows[name]]
    return shared


def _head_note(weights: Weights, classes: tuple[str, ...], shared: list[str], task: str = "single-label") -> str:
    if task == "regression":
        return f"new head for regression: {shorten(classes)}"
    if shared and set(shared) == set(classes) == set(weights.classes or ()):
        return f"kept the head: the data has the weights' {len(classes)} classes"
    before = f"was {weights.head_classes}" if weights.head_classes else "the weights had none"
    kept = f"; kept the rows of {len(shared)} shared classes: {shorten(shared)}" if shared else ""
    if task == "multi-label":
        return f"new head for {len(classes)} labels ({before}): {shorten(classes)}{kept}"
    return f"new {len(classes)}-class head ({before}): {shorten(classes)}{kept}"


def resolve_augment(recipe: Recipe, dataset: Dataset) -> Augment:
    """Return the recipe's augmentation with horizontal flips resolved: none for digits, letters and videos."""
    settings = recipe.augment.model_dump()
    settings["window"] = settings["window"] or 1.0
    if settings["flip"] is None:
        settings["flip"] = kind_of(dataset.kind).mirrors and _survive_mirroring(dataset.classes)
    return Augment(**settings)


_LEAST_CHARACTERS = 10
"""Classes from which single-character names are taken for the characters shown: all digits, or most of an alphabet.
Fewer are the usual numbering of other classes, such as 0 and 1, or grades 0 to 4."""


def _survive_mirroring(classes: tuple[str, ...]) -> bool:
    """Return whether mirrored images still show their class; False for digits and letters. Notes the reason."""
    if not all(len(name) == 1 and name.isalnum() for name in classes):
        return True
    are_characters = len(classes) >= _LEAST_CHARACTERS
    if are_characters:
        note(f"classes are {len(classes)} characters: images are not mirrored (augment.flip=true mirrors them)")
    else:
        named = shorten(classes)
        note(f"classes are named {named}: images are mirrored (augment.flip=false if they show digits or letters)")
    return not are_characters


def preprocess_settings(preprocess: Preprocess) -> dict[str, Any]:
    """Return the preprocessing settings that a recipe stores: all but a vocabulary, rebuilt from the training items."""
    return {key: value for key, value in preprocess.to_dict().items() if key != "vocabulary"}


def _initial_preprocess(
    recipe: Recipe, name: str, weights: Weights | None, dataset: Dataset, settings: InputSettings
) -> Preprocess:
    """Return the preprocessing of the recipe, else of the weights, else of the zoo with the recipe's settings."""
    own = None if weights is None else weights.preprocess
    if recipe.preprocess is not None:
        stored = recipe.preprocess  # without a vocabulary, which is then the weights'
        known = own.to_dict() if own is not None and own.kind == stored.get("kind") else {}
        return preprocess_from_dict({**known, **stored})
    kind = kind_of(dataset.kind)
    if own is None and kind.default_from_network:
        spec = weights.spec if weights is not None and weights.spec is not None else zoo.find(name).spec
        entry = zoo.ZOO.get(name)
        crop, resize = (entry.crop, entry.resize) if entry is not None else (None, None)
        own = kind.default_preprocess(spec, crop, resize)
    return kind.initial_preprocess(own, dataset, settings)


def _network_name(weights: Weights, requested: str | None) -> str:
    """Return the zoo's name for the weights' network, "" for a custom one. Raises UserError if another is requested."""
    own = weights.model if weights.info or weights.spec is not None else infer_model(weights)
    if requested not in (None, own):
        raise UserError(
            f"these weights belong to {own or 'a home-made network'}, not to {requested}",
            where=weights.source,
            fix="leave --model out, or choose other weights",
        )
    return own or ""


def _kind_of_weights(weights: Weights | None, name: str) -> Kind:
    """Return the kind of data that a network takes, from its weights, else its zoo entry, else its structure."""
    if weights is not None and weights.preprocess is not None:
        return kind_of(weights.preprocess.kind)
    if name in zoo.ZOO:
        return kind_of(zoo.ZOO[name].kind)
    if weights is None or weights.spec is None:
        return kind_of(zoo.find(name).kind)  # raises, naming what may have been meant
    return kind_of_network(weights.spec)
