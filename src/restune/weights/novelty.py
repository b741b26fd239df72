"""What a bundle knows of its training data: embeddings against which unknown inputs stand out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

REFERENCE = "novelty.reference"
"""The tensor's name in a bundle."""
_MOST_ITEMS = 100_000
_ROWS = 1024
_KEYS = frozenset(("k", "threshold", "promised", "false_alarms", "n"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Novelty:
    """Tell inputs that are unlike the training data: the distance to the k-th nearest training embedding.

    Args:
        reference: L2-normalised embeddings of training items, float16 ``[M, F]``.
        k: which neighbour's distance is the score.
        threshold: an input with a larger score is novel.
        promised: the wanted false-alarm rate: the share of inputs like the validation items that are called novel.
        false_alarms, n: validation items called novel by thresholds that were set on other validation items, of n.

    Source: Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", arXiv:2204.06507.
    """

    reference: Tensor = field(repr=False)
    k: int
    threshold: float
    promised: float
    false_alarms: int
    n: int

    def scores(self, embeddings: Tensor) -> Tensor:
        """Return each item's distance to its k-th nearest reference, between 0 and 2, from embeddings ``[N, F]``."""
        reference = self.reference.float()
        return torch.cat([_distances(part, reference, self.k) for part in torch.split(embeddings.float(), _ROWS)])

    def to_dict(self) -> dict[str, Any]:
        """Return all but the reference, for a bundle's header."""
        return {
            "k": self.k,
            "threshold": self.threshold,
            "promised": self.promised,
            "false_alarms": self.false_alarms,
            "n": self.n,
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Novelty):
            return NotImplemented
        return self.to_dict() == other.to_dict() and torch.equal(self.reference, other.reference)

    __hash__ = None  # type: ignore[assignment]


def normalized(embeddings: Tensor) -> Tensor:
    """Divide embeddings ``[N, F]`` by their L2 norms; zero stays zero."""
    return torch.nn.functional.normalize(embeddings.float(), dim=1)


def novelty_from_bundle(content: Mapping[str, Any], reference: Tensor | None, features: int) -> Novelty:
    """Check what a bundle holds and return it. Raises ValueError or TypeError for anything else.

    Args:
        content: the header's entry.
        reference: the tensor of that name.
        features: size of the network's embeddings.
    """
    if not isinstance(content, dict) or set(content) != _KEYS:
        raise TypeError("novelty has other entries than " + ", ".join(sorted(_KEYS)))
    if not all(type(content[name]) is int for name in ("k", "false_alarms", "n")):
        raise TypeError("a count of novelty is not a whole number")
    if not all(type(content[name]) in (int, float) for name in ("threshold", "promised")):
        raise TypeError("a value of novelty is not a number")
    if reference is None or reference.dtype != torch.float16 or reference.ndim != 2:
        raise ValueError(f"{REFERENCE} is not a table of float16")
    items = len(reference)
    if reference.shape[1] != features or not 1 <= items <= _MOST_ITEMS:
        raise ValueError(f"{REFERENCE} is {list(reference.shape)}, embeddings have {features} values")
    norms = reference.float().norm(dim=1)
    if not bool(((norms > 0.9) & (norms < 1.1) | (norms == 0)).all()):
        raise ValueError(f"{REFERENCE} is not normalised")
    in_range = (
        1 <= content["k"] <= items
        and math.isfinite(content["threshold"])
        and 0 <= content["threshold"] <= 2
        and 0 < content["promised"] < 1
        and 0 <= content["false_alarms"] <= content["n"]
        and content["n"] > 0
    )
    if not in_range:
        raise ValueError("novelty has a value that is out of range")
    return Novelty(reference=reference, **{name: content[name] for name in _KEYS})


def _distances(embeddings: Tensor, reference: Tensor, k: int) -> Tensor:
    similarity = (normalized(embeddings) @ reference.T).topk(k, dim=1).values[:, k - 1]
    return (2 - 2 * similarity).clamp(min=0, max=4).sqrt()
