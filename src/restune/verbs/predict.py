"""predict: labels and probabilities for files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restune.core.files import is_there, user_path
from restune.data.dataset import FileLocation, Item
from restune.data.sources.folder import walk_images
from restune.inference.model import Model, Prediction, as_items
from restune.verbs.load import load


def predict(
    model: str | Path | Model,
    inputs: Any,
    *,
    weights: str | Path | None = None,
    topk: int = 5,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    **preprocess: Any,
) -> list[Prediction]:
    """One prediction an input, in order; an input that cannot be read, or stands for no file, is reported in its
    place by `Prediction.error`.

    Args:
        model, weights, device, **preprocess: as `restune.load`.
        inputs: paths of files and folders, patterns such as ``photos/*.jpg``, or content as `Model.predict` takes
            it; one or many. A folder stands for the images below it.
        topk: how many classes to list.
        batch_size, workers: how much is computed at a time, and how many threads decode.

    Raises UserError for a model that cannot be loaded, and for inputs of no known kind.
    """
    items = _expand(inputs)
    loaded = load(model, weights=weights, device=device, **preprocess)
    return list(loaded.predict_items(items, topk, batch_size=batch_size, workers=workers))


@dataclass(frozen=True, slots=True)
class NothingThere:
    """In the place of a folder or a pattern that stands for no file."""

    reason: str

    def read(self) -> bytes:
        raise FileNotFoundError(self.reason)

    def signature(self) -> str:
        return ""


def _expand(inputs: Any) -> list[Item]:
    one = isinstance(inputs, str | Path | bytes) or not isinstance(inputs, Iterable) or hasattr(inputs, "ndim")
    items: list[Item] = []
    for value in [inputs] if one else inputs:
        items.extend(_expand_path(str(value)) if isinstance(value, str | Path) else as_items([value]))
    return items


def _expand_path(text: str) -> list[Item]:
    """The files that a path, a folder or a pattern stands for; one unreadable item where there is none."""
    if not text:
        return [Item(id=text, location=NothingThere("an empty name"), target=-1)]
    path = user_path(text)
    if is_there(path):
        if not path.is_dir():
            return [_item(path)]
        found = list(walk_images(path))
        reason = "there are no images in this folder"
    elif glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        found = [Path(match) for match in matches if not Path(match).is_dir()]
        reason = "no file matches this pattern"
    else:
        return [_item(path)]
    return [_item(file) for file in found] or [Item(id=text, location=NothingThere(reason), target=-1)]


def _item(path: Path) -> Item:
    return Item(id=str(path), location=FileLocation(path), target=-1)
