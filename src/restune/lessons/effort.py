"""The effort that fits a time budget: the speed of this machine on this data, from a probe of a second or two."""

from __future__ import annotations

from restune.data.dataset import Dataset
from restune.lessons.laboratory import Laboratory, Plan
from restune.lessons.lesson import Lesson

_PROBE = Plan("probe", "resnet20")
_PROBE_ITEMS, _PROBE_SECONDS = 320, 0.3
"""Items of the probe, and its seconds on the two cores on which `Lesson.seconds` were measured."""
_DIGITS = 1797
"""Items of the data with which they were measured."""
_SEEDS = 3
_LEAST, _MOST = 0.02, 50.0


def fitting_effort(budget: float, lesson: Lesson, data: Dataset, seeds: int, device: str | None) -> float:
    """Return the effort with which a lesson takes about `budget` seconds here.

    Two significant digits, so that a command can name it. With the least effort a lesson still trains every network for
    one epoch, which may take longer than a very short budget.
    """
    laboratory = Laboratory(data, epochs=1, device=device, limit=_PROBE_ITEMS)
    probes = [laboratory.train(_PROBE, seed).seconds for seed in range(2)]  # the first one also warms up
    speed = min(probes) / _PROBE_SECONDS * _PROBE_ITEMS / min(_PROBE_ITEMS, len(data))
    items = min(len(data), lesson.limit) / min(_DIGITS, lesson.limit)
    return effort_for(budget, lesson.seconds * speed * items * seeds / _SEEDS)


def effort_for(budget: float, seconds: float) -> float:
    """Return the effort for a budget, from the seconds that the usual effort takes.

    >>> effort_for(60.0, 240.0)
    0.25
    """
    return float(f"{max(_LEAST, min(_MOST, budget / seconds)):.2g}")
