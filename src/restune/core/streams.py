"""Randomness without state: every draw is a pure function of the seed, its purpose, and where it is used.

Counter-based generation (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a stream's key is a
hash of the seed, the purpose and the context (an epoch, a view); its counter is the row. So any row can be drawn
alone, in any order, by any worker, and is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PER_COUNT = 4
"""64-bit numbers that Philox makes from one value of its counter."""


def derive(seed: int, purpose: str, *context: int) -> int:
    """A 128-bit number that depends on all of its arguments and on nothing else."""
    text = "\0".join([str(seed), purpose, *map(str, context)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, *context: int) -> np.random.Generator:
    """A fresh generator for one decision, such as the order of an epoch."""
    return np.random.Generator(np.random.Philox(key=derive(seed, purpose, *context)))


def torch_seed(seed: int, purpose: str, *context: int) -> int:
    """A seed for torch's own generator, for what torch draws itself (dropout, initial weights)."""
    return derive(seed, purpose, *context) % 2**63


def uniforms(seed: int, purpose: str, rows: Sequence[int], count: int, *context: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), ``[len(rows), count]``; each row depends on its own number, not on its neighbours.

    Consecutive rows are drawn in one go.
    """
    width = -(-count // _PER_COUNT)  # counter values a row takes
    key = derive(seed, purpose, *context)
    drawn = np.empty((len(rows), count))
    start = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end] == rows[end - 1] + 1:
            continue
        philox = np.random.Philox(key=key)
        philox.advance(rows[start] * width)
        block = np.random.Generator(philox).random((end - start, width * _PER_COUNT))
        drawn[start:end] = block[:, :count]
        start = end
    return drawn
