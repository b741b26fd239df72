"""Match a table's paths to files on disk: other slashes, missing suffixes, folders of another machine."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.core.files import is_there
from restune.data.not_taken import SIDE_FILES, counting
from restune.data.sources.readers import content_of
from restune.data.sources.walk import is_hidden, walk_files
from restune.data.string_array import StringArray

_SAMPLE = 200
_MOST_CHECKED = 100_000
_MOST_FOLDERS = 50
_MOST_SEARCHED = 50_000
_MOST_PARTS = 64
_MOST_MISSES = 1000
"""Number of missing names after which the root's folders are no longer searched for each."""
_MOST_TRIED = 1000
_BATCH = 65_536
_DRIVE = re.compile(r"[A-Za-z]:(?=/)")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


class Doubts:
    """Rows whose names may differ from those on disk, collected batch by batch."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.int64]] = []
        self._begin = 0

    def extend(self, names: Any) -> None:
        """Add an Arrow array of names, without nulls."""
        import pyarrow.compute as pc

        content = content_of(names)
        if content.isascii() and not any(mark in content for mark in (b"\\", b":")):
            odd = pc.starts_with(names, "/")
        else:
            odd = pc.or_(pc.invert(pc.string_is_ascii(names)), pc.match_substring_regex(names, r"^[/\\]|\\|^\w+:|/$"))
        self._rows.append(np.flatnonzero(odd.to_numpy(zero_copy_only=False)) + self._begin)
        self._begin += len(names)

    def rows(self) -> NDArray[np.int64]:
        """Return the rows to check: the suspicious ones, up to a limit, and a sample of the others."""
        odd = np.concatenate([np.zeros(0, np.int64), *self._rows])
        if len(odd) > _MOST_CHECKED:
            odd = odd[np.linspace(0, len(odd) - 1, _MOST_CHECKED).astype(np.int64)]
        some = np.linspace(0, max(0, self._begin - 1), min(_SAMPLE, self._begin)).astype(np.int64)
        return np.union1d(odd, some)


def found_files(names: StringArray, doubts: Doubts, root: Path, table: Path) -> StringArray | None:
    """Locate a table's files below `root`; None if all paths are exact.

    Notes how names differ, and warns of missing files with near matches. Raises UserError if several names match one
    file.
    """
    looked_at = doubts.rows()
    absent = [name for name in names.picked(looked_at.tolist()) if not is_there(root / name)]
    if not absent:
        return None
    finder = FileFinder(root)
    some = absent[:: -(-len(absent) // _MOST_TRIED)]
    if not any(finder.find(name) is not None for name in some):
        of = f"{len(looked_at):,} files" + (" looked at" if len(looked_at) < len(names) else "")
        _warn_of_missing(len(absent), len(looked_at), of, absent[0], finder)
        return None
    finder.restart()
    found, missing, first = _all_found(names, finder)
    if missing:
        _warn_of_missing(missing, len(names), f"{len(names):,} files", first, finder)
    if not finder.ways:
        return None
    _reject_shared(names, found, str(table))
    ways = "; ".join(f"{way} ({count:,} files)" for way, count in finder.ways.most_common(4))
    note(f"{table.name}: names differ from those on disk: {ways}")
    return found


def _all_found(names: StringArray, finder: FileFinder) -> tuple[StringArray, int, str]:
    """Return each file's path, the number of missing files and the first of them."""
    import pyarrow as pa

    found, missing, first = StringArray(), 0, ""
    for begin in range(0, len(names), _BATCH):
        batch: list[str] = []
        for name in names.picked(range(begin, min(begin + _BATCH, len(names)))):
            file = finder.find(name)
            if file is None:
                missing, first = missing + 1, first or name
            batch.append(name if file is None else file)
        found.extend(pa.array(batch, pa.string()))
    return found, missing, first


def _warn_of_missing(missing: int, looked_at: int, of: str, name: str, finder: FileFinder) -> None:
    what = f"none of {of} is there" if missing == looked_at else f"{missing:,} of {of} are not there"
    warn(f"{what}, such as {name[:200]!r} ({finder.advice(name)})")


def _reject_shared(names: StringArray, found: StringArray, where: str) -> None:
    """Raise UserError if two names match one file. Compares hashes, which take little memory, then the paths."""
    rows = range(len(found))
    hashes = np.fromiter((hash(os.path.normpath(found[row])) for row in rows), np.int64, len(found))
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]).tolist():
        first, second = sorted((int(order[place]), int(order[place + 1])))
        if os.path.normpath(found[first]) == os.path.normpath(found[second]):
            raise UserError(
                f"{names[first]!r} and {names[second]!r} both mean the file {found[second]!r}",
                where=where,
                fix="name the folder that the paths begin in with --root, or list each file once",
            )


