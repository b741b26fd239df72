"""Label errors and outliers of a data set, by a head on features that it has not been fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError
from restune.data.audit.findings import Finding, Judge
from restune.data.by_id import RowsById
from restune.data.dataset import Dataset, Item
from restune.data.items import groups_of, targets_of
from restune.evaluation.label_errors import LabelErrors, find_label_errors
from restune.evaluation.outliers import Outliers, find_outliers
from restune.inference.model import Model
from restune.runs.item_features import ItemFeatures, item_features
from restune.training.out_of_fold import FOLDS, out_of_fold

_LEAST_ITEMS = 4 * FOLDS
"""Items below which no head is fitted."""
_MOST_ITEMS = 100_000
_COPIES = ("duplicate", "near-duplicate", "leak", "conflicting-duplicate")
_LITTLE_WORTH = 0.5
"""Out-of-fold accuracy below which label errors are notes, not warnings."""
_PROPERTY = 0.1
"""Share of the items from which a finding is a property of the data set."""


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """Label errors and outliers.

    Args:
        findings: of items.
        judge: the head and its out-of-fold accuracy; None if none was fitted.
        suspicion: of each judged label, 0 to 1, by the item's id.
    """

    findings: tuple[Finding, ...] = ()
    judge: Judge | None = None
    suspicion: Mapping[str, float] = field(default_factory=dict)


def check_labels(
    dataset: Dataset,
    *,
    model: str | Path | Model | None = None,
    copies: Iterable[Finding] = (),
    device: str = "auto",
    seed: int = 0,
) -> LabelCheck:
    """Find likely label errors and outliers.

    Features are those of `model`; else of published weights in the cache; else need no weights (`untrained_features`).
    A head is fitted to them by logistic regression in five folds, and `find_label_errors` judges each label by the head
    that has not seen the item.

    Args:
        dataset: the items; without labels only outliers are found.
        model: a run, a bundle, or published weights of a network for this kind of data.
        copies: findings that relate an item to its copies; these stay in one fold.
        device: where the model computes.
        seed: of folds and of untrained features.

    Raises UserError for a model of another kind of data.
    """
    if len(dataset) > _MOST_ITEMS:
        note(f"label errors and outliers: not looked for in more than {_MOST_ITEMS:,} items")
        return LabelCheck()
    features = None if len(dataset) < _LEAST_ITEMS else item_features(dataset, model, device, seed)
    if features is None or len(features.readable) < _LEAST_ITEMS:
        note(f"label errors and outliers: not looked for in fewer than {_LEAST_ITEMS} items")
        return LabelCheck()
    outliers = list(_outlier_findings(dataset, features, find_outliers(features.rows, seed)))
    errors = _label_errors(dataset, features, copies, seed)
    if errors is None:
        return LabelCheck(findings=tuple(outliers))
    judged, positions = errors
    note(
        f"labels: a head on features ({features.name}) is right on {judged.accuracy:.1%} of the items that it has not "
        f"seen; {int(judged.is_error.sum()):,} labels are suspicious"
    )
    if judged.accuracy < _LITTLE_WORTH:
        note("a head that is often wrong names many right labels: --model with a better network helps")
    found = _error_findings(dataset, positions, judged)
    ids = [dataset.items[position].id for position in positions.tolist()]
    return LabelCheck(
        findings=(*found, *outliers),
        judge=Judge(features.name, judged.accuracy),
        suspicion=dict(zip(ids, judged.suspicion.tolist(), strict=True)),
    )


def _label_errors(
    dataset: Dataset, features: ItemFeatures, copies: Iterable[Finding], seed: int
) -> tuple[LabelErrors, NDArray[np.int64]] | None:
    """Judge the labels of the readable items that have one; also return their positions. None without enough labels."""
    if dataset.task != "single-label":
        note(f"label errors are looked for in single-label data only; this is {dataset.task}")
        return None
    targets = targets_of(dataset.items).astype(np.int64)[features.readable]
    is_labelled = targets >= 0
    present, targets = np.unique(targets[is_labelled], return_inverse=True)
    if len(present) < 2 or len(targets) < _LEAST_ITEMS:
        return None
    positions = features.readable[is_labelled]
    together = _together(dataset, copies)
    rows = features.rows[torch.from_numpy(is_labelled)]
    made = out_of_fold(rows, targets, len(present), together[positions], seed)
    try:
        judged = find_label_errors(made.logits, targets)
    except UserError as error:
        warn(f"{error.what} ({error.fix}): label errors are not looked for")
        return None
    is_known = np.bincount(targets)[targets] >= FOLDS  # a head hardly knows smaller classes
    return (
        LabelErrors(
            suspicion=judged.suspicion,
            proposed=present[judged.proposed],
            is_error=judged.is_error & is_known,
            accuracy=judged.accuracy,
        ),
        positions,
    )


def _together(dataset: Dataset, copies: Iterable[Finding]) -> NDArray[np.int64]:
    """Return a number for each item, equal for those that the data groups or that are copies of one another."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, count = RowsById(dataset.items), len(dataset)
    pairs = [(rows.row(one.item), rows.row(other)) for one in copies if one.finding in _COPIES for other in one.related]
    links = np.array([pair for pair in pairs if min(pair) >= 0], np.int64).reshape(-1, 2)
    own, total = groups_of(dataset.items), count
    if own is not None:  # each group is one more node, linked to its members
        _, codes = np.unique(own.numbers, return_inverse=True)
        links = np.concatenate([links, np.stack([np.arange(count), count + codes.reshape(-1)], 1)])
        total += int(codes.max()) + 1
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(total, total))
    return np.asarray(connected_components(graph, directed=False)[1][:count], np.int64)


def _error_findings(dataset: Dataset, positions: NDArray[np.int64], judged: LabelErrors) -> Iterator[Finding]:
    """Yield a finding for each label taken for wrong, the most suspicious first."""
    severity = "warning" if judged.accuracy >= _LITTLE_WORTH else "note"
    for place in judged.ranked().tolist():
        if not judged.is_error[place]:
            continue
        item = dataset.items[int(positions[place])]
        label = dataset.classes[int(judged.proposed[place])]
        yield Finding(item.id, "label-error", severity, float(judged.suspicion[place]), f"relabel: {label}")


def _outlier_findings(dataset: Dataset, features: ItemFeatures, found: Outliers) -> Iterator[Finding]:
    """Yield a finding for each outlier, the farthest first; one for the whole set if these are over 10%."""
    places = np.flatnonzero(found.is_outlier)
    share = len(places) / len(features.readable)
    if share > _PROPERTY:
        yield Finding("", "outlier", "note", share, f"look: {share:.0%} of the items are far from all others")
        return
    for place in places[np.argsort(-found.distance[places], kind="stable")].tolist():
        item: Item = dataset.items[int(features.readable[place])]
        far = float(found.distance[place])
        yield Finding(
            item.id, "outlier", "warning", 1 - 1 / far, f"look: unlike the others, {far:.1f} times as far as is typical"
        )
