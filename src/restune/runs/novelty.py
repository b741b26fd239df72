"""Learn from a run's training items what unknown inputs are unlike, and promise a false-alarm rate from validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from restune.core.errors import UserError
from restune.data.dataset import Dataset
from restune.data.items import targets_of
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.novelty import (
    REFERENCE_ITEMS,
    NoveltyResult,
    fit_novelty,
    novelty_facts,
    novelty_scores,
    reference_positions,
)
from restune.runs.prepare import Prepared
from restune.training.recipe import Recipe
from restune.weights.novelty import Novelty

Score = Callable[[Dataset], Evaluation]
"""Score items that may be unreadable, which are left out. Raises UserError where all are."""


def learn_novelty(prepared: Prepared, recipe: Recipe, val: Evaluation | None, score: Score) -> Novelty | None:
    """Return what the model knows of its training data; None where it is switched off or cannot be known.

    Args:
        val: the scores of the validation items, which set the threshold.
        score: gives the embeddings of some of the training items.
    """
    if not recipe.novelty or val is None or val.embeddings is None:
        return None
    train = prepared.splits.train
    chosen = reference_positions(targets_of(train.items), val.embeddings.shape[1], recipe.seed)
    try:
        reference = score(train.take(chosen)).embeddings
    except UserError:  # the items are gone; the run has its scores
        return None
    return None if reference is None else fit_novelty(reference, len(train.classes), np.asarray(val.embeddings))


def novelty_entry(novelty: Novelty | None, test: Evaluation | None) -> dict[str, Any]:
    """Return the entry of result.json: the promised false-alarm rate, and that of validation and test items."""
    if novelty is None:
        return {}
    on_test = None
    if test is not None and test.embeddings is not None:
        result = NoveltyResult(scores=novelty_scores(novelty, test.embeddings), model=novelty)
        on_test = {"false_alarm_rate": result.rate, "interval": list(result.interval), "n": len(result.scores)}
    facts = {"promised": novelty.promised, "val": novelty_facts(novelty), "test": on_test}
    return {"novelty": {**facts, "k": novelty.k, "threshold": novelty.threshold, "items": len(novelty.reference)}}


def novelty_cost(train: int) -> int:
    """Return the number of training items that are scored once more."""
    return min(train, REFERENCE_ITEMS)
