"""Measured speeds of engines, remembered in the cache folder for a model, a machine and a batch size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from restune.core.console import warn_once
from restune.core.errors import UserError
from restune.core.files import cache_folder, cached_json, write_text
from restune.core.machine import has_fast_bf16, processor_name
from restune.inference.engines.names import PACKAGES
from restune.inference.engines.runtime import engine_threads

_FILE = "engines.json"
_MOST = 500
"""Number of measurements that are kept; the oldest are forgotten."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured on one batch.

    Args:
        engine, precision: the fastest engine whose answers agree.
        seconds: its time per item.
        torch_seconds: torch's time per item, in fp32.
        start_seconds: time to start the engine from a graph that is made.
        difference: of its answers from torch's.
    """

    engine: str
    precision: str
    seconds: float
    torch_seconds: float
    start_seconds: float
    difference: float


def measurement_key(model: str, shape: Sequence[int], precisions: Sequence[str]) -> str:
    """Return the key of a measurement: everything that determines which engine is fastest.

    Args:
        model: the key of the model's graph.
        shape: of the batch.
        precisions: that may be chosen.
    """
    about = [model, list(shape), sorted(precisions), processor_name(), has_fast_bf16(), engine_threads(), *_versions()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def remembered(key: str) -> Measurement | None:
    """Return a measurement; None where there is none."""
    entry = cached_json(_FILE).get(key)
    try:
        found = Measurement(**entry) if isinstance(entry, Mapping) else None
    except TypeError:
        return None
    if found is None or not all(isinstance(getattr(found, name), int | float) for name in _NUMBERS):
        return None
    return found if isinstance(found.engine, str) and isinstance(found.precision, str) else None


def remember(key: str, measurement: Measurement) -> None:
    """Store a measurement. Warn if the cache folder cannot be written."""
    known = cached_json(_FILE)
    known.pop(key, None)
    kept = dict([*known.items(), (key, asdict(measurement))][-_MOST:])
    try:
        write_text(cache_folder() / _FILE, json.dumps(kept, indent=1) + "\n")
    except UserError as error:
        warn_once(
            f"this measurement is not stored for later runs: {error.what} ({error.where}). To use another cache "
            "folder, set RESTUNE_CACHE",
            about="measurements",
        )


_NUMBERS = ("seconds", "torch_seconds", "start_seconds", "difference")


def _versions() -> list[str]:
    versions = []
    for package in PACKAGES.values():
        try:
            versions.append(version(package))
        except PackageNotFoundError:
            versions.append("")
    return versions
