"""cache: what restune keeps between runs, how large it is, and how to be rid of it."""

from __future__ import annotations

import re

from restune.core.console import warn_once
from restune.core.errors import UserError
from restune.core.files import cache_folder
from restune.core.rowstore import StoreInfo, list_stores, remove_store

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def cached_features() -> list[StoreInfo]:
    """The tables of features in the cache folder, the longest unused first. Raises UserError where it is unreadable."""
    folder = cache_folder() / "features"
    try:
        return list_stores(folder)
    except OSError as error:
        raise UserError(
            f"the cache folder cannot be read: {error.strerror}",
            where=str(folder),
            fix="make it readable, or name another with RESTUNE_CACHE",
        ) from error


def prune_features(*, to: str | int | None = None, unused_days: float | None = None) -> list[StoreInfo]:
    """Remove tables of features, the longest unused first.

    Args:
        to: until the rest is no larger than this, such as ``"2G"``, or bytes; 0 removes all.
        unused_days: those unused for so long.

    Returns what was removed; a warning names what could not be. Raises UserError when neither is named.
    """
    if to is None and unused_days is None:
        raise UserError("what is to be removed?", where="--prune", fix="name --to 2G or --unused-days 30; --to 0: all")
    stores = cached_features()
    limit = None if to is None else parse_size(to)
    total = sum(store.size for store in stores)
    removed = []
    for store in stores:
        is_old = unused_days is not None and store.used >= unused_days * 86400
        if is_old or (limit is not None and total > limit):
            if not remove_store(store):
                fault = f"this table of the cache cannot be removed; RESTUNE_CACHE names another folder: {store.folder}"
                warn_once(fault, about=f"removing from {store.folder.parent}")
                continue
            total -= store.size
            removed.append(store)
    return removed


def parse_size(text: str | int) -> int:
    """Bytes from ``500M``, ``2G`` or a number. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(text).strip().lower())
    if not found:
        raise UserError(f"{text!r} is no size", where="--to", fix="write it like 500M or 2G")
    return int(float(found[1]) * _UNITS[found[2]])
