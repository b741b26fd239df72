"""Compare an export's novelty scores with the model's, and int8 false alarms with those in float."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.exporting.verify import CLOSE, LARGEST_DIFFERENCE, REPORT

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class NoveltyAgreement:
    """How far an export's novelty scores agree with the model's.

    Args:
        n: number of inputs compared.
        max_difference: the largest difference of a score, which lies between 0 and 2.
        agreement: share of inputs that both call novel, or both do not.
        clear_disagreements: inputs that only one calls novel although the model's score is not near the threshold.
    """

    n: int
    max_difference: float
    agreement: float
    clear_disagreements: int


@dataclass(frozen=True, kw_only=True)
class FalseAlarms:
    """Held-out items of the model's classes that a float graph and its int8 version call novel.

    Args:
        n: number of items.
        before, after: shares that are called novel.
    """

    n: int
    before: float
    after: float


def compare_novelty(expected: Floats, found: Floats, threshold: float) -> NoveltyAgreement:
    """Compare scores ``[N]``.

    >>> import numpy as np
    >>> scores = np.array([0.1, 0.5], np.float32)
    >>> compare_novelty(scores, scores + 0.01, threshold=0.3).agreement
    1.0
    """
    same = (expected > threshold) == (found > threshold)
    clear = ~same & (np.abs(expected - threshold) > CLOSE)
    return NoveltyAgreement(
        n=len(expected),
        max_difference=float(np.abs(expected - found).max()),
        agreement=float(same.mean()),
        clear_disagreements=int(clear.sum()),
    )


def reject_other_novelty(agreement: NoveltyAgreement, target: str) -> None:
    """Raise UserError for an export whose novelty scores are not the model's."""
    if agreement.clear_disagreements or agreement.max_difference > LARGEST_DIFFERENCE:
        raise UserError(
            f"the exported graph disagrees with the model: novelty scores differ by up to "
            f"{agreement.max_difference:.4f}, {agreement.agreement:.1%} of {agreement.n} inputs are called novel alike",
            where=f"--to {target}",
            fix=REPORT,
        )


def false_alarms(before: Floats, after: Floats, threshold: float) -> FalseAlarms:
    """Count items that are called novel, from the scores of two graphs ``[N]``.

    >>> import numpy as np
    >>> false_alarms(np.array([0.1, 0.5], np.float32), np.array([0.1, 0.2], np.float32), threshold=0.3)
    FalseAlarms(n=2, before=0.5, after=0.0)
    """
    shares = (float((scores.astype(np.float64) > threshold).mean()) for scores in (before, after))
    return FalseAlarms(n=len(before), before=next(shares), after=next(shares))
