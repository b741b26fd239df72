"""Set the number of torch's compute threads for one thread of the program only."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

_Set = Callable[[int], Any]


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Compute with `count` torch threads within this block, in this thread only.

    ``torch.set_num_threads`` would also affect threads started later. It is used only if torch's OpenMP or MKL cannot
    be accessed: results depend on the number.
    """
    before = torch.get_num_threads()
    openmp, mkl = _openmp(), _mkl()
    if openmp is None or (mkl is None and torch.backends.mkl.is_available()):  # type: ignore[no-untyped-call]
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
        return
    openmp(count)
    mkl_before = 0 if mkl is None else mkl(count)
    try:
        yield
    finally:
        openmp(before)
        if mkl is not None:
            mkl(mkl_before)


def compute_alone() -> None:
    """Limit torch to one compute thread in this thread from now on, for parallel workers.

    Does nothing if torch's OpenMP cannot be accessed, which costs only time.
    """
    torch.get_num_threads()  # torch sets a thread's default at its first use, which must be before our setting
    openmp, mkl = _openmp(), _mkl()
    if openmp is not None:
        openmp(1)
    if mkl is not None:
        mkl(1)


@cache
def _openmp() -> _Set | None:
    """Return ``omp_set_num_threads`` of torch's OpenMP; None if it is not found or has no effect."""
    candidates: list[_Set] = []
    if sys.platform == "win32":  # symbols are not searched in a library's dependencies
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().select(user_api="openmp").lib_controllers
        candidates += [controller.set_num_threads for controller in found]
    elif hasattr(_torch(), "omp_set_num_threads"):
        candidates.append(_torch().omp_set_num_threads)
    return next((candidate for candidate in candidates if _concerns_one_thread(candidate)), None)


@cache
def _mkl() -> _Set | None:
    """Return MKL's setter for the calling thread, which returns the previous number; None for a torch without MKL.

    0 means OpenMP's number, which ``torch.set_num_threads`` overrides.
    """
    setter: _Set | None = getattr(_torch(), "MKL_Set_Num_Threads_Local", None)
    return setter


@cache
def _torch() -> ctypes.PyDLL:
    return ctypes.PyDLL(torch._C.__file__)  # holds the GIL: these calls are short


def _concerns_one_thread(setter: _Set) -> bool:
    """Return whether the setter affects torch in the calling thread, and only there."""

    def is_heeded() -> bool:
        other = 2 if torch.get_num_threads() == 1 else 1
        setter(other)
        return torch.get_num_threads() == other

    def count_in_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    here, before = torch.get_num_threads(), count_in_new_thread()
    with ThreadPoolExecutor(1) as pool:
        heeded = pool.submit(is_heeded).result()
        return heeded and (torch.get_num_threads(), count_in_new_thread()) == (here, before)
