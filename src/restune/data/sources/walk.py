"""List files under a folder in order, safe against link cycles."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from restune.core.errors import UserError
from restune.data.not_taken import current

_HIDDEN = frozenset(
    {"__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin"}
    | {"system volume information", "@eadir", "lost+found"}
)
_MOST_VISITS = 256
"""Maximum times that links may lead into the same folder."""
_Identity = tuple[int, int]
"""A folder's device and inode."""
_Open = tuple[_Identity, str, Iterator[str], str]
"""A folder that is being listed: its identity, its path, its remaining entries, and its path below the first one."""
_FILE, _FOLDER, _LINK = "\0f", "\0d", "\0l"


def is_hidden(name: str) -> bool:
    """Return whether a file or folder belongs to the system, not the data: dot files, ``__MACOSX``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _HIDDEN


def walk_files(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """List the wanted files under a folder as `walk_names`. Raises UserError."""
    return (folder / name for name in walk_names(folder, wanted))


def walk_names(folder: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """List the wanted files' paths below a folder, sorted, without hidden names and the folders of runs.

    Follows links, but not to parents. Other files and empty folders are counted, see `not_taken.counting`. Raises
    UserError for an unreadable folder, and for links that lead to one folder repeatedly.
    """
    visits: Counter[_Identity] = Counter()
    passed_over = current()
    here, entries = _look_into(folder)
    open_folders: list[_Open] = [(here, str(folder), entries, "")]  # outermost first
    while open_folders:
        _, parent, remaining, place = open_folders[-1]
        entry = next(remaining, None)
        if entry is None:
            open_folders.pop()
            continue
        name = entry[: -len(_FILE)]
        inside = f"{place}/{name}" if place else name
        if _is_folder(entry, parent, name):
            path = f"{parent}{os.sep}{name}"
            here, entries = _look_into(Path(path))
            if any(here == above for above, _, _, _ in open_folders):  # a link to a parent would loop forever
                continue
            if _is_run(Path(path)):
                continue
            visits[here] += 1
            if visits[here] > _MOST_VISITS:
                raise UserError(
                    f"links lead to this folder more than {_MOST_VISITS} times",
                    where=path,
                    fix="remove links between folders that lead to each other",
                )
            first = next(entries, None)
            if first is not None:
                open_folders.append((here, path, chain((first,), entries), inside))
            elif passed_over is not None:
                passed_over.add_empty(inside)
        elif wanted(name):
            yield inside
        elif passed_over is not None:
            passed_over.add(place, name)


def _look_into(folder: Path) -> tuple[_Identity, Iterator[str]]:
    """Return a folder's identity and the names in it, sorted, each with a mark: a million entries take 90 MB so."""
    try:
        status = folder.stat()
        with os.scandir(folder) as found:
            entries = sorted(one.name + _mark(one) for one in found if not is_hidden(one.name))
    except OSError as error:
        raise UserError(f"cannot read this folder: {error.strerror}", where=str(folder)) from error
    return (status.st_dev, status.st_ino), iter(entries)


def _mark(entry: os.DirEntry[str]) -> str:
    """Return what an entry is; the zero byte, which no name contains, sorts marked names as names."""
    if entry.is_symlink():
        return _LINK
    return _FOLDER if entry.is_dir(follow_symlinks=False) else _FILE


def _is_folder(entry: str, parent: str, name: str) -> bool:
    if entry.endswith(_LINK):
        return os.path.isdir(f"{parent}{os.sep}{name}")  # noqa: PTH112 (called for each of millions of links)
    return entry.endswith(_FOLDER)


def _is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run, which may lie among the data it was made from."""
    return (folder / "recipe.yaml").is_file() and any((folder / n).exists() for n in ("split.csv", "checkpoints"))


def suffix_of(name: str) -> str:
    """Return the suffix of a path's last part in lower case, as `PurePosixPath` finds it, in a tenth of its time.

    >>> suffix_of("photos/a.JPG"), suffix_of(".hidden")
    ('.jpg', '')
    """
    last = name.rstrip("/").rpartition("/")[2]
    dot = last.rfind(".")
    return last[dot:].lower() if 0 < dot < len(last) - 1 else ""
