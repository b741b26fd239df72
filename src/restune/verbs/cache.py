"""cache: list and remove the features that restune stores between runs."""

from __future__ import annotations

import re

from restune.core.console import warn_once
from restune.core.errors import UserError
from restune.core.files import cache_folder
from restune.core.rowstore import StoreInfo, list_stores, remove_store

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def cached_features() -> list[StoreInfo]:
    """List the tables of features in the cache folder, longest unused first. Raises UserError if it is unreadable."""
    folder = cache_folder() / "features"
    try:
        return list_stores(folder)
    except OSError as error:
        raise UserError(
            f"the cache folder cannot be read: {error.strerror}",
            where=str(folder),
            fix="make it readable, or set RESTUNE_CACHE to another folder",
        ) from error


def prune_features(*, to: str | int | None = None, unused_days: float | None = None) -> list[StoreInfo]:
    """Remove tables of features, the longest unused first.

    Args:
        to: remove tables until the total size is at most this, such as ``"2G"``, or bytes; 0 removes all.
        unused_days: remove tables that were not used for this many days.

    Returns the removed tables; a warning lists those that could not be removed. Raises UserError if neither is set.
    """
    if to is None and unused_days is None:
        raise UserError("no limit for removal", where="--prune", fix="add --to 2G or --unused-days 30; --to 0: all")
    stores = cached_features()
    limit = None if to is None else parse_size(to)
    total = sum(store.size for store in stores)
    removed = []
    for store in stores:
        is_old = unused_days is not None and store.used >= unused_days * 86400
        if is_old or (limit is not None and total > limit):
            if not remove_store(store):
                fault = f"a cache table cannot be removed: {store.folder}. To use another folder, set RESTUNE_CACHE"
                warn_once(fault, about=f"removing from {store.folder.parent}")
                continue
            total -= store.size
            removed.append(store)
    return removed


def parse_size(text: str | int) -> int:
    """Parse a size such as ``500M``, ``2G`` or a number to bytes. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(text).strip().lower())
    if not found:
        raise UserError(f"{text!r} is not a size", where="--to", fix="write it like 500M or 2G")
    return int(float(found[1]) * _UNITS[found[2]])
