"""Facts about this machine that decide speed, never results."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

from restune.core.cgroups import cpu_limit, memory_limit


def cpu_count(root: Path = Path("/")) -> int:
    """Cores this process may use: its affinity mask, or what a container's quota of processor time comes to.

    Threads beyond a quota are stopped for the rest of each period, all at once.

    Args:
        root: holds ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_limit(root)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def memory_bytes(root: Path = Path("/")) -> int:
    """The machine's memory, or what a container's limit leaves of it; 8 GiB where the platform does not say.

    Args:
        root: holds ``proc`` and ``sys``.
    """
    total = 8 * 2**30
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit(root)
    return total if limit is None else min(total, limit)


def local_processes() -> int:
    """Processes of one run that share this machine, as torchrun says; 1 without it."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def has_fast_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware; elsewhere it is emulated, tens of times slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def memory_mib() -> int:
    """The most memory this process has held, MiB; 0 where the platform does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def describe_machine() -> dict[str, object]:
    """What a report should say about where its numbers come from."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": cpu_count(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "bf16": has_fast_bf16(),
    }