@dataclass(frozen=True)
class _Listing:
    """A folder's files by exact name, NFC form, lower case and stem."""

    exact: frozenset[str]
    composed: dict[str, str]
    folded: dict[str, list[str]]
    stems: dict[str, list[str]]


@dataclass
class FileFinder:
    """Finds files by inexact names. Each folder is listed once.

    Args:
        root: the folder that names are relative to.
        ways: how names differed, with counts.
    """

    root: Path
    ways: Counter[str] = field(default_factory=Counter)
    _listings: dict[str, _Listing | None] = field(default_factory=dict)
    _begin: int = 0
    _misses: int = 0

    def find(self, name: str) -> str | None:
        """Return the path, below the root or absolute, of the file that a name matches; None if there is none.

        Tries the name itself, then its longest existing tail, then the same in the root's folders. Slashes, Unicode
        form, letter case and a missing suffix may differ. Ambiguous names are not found.
        """
        text, ways = _with_slashes(name)
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if not 0 < len(parts) <= _MOST_PARTS:
            return None
        if ".." in parts or text.startswith("/"):
            if is_there(self.root / text):
                self.ways.update(ways)
                return text
            parts = [part for part in parts if part != ".."]
        try:
            found = self._at_root(parts, ways) or self._below_root(parts, ways)
        except _AmbiguousError:
            found = None
        if found is None:
            self._misses += 1
        else:
            self.ways.update(ways)
        return found

    def restart(self) -> None:
        """Reset the missing names and the counts of differences; keep the folder listings."""
        self.ways.clear()
        self._misses = 0

    def _at_root(self, parts: list[str], ways: list[str]) -> str | None:
        """Find the longest tail below the root. Never drops a folder that exists: the file is missing then."""
        begins = dict.fromkeys((0, min(self._begin, len(parts) - 1), *range(len(parts))))
        for begin in begins:
            made: list[str] = []
            found = self._at("", parts[begin:], made)
            if found is not None:
                if begin and self._is_folder(parts[begin - 1]):
                    return None
                self._begin = begin
                ways.extend([*_dropped(parts[:begin]), *made])
                return found
        return None

    def _below_root(self, parts: list[str], ways: list[str]) -> str | None:
        """Find the longest tail in exactly one of the root's folders; for a path, it includes the last folder."""
        for begin in range(max(1, len(parts) - 1)):
            if self._misses >= _MOST_MISSES or (begin and self._is_folder(parts[begin - 1])):
                return None
            matches: list[tuple[str, str, list[str]]] = []
            for folder in self._folders():
                made: list[str] = []
                found = self._at(folder, parts[begin:], made)
                if found is not None:
                    matches.append((folder, found, made))
            if len(matches) == 1:
                folder, found, made = matches[0]
                ways.extend([*_dropped(parts[:begin]), f"below {folder!r}", *made])
                return found
            if matches:
                raise _AmbiguousError
        return None

    def _is_folder(self, name: str) -> bool:
        """Return whether the root has a folder of this name."""
        listing = self._listing("")
        return listing is not None and name in listing.exact and self._listing(name) is not None

    def _folders(self) -> list[str]:
        """List the root's direct subfolders."""
        listing = self._listing("")
        names = sorted(listing.exact) if listing else []
        return [name for name in names if not is_hidden(name) and self._listing(name) is not None][:_MOST_FOLDERS]

    def _at(self, folder: str, parts: list[str], ways: list[str]) -> str | None:
        """Find a file below a folder, matching each part of its path to the names there."""
        here = folder
        for place, part in enumerate(parts):
            listing = self._listing(here)
            actual = None if listing is None else _match(listing, part, place == len(parts) - 1, ways)
            if actual is None:
                return None
            here = f"{here}/{actual}" if here else actual
        return here

    def _listing(self, folder: str) -> _Listing | None:
        if folder not in self._listings:
            self._listings[folder] = _listed(self.root / folder)
        return self._listings[folder]

    def advice(self, name: str) -> str:
        """Suggest a fix for a missing name from its near matches."""
        if _ADDRESS.match(name):
            return "these are web addresses, and nothing is downloaded: download the files, and name their paths"
        text, _ = _with_slashes(name)
        path = PurePosixPath(text)
        here, parts = "", [part for part in path.parts if part not in ("/", "..")]
        for part in parts[:-1]:
            listing = self._listing(here)
            if listing is None or part not in listing.exact:
                break
            here = f"{here}/{part}" if here else part
        else:
            near = self._near(here, path.name)
            if near:
                return near
        elsewhere = self._elsewhere(path.name)
        if elsewhere:
            return (
                f"{shorten(map(repr, elsewhere), 3)} below {self.root} nearly matches: "
                "name the folder that the paths begin in with --root"
            )
        if not self.root.is_dir():
            return f"there is no folder {self.root}: name the folder that the paths begin in with --root"
        listing = self._listing(here)
        held = sorted(one for one in (listing.exact if listing else ()) if not is_hidden(one))
        return (
            f"{self.root / here} holds {shorten(map(repr, held), 4) if held else 'nothing'}: "
            "name the folder that the paths begin in with --root"
        )

    def _near(self, folder: str, name: str) -> str:
        listing = self._listing(folder)
        if listing is None:
            return ""
        same = listing.stems.get(_composed(PurePosixPath(name).stem), [])
        several = same or listing.stems.get(_composed(name), [])
        if len(several) > 1 or same:
            return (
                f"{shorten(map(repr, several), 4)} in the same folder has another suffix: write the suffix in the table"
            )
        near = difflib.get_close_matches(name, islice(listing.exact, _MOST_SEARCHED), n=2, cutoff=0.75)
        return f"{shorten(map(repr, near))} in the same folder nearly matches: correct the name" if near else ""

    def _elsewhere(self, name: str) -> list[str]:
        wanted, stem = _composed(name).casefold(), _composed(PurePosixPath(name).stem).casefold()
        found = []
        try:
            with counting():  # these folders are not part of this data
                for path in islice(walk_files(self.root, lambda _: True), _MOST_SEARCHED):
                    if _composed(path.name).casefold() == wanted or _composed(path.stem).casefold() in (wanted, stem):
                        found.append(path.relative_to(self.root).as_posix())
        except UserError:
            return found
        return found


