"""Validation items that choose nothing: they tell whether the best trial beats the recipe's own settings."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.data.dataset import Dataset
from restune.data.items import groups_of, targets_of
from restune.evaluation.score import score
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.runs.prepare import Prepared
from restune.training.loop import Fitted
from restune.training.out_of_fold import folds_of
from restune.weights.bundle import BundleInfo

SHARE = 0.5
"""Of the validation items, where no share is named."""
FEWEST = 100
"""Validation items from which some are held out where no share is named: below, both parts would say too little."""
_MOST = 5_000
_PARTS = 20


def set_aside(val: Dataset, share: float | None, seed: int) -> tuple[Dataset, Dataset | None]:
    """Divide validation items, by class and by group, into those that choose settings and those that choose nothing.

    Args:
        share: of the items that choose nothing; None: half of at least 100 items, else none. At most 5,000 items.
        seed: of the draw.

    Raises UserError for a share that leaves nothing to choose by. Data of other tasks is not divided.
    """
    if share is not None and not 0 <= share <= 0.9:
        raise UserError("the held-out share is between 0 and 0.9", where="--held-out", fix="0.5 is usual; 0: none")
    if share and val.task != "single-label":
        raise UserError(
            "held-out items compare accuracies, and this data does not have one class per item", where="--held-out",
            fix="leave it out",
        )  # fmt: skip
    if share is None:
        share = SHARE if val.task == "single-label" and len(val) >= FEWEST else 0.0
    share = min(share, _MOST / max(1, len(val)))
    count = max(_PARTS, math.ceil(1 / share)) if share else 1
    # Folds are dealt to each class in turn: evenly spaced ones hold the same share of small classes, too.
    chosen = np.diff(np.floor(np.arange(count + 1) * share + 1e-9)) > 0
    parts = chosen[folds_of_data(val, seed, count)]
    if share and not 0 < parts.sum() < len(parts):
        n = len(val)
        raise UserError(f"{n} validation items are too few to hold some out", where="--held-out", fix="leave it out")
    if not share:
        return val, None
    return val.take(np.flatnonzero(~parts)), val.take(np.flatnonzero(parts))


def folds_of_data(data: Dataset, seed: int, count: int) -> NDArray[np.int64]:
    """Return the fold of each item: classes are spread evenly, groups stay whole."""
    groups = groups_of(data.items)
    codes = None if groups is None else groups.numbers.astype(np.int64)
    if codes is not None:  # an item without a group is one of its own
        codes = np.where(codes < 0, codes.max() + 1 + np.arange(len(codes)), codes)
    targets = targets_of(data.items).astype(np.int64)
    return folds_of(targets if data.task == "single-label" else np.zeros_like(targets), codes, seed, count)


def held_out_hits(prepared: Prepared, fitted: Fitted, held_out: Dataset) -> NDArray[np.int64]:
    """Return 1 for each held-out item that the fitted network predicts correctly, else 0.

    Raises UserError for an item that cannot be read.
    """
    hits: NDArray[np.int64] = np.asarray(_predicted(prepared, fitted, held_out) == targets_of(held_out.items), np.int64)
    return hits


def _predicted(prepared: Prepared, fitted: Fitted, held_out: Dataset) -> NDArray[np.int64]:
    """Return the predicted class of each item: of a fitted head from cached embeddings."""
    if prepared.embeddings is not None and isinstance(prepared.network, ResNet):
        found = prepared.embeddings.of(held_out.items)
        for name, reason in found.failures.items():
            raise UserError(f"this item cannot be read: {reason}", where=name)
        head = prepared.network.fc
        with torch.no_grad():
            logits = F.linear(found.rows[0 : len(held_out)].float(), head.weight.cpu(), head.bias.cpu())
        return np.asarray(logits.argmax(dim=1), np.int64)
    prepared.network.load_state_dict(fitted.state_dict)
    prepared.network.eval()
    info = BundleInfo(
        spec=prepared.network.spec, classes=prepared.splits.train.classes, preprocess=prepared.preprocess
    )  # fmt: skip
    model = Model(prepared.network, info, "a trial", device=prepared.workspace.device)
    return np.asarray(score(model, held_out).predicted, np.int64)
