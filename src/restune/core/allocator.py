"""Freed memory kept for the next step instead of being given back and asked for again."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from restune.core.shared_setting import SharedSetting

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h of glibc
_KEEP = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}
_ADAPTED = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}
"""Where glibc's own adaptation ends. It raises both thresholds, from 128 KiB, to what a program allocates and frees, up
to these values; setting any of the three ends that adaptation for good. With the values that a program starts with,
which cannot be asked for either, every large allocation of it would then be mapped from the kernel anew."""

_CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
_CHOSEN_TUNABLES = ("glibc.malloc.trim_threshold", "glibc.malloc.mmap_threshold", "glibc.malloc.mmap_max")


def freed_memory_kept() -> AbstractContextManager[None]:
    """Within this block the C library keeps what is freed; after the outermost block it gives everything back.

    Every step of a network allocates and frees the same large tensors. glibc maps each from the kernel and unmaps it,
    so that the kernel clears its pages anew at every step: `benchmarks/allocation.py` says what that costs. Numbers
    do not change. Nothing happens where the C library is not glibc, or where the environment sets these thresholds.
    """
    return nullcontext() if _glibc() is None or _is_chosen() else _memory.wanted()


def give_back_freed_memory() -> None:
    """After something far larger than usual: each thread would keep what it freed, as much as the largest needed."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _keep() -> Callable[[], None]:
    library = _glibc()
    assert library is not None
    _set(library, _KEEP)

    def restore() -> None:
        _set(library, _ADAPTED)
        library.malloc_trim(0)

    return restore


_memory = SharedSetting(_keep)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)


def _is_chosen() -> bool:
    """Whether who started this process has chosen the thresholds."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(name in os.environ for name in _CHOSEN) or any(name in tunables for name in _CHOSEN_TUNABLES)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    known = all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim"))
    return library if known else None
