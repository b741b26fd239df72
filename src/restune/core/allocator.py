"""Keep freed memory in the process for the next step instead of returning it to the kernel."""

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
"""The limits of glibc's own adaptation. It raises both thresholds, from 128 KiB up to these values, to the sizes that a
program allocates and frees; setting any of the three parameters disables that adaptation for good. With the initial
values, which cannot be queried either, every later large allocation would be mapped from the kernel again."""

_CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
_CHOSEN_TUNABLES = ("glibc.malloc.trim_threshold", "glibc.malloc.mmap_threshold", "glibc.malloc.mmap_max")


def freed_memory_kept() -> AbstractContextManager[None]:
    """Keep freed memory in the C library within this block; return it to the kernel after the outermost block.

    Every training step allocates and frees the same large tensors. By default glibc maps and unmaps each of them, so
    the kernel zeroes the pages again at every step; `benchmarks/allocation.py` measures the cost. Results do not
    change. Does nothing where the C library is not glibc, or where the environment sets these thresholds.
    """
    return nullcontext() if _glibc() is None or _is_chosen() else _memory.wanted()


def give_back_freed_memory() -> None:
    """Return freed memory to the kernel after unusually large work: else each thread would hold its peak."""
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
    """Return whether the environment of this process sets the thresholds."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(name in os.environ for name in _CHOSEN) or any(name in tunables for name in _CHOSEN_TUNABLES)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    known = all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim"))
    return library if known else None
