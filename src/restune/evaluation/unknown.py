"""Score items of none of the model's classes, and compare their novelty with that of an evaluation's items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from restune.core.errors import UserError
from restune.data.items import Item
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.novelty import NoveltyResult, compare_with_unknown, novelty_scores
from restune.inference.model import Model
from restune.inference.predictor import predict_with_embeddings


def with_novelty(evaluation: Evaluation, model: Model) -> Evaluation:
    """Return the evaluation with the novelty of its items, where the model knows."""
    if model.novelty is None or evaluation.embeddings is None:
        return evaluation
    scores = novelty_scores(model.novelty, evaluation.embeddings)
    return replace(evaluation, novelty=NoveltyResult(scores=scores, model=model.novelty))


def with_unknown(
    evaluation: Evaluation,
    model: Model,
    items: Iterable[Item],
    source: str,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
) -> Evaluation:
    """Return the evaluation with scores of unknown items beside those of its own.

    Raises UserError for a model that does not know its training data, and where no item can be read.
    """
    known = evaluation.novelty
    if known is None:
        raise UserError(
            "this model does not know its training data, so it cannot tell unknown items",
            where="--unknown",
            fix="train it with 25 or more validation items and without --set novelty=false",
        )
    scores, softmax, skipped, reason = [], [], 0, "there are no items"
    for batch, logits, embeddings in predict_with_embeddings(
        model, items, batch_size=batch_size, workers=workers, views=views, description="unknown"
    ):
        skipped += len(batch.failures)
        reason = next(iter(batch.failures.values()), reason)
        if embeddings is not None:
            scores.append(known.model.scores(embeddings.mean(dim=1)))
            softmax.append(model.probabilities(logits).amax(dim=1))
    if not scores:
        raise UserError("no item of the unknown data could be read", where=source, fix=f"the first: {reason}")
    unknown = compare_with_unknown(
        (known.scores, 1 - np.asarray(evaluation.probabilities, np.float64)),
        (torch.cat(scores).numpy(), 1 - torch.cat(softmax).double().numpy()),
        known.model.threshold,
        source,
        skipped,
    )
    return replace(evaluation, novelty=replace(known, unknown=unknown))
