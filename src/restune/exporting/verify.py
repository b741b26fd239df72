"""Compare an export with restune's own path: the largest difference of probabilities, and how often labels agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.exporting.raw_examples import RawExample
from restune.inference.model import Model

CLOSE = 0.02
"""Two best probabilities closer than this may change places: pixels may differ by a grey level."""
LARGEST_DIFFERENCE = 0.05
"""Of a probability, beyond which an export is wrong: a grey level here and there moves it by a few thousandths."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far an export agrees with the model.

    Args:
        n: number of inputs compared.
        max_difference: the largest difference of a probability.
        agreement: share of inputs with the same most probable class.
        clear_disagreements: inputs whose labels differ although the model's two best are not close.
    """

    n: int
    max_difference: float
    agreement: float
    clear_disagreements: int


def expected_probabilities(model: Model, examples: Sequence[RawExample]) -> NDArray[np.float32]:
    """Compute restune's own probabilities ``[N, classes]``: decoding, preprocessing and network as in predict."""
    rows = []
    for example in examples:
        sample = model.preprocess.apply(example.content)
        rows.append(model.probabilities(model.logits(model.preprocess.stack([sample])[:, None])))
    return torch.cat(rows).numpy()


def compare(expected: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    """Compare probabilities ``[N, classes]``.

    >>> import numpy as np
    >>> compare(np.array([[0.9, 0.1]], np.float32), np.array([[0.8, 0.2]], np.float32)).agreement
    1.0
    """
    same = expected.argmax(axis=1) == found.argmax(axis=1)
    best = np.sort(expected, axis=1)[:, ::-1]
    margin = best[:, 0] - best[:, 1] if expected.shape[1] > 1 else np.ones(len(expected))
    return Agreement(
        n=len(expected),
        max_difference=float(np.abs(expected - found).max()),
        agreement=float(same.mean()),
        clear_disagreements=int((~same & (margin > CLOSE)).sum()),
    )


def reject_disagreement(agreement: Agreement, target: str, *, largest: float = LARGEST_DIFFERENCE) -> None:
    """Raise UserError for an export that does not compute what the model does."""
    if agreement.clear_disagreements or agreement.max_difference > largest:
        raise UserError(
            f"the exported graph disagrees with the model: probabilities differ by up to "
            f"{agreement.max_difference:.4f}, labels agree on {agreement.agreement:.1%} of {agreement.n} inputs",
            where=f"--to {target}",
            fix="nothing was written; report this with the model's network and the versions that `restune --version` "
            "and `pip list` print",
        )
