"""Scores of single items from their logits, in one pass and bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from restune.evaluation.logits import chunks
from restune.inference.forward import probabilities

_BYTES = 2 * 2**20
"""Of a part of the logits; its intermediate results stay in the processor's cache."""
_LEAST_LOG = float(np.log(np.finfo(np.float64).tiny))
"""Log-probability of a class whose logit is minus infinity, so that a mean of items stays finite."""


@dataclass(frozen=True)
class ItemScores:
    """What the probabilities of an item say about its class.

    Args:
        nll: negative logarithm of the true class's probability, in nats, float64 ``[N]``.
        brier: sum over classes of the squared difference of probability and truth, 0 to 2, float64 ``[N]``.
        confidence: probability of the predicted class, float32 ``[N]``.
        true: probability of the true class, float32 ``[N]``.
    """

    nll: NDArray[np.float64]
    brier: NDArray[np.float64]
    confidence: NDArray[np.float32]
    true: NDArray[np.float32]


def item_scores(logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float = 1.0) -> ItemScores:
    """Compute `ItemScores` from logits ``[N, C]`` and class indices ``[N]``."""
    n = len(targets)
    scores = ItemScores(np.empty(n), np.empty(n), np.empty(n, np.float32), np.empty(n, np.float32))
    start = 0
    for part in chunks(logits, _BYTES):
        rows = slice(start, start + len(part))
        target = torch.from_numpy(np.array(targets[rows], np.int64))[:, None]
        values = torch.from_numpy(np.array(part))
        log_p = (values.double() / temperature).log_softmax(dim=1)
        true = log_p.gather(1, target)[:, 0].clamp(min=_LEAST_LOG)
        p = log_p.exp_()
        scores.nll[rows] = -true.numpy()
        scores.brier[rows] = (p.square().sum(dim=1) - 2 * true.exp() + 1).clamp(min=0).numpy()
        shown = probabilities(values, temperature)
        scores.confidence[rows] = shown.max(dim=1).values.numpy()
        scores.true[rows] = shown.gather(1, target)[:, 0].numpy()
        start += len(part)
    return scores


def true_ranks(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each item's true class among all, from 0; of equal logits the lower class index goes first."""
    ranks, start = np.empty(len(targets), np.int64), 0
    for part in chunks(logits, _BYTES):
        target = targets[start : start + len(part), None]
        true = np.take_along_axis(part, target, axis=1)
        before = (part == true) & (np.arange(part.shape[1]) < target)
        ranks[start : start + len(part)] = ((part > true) | before).sum(axis=1)
        start += len(part)
    return ranks
