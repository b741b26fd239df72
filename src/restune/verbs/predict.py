"""predict: labels and probabilities for files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
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
    """One prediction an input, in order; an unreadable input is reported in its place by `Prediction.error`.

    Args:
        model, weights, device, **preprocess: as `restune.load`.
        inputs: paths of files and folders, patterns such as ``photos/*.jpg``, or content as `Model.predict` takes
            it; one or many. A folder stands for the images below it.
        topk: how many classes to list.
        batch_size, workers: how much is computed at a time, and how many threads decode.

    Raises UserError for a folder without images or a pattern that matches nothing.
    """
    items = _expand(inputs)
    loaded = load(model, weights=weights, device=device, **preprocess)
    return list(loaded.predict_items(items, topk, batch_size=batch_size, workers=workers))


def _expand(inputs: Any) -> list[Item]:
    one = isinstance(inputs, str | Path) or not isinstance(inputs, Iterable) or hasattr(inputs, "ndim")
    items: list[Item] = []
    for value in [inputs] if one or isinstance(inputs, bytes) else inputs:
        items.extend(_expand_path(str(value)) if isinstance(value, str | Path) else as_items([value]))
    return items


def _expand_path(text: str) -> list[Item]:
    path = Path(text).expanduser()
    if path.is_dir():
        found = list(walk_images(path))
        if not found:
            raise UserError("there are no images in this folder", where=text)
        return [_item(file) for file in found]
    if not path.exists() and glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        found = [Path(match) for match in matches if not Path(match).is_dir()]
        if not found:
            raise UserError("this pattern matches no file", where=text)
        return [_item(file) for file in found]
    return [_item(path)]


def _item(path: Path) -> Item:
    return Item(id=str(path), location=FileLocation(path), target=-1)
