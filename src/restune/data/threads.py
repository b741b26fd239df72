"""How many threads torch computes with, set for one thread of the program and for no other."""

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
    """Within this block torch computes with `count` threads in this thread; others keep what they have.

    ``torch.set_num_threads`` would also decide what threads get that the program starts later. It is used only where
    torch's OpenMP or MKL cannot be reached: results depend on the number.
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
    """Let torch compute with one thread in this thread from now on: for one of several that work side by side.

    Where torch's OpenMP cannot be reached nothing happens, which costs time only.
    """
    torch.get_num_threads()  # torch gives a thread its default at the first use, which must not come afterwards
    openmp, mkl = _openmp(), _mkl()
    if openmp is not None:
        openmp(1)
    if mkl is not None:
        mkl(1)


@cache
def _openmp() -> _Set | None:
    """``omp_set_num_threads`` of the library that torch uses; None where it is not found, or does not do this."""
    candidates: list[_Set] = []
    if sys.platform == "win32":  # where a symbol is not looked for in a library's dependencies
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().select(user_api="openmp").lib_controllers
        candidates += [controller.set_num_threads for controller in found]
    elif hasattr(_torch(), "omp_set_num_threads"):
        candidates.append(_torch().omp_set_num_threads)
    return next((candidate for candidate in candidates if _concerns_one_thread(candidate)), None)


@cache
def _mkl() -> _Set | None:
    """What sets MKL's number for the calling thread and returns the last; None of a torch without it. 0 means OpenMP's
    number, which ``torch.set_num_threads`` overrules."""
    setter: _Set | None = getattr(_torch(), "MKL_Set_Num_Threads_Local", None)
    return setter


@cache
def _torch() -> ctypes.PyDLL:
    return ctypes.PyDLL(torch._C.__file__)  # keeps the interpreter's lock: these calls are short


def _concerns_one_thread(setter: _Set) -> bool:
    """Whether torch heeds the setter in the thread that calls it, and there alone."""

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
