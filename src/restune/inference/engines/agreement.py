"""Whether two runtimes give the same answers, compared on real items."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from restune.core.console import note, warn
from restune.inference.engines.runtime import Outputs, ReplaceableRuntime, Runtime

TOLERANCES = {"fp32": 1e-3, "bf16": 0.02}
"""Largest accepted difference of a probability (of regression: in standard deviations of the targets)."""
_COMPARED = 8
"""Number of items of the first batch on which bf16 is compared with fp32."""

Answers = Callable[[Tensor], Tensor]
"""Logits ``[N, C]`` to what is compared: probabilities, or a regression network's outputs."""


def largest_difference(answers: Answers, expected: Tensor, found: Tensor) -> float:
    """Return the largest difference of the answers; infinite where one of them is not finite.

    >>> import torch
    >>> largest_difference(lambda logits: logits, torch.zeros(2, 3), torch.full((2, 3), 0.5))
    0.5
    """
    difference = float((answers(expected) - answers(found)).abs().max())
    return difference if difference == difference else float("inf")


class ReducedPrecision(ReplaceableRuntime):
    """A runtime in bf16, compared with fp32 on the first items it computes.

    Args:
        fast: the runtime in bf16.
        exact: returns the runtime in fp32 that takes over where the answers differ too much.
        answers: see `Answers`.
        reference: computes the network in fp32, to compare with.
        falls_back: False: bf16 was asked for by name; too large a difference is a warning.
    """

    def __init__(
        self,
        fast: Runtime,
        exact: Callable[[], Runtime],
        answers: Answers,
        reference: Runtime,
        *,
        falls_back: bool,
    ) -> None:
        super().__init__(fast)
        self._exact, self._answers = exact, answers
        self._reference: Runtime | None = reference
        self._falls_back = falls_back
        self._is_checked, self._lock = False, threading.Lock()

    def __call__(self, samples: Tensor) -> Outputs:
        """Compute samples ``[N, *sample]``."""
        if not self._is_checked:
            with self._lock:
                if self._reference is not None:
                    self._check(self._reference, samples[:_COMPARED])
                    self._reference, self._is_checked = None, True  # gives its memory back
        return self.current(samples)

    def _check(self, reference: Runtime, samples: Tensor) -> None:
        expected, found = reference(samples)[0], self.current(samples)[0]
        difference = largest_difference(self._answers, expected, found)
        allowed = TOLERANCES["bf16"]
        if difference <= allowed:
            note(f"bf16: answers for the first {len(samples)} items agree with fp32 to {difference:.4f}")
        elif self._falls_back:
            note(f"fp32: answers in bf16 differ by {difference:.3f} on the first {len(samples)} items")
            self.current = self._exact()
        else:
            warn(
                f"answers in bf16 differ from fp32 by {difference:.3f} on the first {len(samples)} items, more than "
                f"{allowed:g} (--precision)"
            )


def compared_answers(task: str, probabilities: Callable[[Tensor], Tensor]) -> Answers:
    """Return what is compared of a model's logits ``[N, C]``.

    Args:
        task: the model's.
        probabilities: logits of views ``[N, V, C]`` to probabilities.
    """

    def answers(logits: Tensor) -> Tensor:
        with torch.inference_mode():
            return logits if task == "regression" else probabilities(logits[:, None])

    return answers
