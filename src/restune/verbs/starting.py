"""The network that a run starts from, what its input is, and how training changes it."""

from __future__ import annotations

import torch

from restune.core.console import note
from restune.core.errors import UserError, shorten
from restune.core.streams import torch_seed
from restune.data.augment import Augment
from restune.data.dataset import Dataset
from restune.data.preprocess import ImagePreprocess, preprocess_from_dict
from restune.networks import zoo
from restune.networks.resnet import ResNet
from restune.training.recipe import Recipe
from restune.weights import hub
from restune.weights.load import Weights, infer_model, load_into, read_weights, reject_other_structure


def starting_network(
    recipe: Recipe, dataset: Dataset, verb: str
) -> tuple[str | None, ResNet, ImagePreprocess, Weights | None]:
    """The network's name, the network with its weights where it has any, and the preprocessing it wants."""
    torch.manual_seed(torch_seed(recipe.seed, "initial weights"))
    origin = read_weights(recipe.weights or _usual_weights(recipe.model)) if verb == "finetune" else None
    name = recipe.model or "resnet18"
    if origin is not None:
        own = origin.model if origin.info else infer_model(origin)
        if recipe.model not in (None, own):
            raise UserError(
                f"these weights are {own or 'a home-made network'}'s, not {recipe.model}'s",
                where=origin.source,
                fix="leave --model out, or name other weights",
            )
        name = own or ""
    spec = origin.spec if origin is not None and origin.spec is not None else zoo.find(name).spec
    channels = (
        recipe.spec.get("in_channels") or _channels(dataset) or (origin and origin.in_channels) or spec.in_channels
    )
    spec = spec.override(**{**recipe.spec, "in_channels": channels, "num_classes": len(dataset.classes)})
    network = ResNet(spec)
    if origin is not None:
        reject_other_structure(origin, spec)
        note(f"{name} from {origin.source}: {load_into(network, origin)}")
        network.reset_head(len(dataset.classes))
        known = f"{origin.num_classes} classes" if origin.num_classes else "no classes"
        note(f"the head, made for {known}, is replaced by one for {len(dataset.classes)}: {shorten(dataset.classes)}")
    return name or None, network, _preprocess(recipe, name, origin, channels), origin


def _usual_weights(name: str | None) -> str:
    """The published weights that a network is fine-tuned from where none are named."""
    available = hub.available(name or "resnet18")
    if not available:
        raise UserError(
            f"there are no published weights for {name}", where="--weights", fix="name a file, a bundle or a run"
        )
    return available[0]


def _preprocess(recipe: Recipe, name: str, origin: Weights | None, channels: int) -> ImagePreprocess:
    """The weights' own preprocessing, else the zoo's, at the size that is asked for."""
    if recipe.preprocess is not None:
        return preprocess_from_dict(recipe.preprocess)
    entry = zoo.find(name) if name in zoo.ZOO else None
    preprocess = origin.preprocess if origin is not None and origin.preprocess is not None else None
    if preprocess is None:
        preprocess = (
            ImagePreprocess(crop=entry.crop, resize=entry.resize) if entry else ImagePreprocess(crop=224, resize=256)
        )
    return preprocess.with_channels(channels).override(image_size=recipe.image_size)


def _channels(dataset: Dataset) -> int | None:
    """Channels of a source whose items are arrays with more than colours; None where files are decoded to RGB."""
    first = dataset.items[0].location.read() if hasattr(dataset.items[0].location, "array") else None
    if first is None or isinstance(first, bytes) or first.ndim == 2:
        return None
    return None if first.shape[2] in (1, 3, 4) else first.shape[2]


def settled_augment(recipe: Recipe, dataset: Dataset) -> Augment:
    """The recipe's augmentation, with mirroring decided: never for digits and letters."""
    settings = recipe.augment.model_dump()
    if settings["flip"] is None:
        characters = all(len(name) == 1 for name in dataset.classes)
        settings["flip"] = not characters
        if characters:
            note("classes are single characters: images are not mirrored (augment.flip=true to do so)")
    return Augment(**settings)
