"""Freed memory kept for the next step instead of being given back and asked for again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of glibc
_USUAL = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_KEEP = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}

_lock = Lock()
_users = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within this block the C library keeps what is freed; after the outermost block it gives everything back.

    Every step of a network allocates and frees the same large tensors. glibc maps each from the kernel and unmaps it,
    so that the kernel clears its pages anew at every step: `benchmarks/allocation.py` says what that costs. Numbers
    do not change. Nothing happens where the C library is not glibc.
    """
    global _users  # the C library has one setting a process, so its users are counted a process
    library = _glibc()
    if library is None:
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            _set(library, _KEEP)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set(library, _USUAL)
                library.malloc_trim(0)


def give_back_freed_memory() -> None:
    """After something far larger than usual: each thread would keep what it freed, as much as the largest needed."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    known = all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim"))
    return library if known else None
