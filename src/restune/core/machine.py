"""Facts about this machine: cores, memory, processes, bf16 in hardware."""

from __future__ import annotations

import math
import os
import platform
import time
from functools import lru_cache
from pathlib import Path

from restune.core.cgroups import cpu_limit, memory_limit

_ROOT = Path("/")


def cpu_count(root: Path = _ROOT) -> int:
    """Return the number of cores this process may use: its affinity mask, or the container's CPU quota if lower.

    Threads beyond a quota are all suspended for the rest of each period.

    Args:
        root: folder that contains ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_in(int(time.monotonic())) if root == _ROOT else cpu_limit(root)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


@lru_cache(maxsize=1)
def _quota_in(second: int) -> float | None:  # noqa: ARG001
    """Return the CPU quota, read once per second: reading it takes as long as a small network takes for an image."""
    return cpu_limit(_ROOT)


def memory_bytes(root: Path = Path("/")) -> int:
    """Return the machine's memory, or the container's limit if lower; 8 GiB where the platform reports neither.

    Args:
        root: folder that contains ``proc`` and ``sys``.
    """
    total = 8 * 2**30
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit(root)
    return total if limit is None else min(total, limit)


def local_processes() -> int:
    """Return the number of this run's processes on this machine, as set by torchrun; 1 without it."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def local_rank() -> int:
    """Return this process's rank among the run's processes on this machine, as set by torchrun; 0 without it."""
    return min(max(0, int(os.environ.get("LOCAL_RANK", "0"))), local_processes() - 1)


def process_rank() -> tuple[int, int]:
    """Return this process's rank among all processes of the command, and their number, as set by torchrun; 0 and 1
    without it."""
    size = max(1, int(os.environ.get("WORLD_SIZE", "1")))
    return min(max(0, int(os.environ.get("RANK", "0"))), size - 1), size


def has_fast_bf16() -> bool:
    """Return whether this processor multiplies bf16 in hardware; emulation is tens of times slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def processor_name() -> str:
    """Return the processor's name, as far as the platform tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def memory_mib() -> int:
    """Return this process's peak memory, MiB; 0 where the platform does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def describe_machine() -> dict[str, object]:
    """Return the machine facts that a report lists beside its results."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": cpu_count(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "bf16": has_fast_bf16(),
    }
