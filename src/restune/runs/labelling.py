"""From a pool of items to proposals, and to what more labels would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.data.dataset import Item
from restune.data.preload import content_hash
from restune.evaluation.learning_curve import LearningCurve, learning_curve
from restune.evaluation.proposals import Margins, margins_of, propose
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.runs.item_features import ItemFeatures
from restune.runs.label_pool import LabelPool
from restune.runs.own_data import record_of
from restune.training.curve_points import LEAST_LABELS, curve_points
from restune.training.logistic import Head, Problem, choose_by_folds, principal_axes, solve
from restune.training.recipe import read_recipe

_MOST_LABELLED, _MOST_IN_CURVE = 10_000, 3_000
"""Labelled items that the head is fitted to, and that the learning curve is measured on; drawn at random from more."""
_FEW = 5
"""Labels per class below which typical items are proposed: the margins of so early a head say little."""
_CHECKED = 200
"""Labelled items whose content is compared with the training items of a model."""
_SEEN = 0.1
"""Share of these from which a network counts as trained on the labels."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An item to label.

    Args:
        item: its id: its path below DATA, or the id of its row.
        suggestion: the class that the head takes it for; empty where no head is known.
        probability: of that class; None without one.
        margin: probability of that class minus that of the runner-up; None without one.
        position: in the pool.
    """

    item: str
    suggestion: str = ""
    probability: float | None = None
    margin: float | None = None
    position: int = 0


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A head that says what it takes unlabelled items for.

    Args:
        probabilities: of the unlabelled items, ``[N, C]``.
        classes: names of its classes.
        origin: ``fitted`` to the labelled items, or the model's ``own``.
    """

    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]
    origin: str


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What to label next, and what it would bring.

    Args:
        proposals: the items to label, the most useful first.
        curve: accuracy by number of labels; None where it cannot be measured.
        judge: ``fitted`` or ``own``, see `Judge`; empty without labels and classes.
        features: what the features are.
        unreadable: number of items that cannot be read.
        unlabelled: number of readable items without a label.
    """

    proposals: tuple[Proposal, ...]
    curve: LearningCurve | None
    judge: str
    features: str
    unreadable: int
    unlabelled: int


def choose_items(pool: LabelPool, features: ItemFeatures, count: int, more: Sequence[int], seed: int = 0) -> Labelling:
    """Propose the next items to label, and fit the learning curve.

    Args:
        pool: items with and without a label.
        features: of the pool's items.
        count: number of proposals.
        more: numbers of further labels whose gain is asked for.
        seed: of the folds, and of the choice.

    Raises UserError if no item without a label can be read.
    """
    rows, targets = features.rows, pool.targets[features.readable]
    is_labelled = targets >= 0
    unlabelled = np.flatnonzero(~is_labelled & _is_text(pool, features.readable))
    if not len(unlabelled):
        raise UserError(
            "no item without a label could be read", where=pool.dataset.source, fix="see the warnings above"
        )
    labelled = _drawn(np.flatnonzero(is_labelled), _MOST_LABELLED, seed)
    free = _not_twice(rows, unlabelled, np.flatnonzero(is_labelled))
    known, own = rows[labelled], targets[labelled]
    is_seen = features.model is not None and _is_trained_on(features.model, pool, features.readable[labelled])
    judge = _judge(pool, features, known, own, rows[free], is_seen, seed)
    margins = None if judge is None else margins_of(judge.probabilities)
    is_early = judge is not None and judge.origin == "fitted" and len(own) < _FEW * len(judge.classes)
    chosen = propose(rows[free], min(count, len(free)), None if is_early else margins, known, seed)
    return Labelling(
        proposals=tuple(_proposal(pool, features.readable, free, judge, margins, place) for place in chosen.tolist()),
        curve=None if is_seen else _curve(rows, targets, more, seed),
        judge="" if judge is None else judge.origin,
        features=features.name,
        unreadable=len(pool.dataset) - len(features.readable),
        unlabelled=len(unlabelled),
    )


def _is_text(pool: LabelPool, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which items have an id that a table can hold: names of files may be bytes that are not UTF-8."""
    return np.array([_is_utf8(pool.dataset.items[place].id) for place in positions.tolist()], bool)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _drawn(positions: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return at most so many of the positions, in order."""
    if len(positions) <= most:
        return positions
    return np.sort(np.random.default_rng(seed).permutation(positions)[:most])


def _not_twice(rows: Tensor, unlabelled: NDArray[np.int64], labelled: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the unlabelled items without those whose features equal a labelled one's, or an earlier one's.

    Items of equal content have equal features. If nothing is left, all of them are returned.
    """
    seen = {row.tobytes() for row in rows[labelled].numpy()}
    kept = []
    for place in unlabelled.tolist():
        row = rows[place].numpy().tobytes()
        if row not in seen:
            seen.add(row)
            kept.append(place)
    return np.array(kept or unlabelled, np.int64)


def _judge(
    pool: LabelPool,
    features: ItemFeatures,
    known: Tensor,
    targets: NDArray[np.int64],
    rows: Tensor,
    is_seen: bool,
    seed: int,
) -> Judge | None:
    """Return the head to ask: fitted to the labelled items, or the model's own."""
    present, codes = np.unique(targets, return_inverse=True)
    own = features.model
    names = [pool.dataset.classes[place] for place in present.tolist()]
    if own is not None and _knows(own, names or pool.dataset.classes) and (is_seen or len(present) < 2):
        logits = _own_logits(own, rows)
        return Judge(
            probabilities=own.probabilities(logits[:, None]).double().numpy(), classes=own.classes,
            origin="own",
        )  # fmt: skip
    if len(present) < 2:
        return None
    head = _fitted(known, codes, len(present), seed)
    return Judge(
        probabilities=head.logits(rows).double().softmax(dim=1).numpy(),
        classes=tuple(names),
        origin="fitted",
    )


def _knows(model: Model, classes: Sequence[str]) -> bool:
    """Return whether a model was trained on these classes; without classes, whether it is a run's or a bundle's."""
    own = model.classes_known and isinstance(model.module, ResNet) and model.info.task == "single-label"
    return own and set(classes) <= set(model.classes) and (bool(classes) or Path(model.source).is_file())


def _own_logits(model: Model, rows: Tensor) -> Tensor:
    """Return the logits of a model's own head on embeddings."""
    assert isinstance(model.module, ResNet)
    with torch.inference_mode():
        logits: Tensor = model.module.fc(rows.to(model.device)).float().cpu()
    return logits


def _fitted(rows: Tensor, codes: NDArray[np.int64], classes: int, seed: int) -> Head:
    """Fit the head; with one label per class there is nothing to choose its L2 strength by."""
    problem = Problem(rows=rows, targets=torch.from_numpy(codes), classes=classes)
    if np.bincount(codes).max() >= 2:
        return choose_by_folds(problem, np.arange(len(codes)), seed).head
    axes = principal_axes(rows)
    return solve(problem, float(axes.variances.sum()) / rows.shape[1], axes=axes)


def _curve(rows: Tensor, targets: NDArray[np.int64], more: Sequence[int], seed: int) -> LearningCurve | None:
    """Measure and fit the learning curve of the labelled items; None, with a note, for too few."""
    count = int((targets >= 0).sum())
    some = _drawn(np.flatnonzero(targets >= 0), _MOST_IN_CURVE, seed)
    present, codes = np.unique(targets[some], return_inverse=True)
    if len(present) < 2 or count < LEAST_LABELS:
        note(f"the learning curve needs {LEAST_LABELS} labels of two classes or more; there are {count}")
        return None
    if np.bincount(codes).max() < 2:
        return None
    return learning_curve(curve_points(rows[some], codes.astype(np.int64), len(present), seed), count, more)


def _is_trained_on(model: Model, pool: LabelPool, positions: NDArray[np.int64]) -> bool:
    """Return whether the model's layers were trained on these labels: its features then fit them too well to judge."""
    record = record_of(model.source)
    recipe = Path(model.source).parent / "recipe.yaml"
    if record is None or not recipe.is_file() or not len(positions) or read_recipe(recipe).freeze == "all":
        return False
    trained = {*record.splits["train"].contents} - {""}
    some = positions[:: max(1, len(positions) // _CHECKED)]
    seen = sum(_content(pool.dataset.items[place]) in trained for place in some.tolist())
    if seen <= _SEEN * len(some):
        return False
    note(
        "the layers of this model were trained on these labels: its own head is asked, and no learning curve is drawn "
        "(--model with the weights that it began with gives one)"
    )
    return True


def _content(item: Item) -> str:
    try:
        return content_hash(item.location.read())
    except (OSError, ValueError, MemoryError):
        return "unreadable"


def _proposal(
    pool: LabelPool,
    readable: NDArray[np.int64],
    free: NDArray[np.int64],
    judge: Judge | None,
    margins: Margins | None,
    place: int,
) -> Proposal:
    position = int(readable[free[place]])
    item = pool.dataset.items[position].id
    if judge is None or margins is None:
        return Proposal(item=item, position=position)
    best = int(judge.probabilities[place].argmax())
    return Proposal(
        item=item,
        suggestion=judge.classes[best],
        probability=float(judge.probabilities[place, best]),
        margin=float(margins[place]),
        position=position,
    )


def warn_of_unreadable(features: ItemFeatures, total: int) -> None:
    """Warn of items that cannot be read."""
    missing = total - len(features.readable)
    if missing:
        named = shorten((f"{name} ({reason})" for name, reason in features.failures.items()), 3)
        count = f"{missing} unreadable item" + "s" * (missing > 1)
        warn(f"skipped {count}: {named}" if named else f"skipped {count}")


def facts(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal's entry in label.json."""
    return {
        "item": proposal.item, "suggestion": proposal.suggestion or None, "probability": proposal.probability,
        "margin": proposal.margin,
    }  # fmt: skip
