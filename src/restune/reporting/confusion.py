"""The confusion matrix as rows for a page, and the pairs of classes that are confused most."""

from __future__ import annotations

from dataclasses import dataclass

from restune.evaluation.evaluation import Evaluation

WIDEST = 40
"""Classes up to which the whole matrix is drawn."""
_MOST_PAIRS = 10


@dataclass(frozen=True)
class Pair:
    """Items of one class predicted as another.

    Args:
        n: their number.
        of: number of items of the true class.
    """

    true: str
    predicted: str
    n: int
    of: int

    @property
    def share(self) -> float:
        """Share of the true class's items."""
        return self.n / self.of


def matrix(score: Evaluation) -> list[tuple[str, list[tuple[int, int]]]] | None:
    """Return a row per true class: its name, and for each predicted class the count and its percentage of the row.

    None for more classes than a page has room for.
    """
    if len(score.classes) > WIDEST:
        return None
    totals = score.confusion.sum(axis=1).clip(1)
    return [
        (name, [(int(count), round(100 * int(count) / int(total))) for count in row])
        for name, row, total in zip(score.classes, score.confusion, totals, strict=True)
    ]


def most_confused(score: Evaluation) -> list[Pair]:
    """Return the pairs of different classes with the most items, the most frequent first."""
    totals = [row.n for row in score.per_class.values()]
    return [
        Pair(score.classes[true], score.classes[predicted], count, totals[true])
        for true, predicted, count in score.most_confused[:_MOST_PAIRS]
    ]
