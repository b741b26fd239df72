"""Features of a data set's items: of a named model, of weights at hand, or without weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.data.dataset import Dataset
from restune.data.kinds import kind_of
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.inference.untrained import untrained_features
from restune.runs.default_weights import cached_weights
from restune.weights import bundled

_MOST_BY_CACHED_WEIGHTS = 20_000
"""Items up to which pretrained weights in the cache compute the features if no model is named."""


@dataclass(frozen=True)
class ItemFeatures:
    """Features of the items that could be read.

    Args:
        rows: float32 ``[N, D]``.
        readable: positions of their items, ``[N]``.
        name: what they are, for messages.
        model: whose embeddings they are; None for features that need no training.
        failures: why the other items could not be read, by id, where the reasons are known.
    """

    rows: Tensor
    readable: NDArray[np.int64]
    name: str
    model: Model | None = None
    failures: dict[str, str] = field(default_factory=dict)


def item_features(
    dataset: Dataset,
    model: str | Path | Model | None = None,
    device: str = "auto",
    seed: int = 0,
    *,
    or_bundled: bool = False,
) -> ItemFeatures:
    """Return the embeddings of the named model, else of published weights in the cache, else `untrained_features`.

    Args:
        dataset: the items.
        model: whose embeddings; None for a choice.
        device: where it computes.
        seed: of untrained features.
        or_bundled: whether, for images, the weights inside the package come before untrained features.

    Raises UserError for a model of another kind of data.

    >>> from restune.data.sources import open_dataset
    >>> features = item_features(open_dataset(photos), run_folder)
    >>> features.rows.shape, features.model.classes
    (torch.Size([20, 64]), ('blue', 'red'))
    """
    kind = kind_of(dataset.kind)
    if model is None and len(dataset) <= _MOST_BY_CACHED_WEIGHTS:
        model = cached_weights(kind)
    if model is None and or_bundled and kind.name == "image":
        inside = bundled.find(bundled.DEFAULT)
        model = inside.reference if inside is not None else None
    if model is None:
        found = untrained_features(dataset, seed)
        return ItemFeatures(found.rows, found.readable, found.name)
    loaded = load_model(model, device=device)
    if loaded.kind is not kind:
        raise UserError(
            f"the model takes {loaded.kind.noun}, the data is {kind.noun}",
            where=dataset.source,
            fix="name a model for this kind of data with --model, or leave it out",
        )
    rows = loaded.features().of(dataset.items)
    name = f"embeddings of {loaded.info.name or 'the network'}"
    return ItemFeatures(rows.rows[0 : len(rows.rows)].float(), rows.readable, name, loaded, rows.failures)
