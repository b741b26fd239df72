"""Facts about this machine that decide speed, never results."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Cores this process may use: the affinity mask where the platform has one, else all."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
