"""Shared by the tables of gains: fixed train, val and test folders, drawn once, and differences over test items.

Since the splits are fixed, seeds differ in training alone.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.tables.common import NO_DATA, Settings, Text

SUFFIXES = (".jpg", ".jpeg", ".png")


def signs(data: Path, out: Path, per_class: int) -> Path:
    """Divide sign-digits: `per_class` training photos, 30 validation photos per class, the rest (at most 76) test."""
    if not out.exists():
        photos = [
            (path.parent.name, path.name, path.read_bytes())
            for path in sorted((data / "sign-digits" / "Dataset").rglob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        # Training photos come last, so that validation and test photos are the same for every number of them.
        _write(photos, out, {"val": 30, "test": 76, "train": per_class})
    return out


def cifar(data: Path, out: Path, per_class: int) -> Path:
    """Draw from CIFAR-10: training images from its training part, 100 + 200 per class from its test part."""
    if not out.exists():
        _write(_members(data / "cifar10-jpeg" / "train.tar.gz"), out, {"train": per_class})
        _write(_members(data / "cifar10-jpeg" / "test.tar.gz"), out, {"val": 100, "test": 200})
    return out


def ants(data: Path, out: Path, val: int = 30) -> Path:
    """Divide hymenoptera: its own validation photos are the test items; `val` training photos per class validate."""
    if not out.exists():
        for source, counts in (("train", {"val": val, "train": 1000}), ("val", {"test": 1000})):
            photos = [
                (path.parent.name, path.name, path.read_bytes())
                for path in sorted((data / "hymenoptera" / source).rglob("*"))
                if path.suffix.lower() in SUFFIXES
            ]
            _write(photos, out, counts)
    return out


def work(settings: Settings) -> Path:
    """Return the folder of data and runs that rows share; it may be deleted at any time."""
    folder = Path(tempfile.gettempdir()) / ("restune-gains-quick" if settings.quick else "restune-gains")
    folder.mkdir(exist_ok=True)
    return folder


def missing(settings: Settings) -> Text | None:
    """Say why the tables cannot be measured: their data is not there."""
    needed = ("sign-digits/Dataset", "cifar10-jpeg/train.tar.gz", "weights/resnet20-12fca82f.th")
    return None if all((settings.data / name).exists() for name in needed) else NO_DATA


def over_items(run: Path, other: Path) -> Mapping[str, Any]:
    """Return a run's gain in test accuracy over another, in points, with the 95% paired bootstrap interval."""
    from restune.evaluation.compare import compare
    from restune.evaluation.evaluation import load_evaluation

    one, two = (load_evaluation(folder / "evaluation" / "test.npz") for folder in (run, other))
    found = compare(one, two).accuracy
    low, high = found.interval
    return {"gain": 100 * found.difference, "low": 100 * low, "high": 100 * high}


def _members(archive: Path) -> Iterable[tuple[str, str, bytes]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if member.isfile() and path.suffix.lower() in SUFFIXES:
                file = tar.extractfile(member)
                assert file is not None
                yield path.parent.name, path.name, file.read()


def _write(photos: Iterable[tuple[str, str, bytes]], out: Path, counts: dict[str, int]) -> None:
    """Write so many photos of each class into each split's folder, in an order drawn with seed 0."""
    by_class = defaultdict(list)
    for label, name, content in photos:
        by_class[label].append((name, content))
    for label in sorted(by_class):
        found = sorted(by_class[label])
        order = iter(np.random.default_rng(0).permutation(len(found)))
        for split, count in counts.items():
            folder = out / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for _, place in zip(range(count), order, strict=False):
                name, content = found[place]
                (folder / name).write_bytes(content)
