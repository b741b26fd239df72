"""The CIFAR-10 files that several tables train on, and small copies of them for quick runs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from benchmarks.tables.common import NO_DATA, Settings, Text


def cifar_files(settings: Settings, scratch: Path, per_class: int) -> tuple[Path, Path]:
    """Return the training and the test file; in a quick run copies of `per_class` images a class, in `scratch`."""
    train, test = (settings.data / "cifar10-jpeg" / f"{split}.tar.gz" for split in ("train", "test"))
    if not settings.quick:
        return train, test
    return subset(train, per_class, scratch / "train.tar"), subset(test, per_class, scratch / "test.tar")


def cifar_missing(settings: Settings) -> Text | None:
    """Return why the files cannot be had here; None where they are there."""
    files = [settings.data / "cifar10-jpeg" / f"{split}.tar.gz" for split in ("train", "test")]
    return None if all(file.is_file() for file in files) else NO_DATA


def subset(source: Path, per_class: int, target: Path) -> Path:
    """Copy the first files of each class folder of a tar to another tar."""
    taken: dict[str, int] = {}
    with tarfile.open(source) as read, tarfile.open(target, "w") as written:
        for member in read:
            label = Path(member.name).parent.name
            if not member.isfile() or taken.get(label, 0) >= per_class:
                continue
            content = read.extractfile(member)
            assert content is not None
            written.addfile(member, io.BytesIO(content.read()))
            taken[label] = taken.get(label, 0) + 1
    return target