class _AmbiguousError(Exception):
    """A name matches several files."""


def _dropped(folders: list[str]) -> list[str]:
    """Describe the dropped folders."""
    return [f"without their first folders, such as {'/'.join(folders)[:80]!r}"] if folders else []


def _with_slashes(name: str) -> tuple[str, list[str]]:
    """Return a name with forward slashes, without scheme and drive, and how it differed."""
    text, ways = name.strip(), []
    if text.lower().startswith("file://"):
        text = unquote(text[7:])
    elif _ADDRESS.match(text):
        text = unquote(urlsplit(text).path)
        ways.append("web addresses read as the files they end in")
    if "\\" in text:
        text = text.replace("\\", "/")
        ways.append("backslashes read as /")
    return _DRIVE.sub("", text, count=1), ways


def _match(listing: _Listing, part: str, is_file: bool, ways: list[str]) -> str | None:
    if part in listing.exact:
        return part
    composed = _composed(part)
    if composed in listing.composed:
        ways.append("other Unicode form (NFC, NFD)")
        return listing.composed[composed]
    stems = listing.stems.get(composed, []) if is_file else []
    folded = listing.folded.get(composed.casefold(), [])
    if len(stems) > 1 or (not stems and len(folded) > 1):
        raise _AmbiguousError
    if stems:
        ways.append(f"suffix {PurePosixPath(stems[0]).suffix} added")
        return stems[0]
    if folded:
        ways.append("other letter case")
        return folded[0]
    return None


def _listed(folder: Path) -> _Listing | None:
    try:
        listed = os.listdir(folder)  # noqa: PTH208 (only names are needed, perhaps a million)
    except (OSError, ValueError):
        return None
    names = [name for name in listed if name.isascii() or _is_text(name)]
    composed = {_composed(name): name for name in names}
    folded, stems = defaultdict(list), defaultdict(list)
    for form, name in composed.items():
        folded[form.casefold()].append(name)
        stem, dot, suffix = form.rpartition(".")
        if dot and stem and f".{suffix.lower()}" not in SIDE_FILES:
            stems[stem].append(name)
    return _Listing(frozenset(names), composed, dict(folded), dict(stems))


def _is_text(name: str) -> bool:
    """Return whether a name is valid in the file system's encoding."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=4096)
def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)
