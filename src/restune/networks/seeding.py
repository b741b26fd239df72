"""What torch's modules draw themselves (initial weights, dropout), made repeatable without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_one_at_a_time = Lock()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within this block torch draws what follows from `seed`; afterwards its generators are as they were before it.

    torch's modules draw from generators that all threads share, so one such block runs at a time.

    Args:
        seed: as for ``torch.manual_seed``, which gives the same numbers.
        device: a GPU whose generator is meant as well as the CPU's.
    """
    with _one_at_a_time:
        generators = [torch.default_generator]
        if device is not None and device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            generators.append(torch.cuda.default_generators[index])
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
