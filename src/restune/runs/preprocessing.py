"""What a network's input is: its weights' own preprocessing, else the zoo's and the recipe's, fitted to what trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from restune.core.console import note
from restune.core.errors import UserError
from restune.data.dataset import Dataset, FileLocation
from restune.data.preprocess import ImagePreprocess, Preprocess, preprocess_from_dict
from restune.data.preprocess.signal import SignalPreprocess, channel_statistics
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.data.tokens import build_vocabulary
from restune.networks import zoo
from restune.networks.spec import ResNetSpec
from restune.training.recipe import Recipe
from restune.weights.load import Weights

SOUND_RATE = 16_000
TEXT_LENGTHS = {"words": 128, "bytes": 1024}


def zoo_preprocess(name: str | None, spec: ResNetSpec) -> Preprocess:
    """What a network of the zoo reads where nothing else is said. Raises UserError where there is no default."""
    entry = zoo.ZOO.get(name or "")
    kind = entry.kind if entry else {1: "signal", 2: "image", 3: "video"}[spec.dims]
    crop, resize = (entry.crop, entry.resize) if entry and entry.crop else (224, 256) if kind == "image" else (112, 128)
    made: Preprocess
    if kind == "image":
        made = ImagePreprocess(crop=crop, resize=resize).with_channels(spec.in_channels)
    elif kind == "video":
        made = VideoPreprocess(crop=crop, resize=resize).with_channels(spec.in_channels)
    elif kind == "signal":
        made = SignalPreprocess(channels=spec.in_channels)
    elif spec.vocabulary == TextPreprocess(tokens="bytes").vocabulary_size:
        made = TextPreprocess(tokens="bytes")
    else:
        raise UserError(
            "these weights do not say which token stands for which word",
            where=name or "MODEL",
            fix="use the model that restune saved: it holds its vocabulary",
        )
    return made


def starting_preprocess(recipe: Recipe, name: str, origin: Weights | None, dataset: Dataset) -> Preprocess:
    """The recipe's where it is settled, else the weights' own, else the zoo's with what the recipe says."""
    own = None if origin is None else origin.preprocess
    if recipe.preprocess is not None:
        kept = preprocess_from_dict(recipe.preprocess)
        if isinstance(kept, TextPreprocess) and isinstance(own, TextPreprocess):  # whose words a recipe does not hold
            return replace(kept, vocabulary=own.vocabulary)
        return kept
    made: Preprocess
    if dataset.kind == "signal":
        made = _for_signals(recipe, own, dataset)
    elif dataset.kind == "text":
        made = _for_texts(recipe, own)
    else:
        spec = origin.spec if origin is not None and origin.spec is not None else None
        base = own or zoo_preprocess(name, spec or zoo.find(name).spec)
        channels = recipe.spec.get("in_channels") or _channels(dataset)
        if channels is None:
            channels = (origin.in_channels if origin is not None else None) or base.channels
        made = base.with_channels(channels).override(image_size=recipe.image_size)
    if dataset.kind == "video":
        made = made.override(
            frames=recipe.video.frames, rate=recipe.video.rate, stride=recipe.video.stride, clips=recipe.video.clips
        )
    return made


def fitted(preprocess: Preprocess, recipe: Recipe, train: Dataset) -> Preprocess:
    """The same with what only training items may tell: the words of a text, the mean and spread of channels."""
    if isinstance(preprocess, TextPreprocess) and preprocess.tokens == "words" and not preprocess.vocabulary:
        texts = (preprocess.text_of(item.location.read()) for item in train.items)
        words = build_vocabulary(texts, min_count=recipe.text.min_count, most=recipe.text.vocabulary)
        note(f"{len(words):,} words in the training items; any other is unknown")
        return replace(preprocess, vocabulary=words)
    by_channel = recipe.signal.normalization == "channel" and recipe.preprocess is None and recipe.weights is None
    if isinstance(preprocess, SignalPreprocess) and by_channel:
        mean, std = channel_statistics(preprocess.whole(item.location.read()) for item in train.items)
        return replace(preprocess, normalization="channel", mean=mean, std=std)
    return preprocess


def settled_settings(preprocess: Preprocess) -> dict[str, Any]:
    """What the recipe keeps of a preprocessing; a vocabulary follows from the training items again."""
    return {key: value for key, value in preprocess.to_dict().items() if key != "vocabulary"}


def has_sounds(dataset: Dataset) -> bool:
    """Whether series are .wav files rather than arrays."""
    return dataset.kind == "signal" and isinstance(dataset.items[0].location, FileLocation)


def _for_signals(recipe: Recipe, own: Preprocess | None, dataset: Dataset) -> Preprocess:
    wanted = recipe.signal
    is_sound = has_sounds(dataset)
    first = None if is_sound else np.asarray(dataset.items[0].location.read())
    channels = 1 if first is None or first.ndim == 1 else first.shape[0]
    if own is not None:
        if own.channels != channels:
            raise UserError(
                f"the network reads {own.channels} channels, the data has {channels}",
                where=dataset.source,
                fix="name weights of a network for such data, or train one",
            )
        if wanted.rate is not None and not is_sound:
            raise UserError("only sounds have a rate", where="--set signal.rate", fix="leave it out")
        return own.override(length=wanted.length, rate=wanted.rate)
    rate = wanted.rate or (SOUND_RATE if is_sound else None)
    if wanted.rate is not None and not is_sound:
        raise UserError("only sounds have a rate", where="--set signal.rate", fix="leave it out")
    usual = "none" if wanted.normalization == "channel" else wanted.normalization  # whose numbers `fitted` measures
    return SignalPreprocess(channels=channels, normalization=usual, rate=rate, length=wanted.length)


def _for_texts(recipe: Recipe, own: Preprocess | None) -> Preprocess:
    wanted = recipe.text
    if own is not None:
        return own.override(length=wanted.length)
    return TextPreprocess(tokens=wanted.tokens, length=wanted.length or TEXT_LENGTHS[wanted.tokens])


def _channels(dataset: Dataset) -> int | None:
    """Channels of a source whose items are arrays with more than colours; None where files are decoded to RGB."""
    first = dataset.items[0].location.read() if hasattr(dataset.items[0].location, "array") else None
    if first is None or isinstance(first, bytes) or first.ndim == 2:
        return None
    return None if first.shape[2] in (1, 3, 4) else int(first.shape[2])
