"""Likely label errors by confident learning (Northcutt et al. 2021), from probabilities of held-out items."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError

_DOUBTED = 0.05
"""Probability of an item's own label below which it may be taken for wrong; a quarter of chance if that is higher."""


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """How suspicious each label is.

    Args:
        suspicion: ``[N]``, 1 minus the probability of the item's own label: 0 trusted, 1 suspicious.
        proposed: ``[N]``, the most probable class.
        is_error: ``[N]``, whether confident learning takes the label for wrong.
        accuracy: share of items whose most probable class is their label.
    """

    suspicion: NDArray[np.float64]
    proposed: NDArray[np.int64]
    is_error: NDArray[np.bool_]
    accuracy: float

    def ranked(self) -> NDArray[np.int64]:
        """Return all items' positions, the most suspicious label first."""
        return np.argsort(-self.suspicion, kind="stable").astype(np.int64)


def find_label_errors(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> LabelErrors:
    """Find labels that contradict what a model says of items that it was not trained on.

    Labels are ranked by self-confidence, the probability of an item's own label. Confident learning estimates how many
    are wrong: it counts, for each pair of classes, the items labelled as one that are confidently the other. As many of
    the lowest self-confidence are taken for wrong (cleanlab's ``low_self_confidence``), if it is below 5% (or a
    quarter of chance, 12.5% of two classes): where the model is often wrong itself, the estimate is far too high.

    Args:
        logits: out-of-fold logits ``[N, classes]``.
        targets: class indices ``[N]``.

    Raises UserError if cleanlab is not installed.

    Source: Northcutt, Jiang & Chuang, Confident Learning, JAIR 2021; implementation: cleanlab.

    >>> logits = np.array([[4, 0], [3, 0], [0, 3], [0, 4], [0, 4]] * 4, np.float32)
    >>> errors = find_label_errors(logits, np.array([0, 0, 1, 1, 0] + [0, 0, 1, 1, 1] * 3))
    >>> np.flatnonzero(errors.is_error).tolist(), errors.proposed[4]
    ([4], np.int64(1))
    """
    probabilities = _probabilities(logits)
    filtering, ranking = _cleanlab()
    quality = ranking.get_label_quality_scores(targets, probabilities, method="self_confidence")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without items
        is_error = filtering.find_label_issues(targets, probabilities, filter_by="low_self_confidence", n_jobs=1)
    proposed = probabilities.argmax(1).astype(np.int64)
    return LabelErrors(
        suspicion=1 - np.asarray(quality, np.float64),
        proposed=proposed,
        is_error=np.asarray(is_error, bool)
        & (proposed != targets)
        & (np.asarray(quality) < max(_DOUBTED, 0.25 / logits.shape[1])),
        accuracy=float((proposed == targets).mean()),
    )


def _probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the softmax of logits ``[N, classes]``."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(1, keepdims=True)
    return shifted


def _cleanlab() -> tuple[Any, Any]:
    """Return cleanlab's modules for filtering and ranking. Raises UserError if it is not installed."""
    try:
        from cleanlab import filter as filtering
        from cleanlab import rank as ranking
    except ImportError as error:
        raise UserError(
            "finding label errors needs cleanlab", where="restune check", fix="pip install 'restune[check]'"
        ) from error
    return filtering, ranking
