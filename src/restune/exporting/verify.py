"""Compare an export with restune's own path: the largest difference of probabilities, and how often labels agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.exporting.deployable import Answer, answer_of, novelty_of_graph
from restune.exporting.raw_examples import RawExample
from restune.inference.model import Model

CLOSE = 0.02
"""Two best probabilities closer than this may change places: pixels may differ by a grey level."""
LARGEST_DIFFERENCE = 0.05
"""Of a probability, beyond which an export is wrong: a grey level here and there moves it by a few thousandths."""

REPORT = (
    "nothing was written; report this with the model's network and the versions that `restune --version` and "
    "`pip list` print"
)
"""What to do about an export that disagrees."""


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What restune itself computes of the examples.

    Args:
        answers: probabilities or values ``[N, C]``.
        novelty: scores ``[N]``; None where the model does not know its training data.
    """

    answers: NDArray[np.float32]
    novelty: NDArray[np.float32] | None


def expected_answers(model: Model, examples: Sequence[RawExample]) -> Expected:
    """Compute restune's own answers: decoding, preprocessing, network and novelty as in predict."""
    answer, rows, scores = answer_of(model), [], []
    known = novelty_of_graph(model)
    for example in examples:
        sample = model.preprocess.stack([example.sample(model.preprocess)])
        logits, embeddings = model.logits_and_embeddings(sample[:, None])
        rows.append(answer(logits[:, 0]))
        if known is not None and embeddings is not None:
            scores.append(known.scores(embeddings[:, 0]))
    return Expected(answers=torch.cat(rows).numpy(), novelty=torch.cat(scores).numpy() if scores else None)


def compare(expected: NDArray[np.float32], found: NDArray[np.float32], answer: Answer = Answer()) -> Agreement:  # noqa: B008
    """Compare answers ``[N, C]``: probabilities, or values in units of the targets' deviation.

    Labels agree where the most probable class is the same, of multi-label data where every probability is on the same
    side of 0.5; values agree within `LARGEST_DIFFERENCE` of a deviation.

    >>> import numpy as np
    >>> compare(np.array([[0.9, 0.1]], np.float32), np.array([[0.8, 0.2]], np.float32)).agreement
    1.0
    """
    differences = np.abs(expected - found)
    if answer.task == "regression":
        differences = differences / answer.get_buffer("std").numpy()
        same = (differences <= LARGEST_DIFFERENCE).all(axis=1)
        clear = ~same
    elif answer.task == "multi-label":
        same = ((expected >= 0.5) == (found >= 0.5)).all(axis=1)
        clear = (((expected >= 0.5) != (found >= 0.5)) & (np.abs(expected - 0.5) > CLOSE)).any(axis=1)
    else:
        same = expected.argmax(axis=1) == found.argmax(axis=1)
        best = np.sort(expected, axis=1)[:, ::-1]
        margin = best[:, 0] - best[:, 1] if expected.shape[1] > 1 else np.ones(len(expected))
        clear = ~same & (margin > CLOSE)
    return Agreement(
        n=len(expected),
        max_difference=float(differences.max()),
        agreement=float(same.mean()),
        clear_disagreements=int(clear.sum()),
    )


def reject_disagreement(agreement: Agreement, target: str, *, largest: float = LARGEST_DIFFERENCE) -> None:
    """Raise UserError for an export that does not compute what the model does."""
    if agreement.clear_disagreements or agreement.max_difference > largest:
        raise UserError(
            f"the exported graph disagrees with the model: answers differ by up to "
            f"{agreement.max_difference:.4f}, labels agree on {agreement.agreement:.1%} of {agreement.n} inputs",
            where=f"--to {target}",
            fix=REPORT,
        )
