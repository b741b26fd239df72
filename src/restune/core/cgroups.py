"""Limits of Linux control groups (versions 1 and 2) on this process: memory and processor time.

The limits of the process's own group and of all its parents up to the mount apply: containers, systemd slices and
batch systems often set them on a parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_NONE = 2**60
"""Version 1 writes "no limit" as the largest number of pages."""


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the smallest memory limit in bytes; None if there is none.

    Args:
        root: folder that contains ``proc`` and ``sys``.
    """
    found = [_number(group / name) for group in _groups("", root) for name in ("memory.max", "memory.high")]
    found += [_number(group / "memory.limit_in_bytes") for group in _groups("memory", root)]
    return min((limit for limit in found if limit is not None and limit < _NONE), default=None)


def cpu_limit(root: Path = Path("/")) -> float | None:
    """Return the smallest quota of processor time, in cores; None if there is none.

    Args:
        root: folder that contains ``proc`` and ``sys``.
    """
    found = [_quota(_words(group / "cpu.max")) for group in _groups("", root)]
    for group in _groups("cpu", root):
        found.append(_quota(_words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")))
    return min((quota for quota in found if quota is not None), default=None)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the process's group and of its parents, up to the mount.

    Args:
        controller: a version 1 controller such as ``memory``; "" for version 2, which has one hierarchy.
    """
    mount, top = _mount(controller, root)
    try:
        below = PurePosixPath(_own_group(controller, root)).relative_to(top)
    except ValueError:  # the container's mount shows a part of the hierarchy that begins at the process's own group
        below = PurePosixPath()
    if ".." in below.parts:
        below = PurePosixPath()
    folder = root / mount.lstrip("/")
    yield folder
    for part in below.parts:
        folder /= part
        yield folder


def _own_group(controller: str, root: Path) -> str:
    """Return the process's group, from ``/proc/self/cgroup``: lines of number:controllers:path."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (controller in controllers.split(",")) if controller else not controllers:
            return path
    return "/"


def _mount(controller: str, root: Path) -> tuple[str, str]:
    """Return the mount point of the hierarchy and the group that is mounted there."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, last = before.split(), after.split()
        if len(fields) < 5 or len(last) < 3:
            continue
        is_it = controller in last[2].split(",") if controller else True
        if last[0] == ("cgroup" if controller else "cgroup2") and is_it:
            return fields[4], fields[3]
    return f"/sys/fs/cgroup/{controller}", "/"


def _quota(words: list[str]) -> float | None:
    """Compute cores from a quota and a period in microseconds; None for ``max``, -1 and missing values."""
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1]) or None


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if len(words) == 1 and words[0].isdigit() else None


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
