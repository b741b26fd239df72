"""Stateless random numbers: every draw is a pure function of the seed, a purpose and a context.

Counter-based generation (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a stream's key is a
hash of the seed, the purpose and the context (an epoch, a view); its counter is the row. Any worker can therefore
draw any row alone, in any order, with the same result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PER_COUNT = 4
"""64-bit values that Philox generates per counter value."""


def derive(seed: int, purpose: str, *context: int) -> int:
    """Hash all arguments to a 128-bit integer."""
    text = "\0".join([str(seed), purpose, *map(str, context)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, *context: int) -> np.random.Generator:
    """Return a fresh generator for one decision, such as the order of an epoch."""
    return np.random.Generator(np.random.Philox(key=derive(seed, purpose, *context)))


def torch_seed(seed: int, purpose: str, *context: int) -> int:
    """Return a seed for torch's own generator, which draws dropout and initial weights."""
    return derive(seed, purpose, *context) % 2**63


def uniforms(seed: int, purpose: str, rows: Sequence[int], count: int, *context: int) -> NDArray[np.float64]:
    """Draw uniform values in [0, 1), ``[len(rows), count]``; each row depends on its index only, not on the others.

    Consecutive rows are drawn in one call.
    """
    width = -(-count // _PER_COUNT)  # counter values per row
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
