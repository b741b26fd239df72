"""WebDataset shards: tars in which ``KEY.jpg`` and its label, ``KEY.cls`` or ``KEY.json``, are one sample."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, progress, warn
from restune.core.errors import UserError, shorten
from restune.core.files import is_there, user_path
from restune.core.machine import local_processes, local_rank
from restune.data import not_taken
from restune.data.dataset import SPLITS, Dataset
from restune.data.items import Rows
from restune.data.sources.archive import ArchiveLocation, ArchivePlaces, from_members, members, plain_tar
from restune.data.sources.folder import (
    IMAGE_SUFFIXES,
    SPLIT_FOLDERS,
    is_image_name,
    walk_images,
)
from restune.data.sources.shard_index import ShardIndex, index_of, store_index, stored_index
from restune.data.sources.walk import is_hidden
from restune.data.string_array import StringArray

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
CLASS_FILES = ("classes.txt", "classes.json", "classnames.txt")
"""Files of class names beside the shards; the last is that of CLIP's benchmark data sets."""
JSON_KEYS = ("label", "class", "cls")

_MOST_SHARDS = 100_000
_MOST_LABEL_BYTES = 2**20
_LONGEST_NAME = 200
_BRACES = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")

_Files = Iterable[tuple[str, ArchiveLocation]]


def open_tar(path: Path, root: Path | None = None) -> Dataset:
    """Open one tar: a shard if images have labels beside them, else a tar of class folders.

    Class names are looked up beside the tar and in `root`. Raises UserError.
    """
    plain = plain_tar(path)
    index = stored_index(path, plain)
    if index is None:
        with not_taken.counting() as tally:
            remarks: list[str] = []
            files = list(members(path, _is_wanted, remarks.append))
        if not _holds_samples(files):
            _tell(tally, remarks)
            return from_members(files, path)
        index = _indexed(files, path, tally, remarks)
        store_index(path, index)
    index.report()
    samples = _Samples()
    samples.add(_stem(path), plain, index)
    return samples.dataset(str(path), _class_names([root or path.parent, path.parent]))


def open_shards(shards: Sequence[Path], source: str) -> Dataset:
    """Open several shards; items are sorted by shard name, then in the order of the shard.

    An item's id is its shard's name, without suffix, and its key. Shards are train, val and test if their names
    or folders say so and at least two of these exist. Raises UserError.
    """
    shards = sorted({path.absolute() for path in shards})
    missing = [path for path in shards if not (is_there(path) and path.is_file())]
    if missing:
        raise UserError(
            f"{len(missing)} of these {len(shards)} shards are not there: {shorten(path.name for path in missing)}",
            where=source,
            fix="add them, or name a range that exists",
        )
    root = Path(os.path.commonpath([path.parent for path in shards]))
    names = [(path.parent / _stem(path)).relative_to(root).as_posix() for path in shards]
    sides = _sides(names, source)
    indexed: dict[Path, tuple[Path, ShardIndex]] = {}
    with progress("reading headers", len(shards)) as advance:
        for path in _in_own_order(shards):
            plain = plain_tar(path)
            indexed[path] = plain, index_of(path, plain, partial(_built, path))
            advance(1)
    samples = _Samples()
    for path, name, side in zip(shards, names, sides, strict=True):
        plain, index = indexed[path]
        index.report()
        samples.add(name, plain, index, side)
    return samples.dataset(source, _class_names([root, *(path.parent for path in shards)]))


def shards_in(folder: Path) -> list[Path]:
    """List the tars in a folder without images, or in its subfolders train, val and test."""
    try:
        sides = [path for path in folder.iterdir() if path.name.lower() in SPLIT_FOLDERS and path.is_dir()]
        found = [path for place in (folder, *sides) for path in place.iterdir() if _is_tar(path)]
    except OSError:
        return []  # the image reader will raise the error
    # an archive is often stored beside its unpacked files
    return found if found and next(walk_images(folder), None) is None else []


def expand(data: str) -> list[Path]:
    """Expand ``name-{000..099}.tar`` or ``{train,val}-{0..9}.tar`` to shards; empty for any other text.

    If an end of the range begins with 0, numbers are zero-padded, as in a shell. Raises UserError for too many.
    """
    if not data.lower().endswith(ARCHIVE_SUFFIXES) or not _BRACES.search(data):
        return []
    texts: list[str] = []
    choices: list[Sequence[str]] = []
    count, end = 1, 0
    for braces in _BRACES.finditer(data):
        texts.append(data[end : braces.start()])
        end = braces.end()
        first, last, listed = braces.groups()
        count *= listed.count(",") + 1 if listed is not None else abs(int(last) - int(first)) + 1
        if count > _MOST_SHARDS:
            raise UserError(f"this names more than {_MOST_SHARDS:,} shards", where=data, fix="name a smaller range")
        choices.append(listed.split(",") if listed is not None else _numbers(first, last))
    names = ("".join(part for pair in zip(texts, chosen, strict=True) for part in pair) for chosen in product(*choices))
    return [user_path(name + data[end:]) for name in names]


def _numbers(first: str, last: str) -> list[str]:
    padded = any(text.startswith("0") and len(text) > 1 for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    low, high = sorted((int(first), int(last)))
    return [f"{number:0{width}d}" for number in range(low, high + 1)]


@dataclass(frozen=True)
class _Names:
    """Class names by index, in order, and their file."""

    path: Path
    by_index: dict[int, str]


class _UnusableError(Exception):
    """A sample cannot be used; the text names the defect, the same for all such samples."""


def _in_own_order(shards: Sequence[Path]) -> list[Path]:
    """Return the shards from this process's share on, so that processes that start together index different ones."""
    start = len(shards) * local_rank() // local_processes()
    return [*shards[start:], *shards[:start]]


def _built(path: Path) -> ShardIndex:
    """Read the headers and labels of a shard."""
    with not_taken.counting() as tally:
        remarks: list[str] = []
        return _indexed(members(path, _is_wanted, remarks.append), path, tally, remarks)


def _indexed(files: _Files, path: Path, tally: not_taken.Tally, remarks: list[str]) -> ShardIndex:
    """Index a shard's samples, in the order of their first files."""
    keys: list[str] = []
    places: list[ArchiveLocation] = []
    codes: list[int] = []
    labels: dict[str, int] = {}
    left_out: dict[str, tuple[int, str]] = {}
    for key, parts in _by_key(files, _stem(path)).items():
        images = [place for part, place in parts.items() if _is_image(part)]
        try:
            if len(images) != 1:
                raise _UnusableError("several images" if images else "no image KEY.jpg, or another known suffix")
            label = _label(parts)
        except _UnusableError as reason:
            count, first = left_out.get(str(reason), (0, key))
            left_out[str(reason)] = (count + 1, first)
            continue
        keys.append(key)
        places.append(images[0])
        codes.append(labels.setdefault(label, len(labels)))
    return ShardIndex(
        keys=StringArray(keys),
        offsets=np.array([place.offset for place in places], np.int64),
        sizes=np.array([place.size for place in places], np.int64),
        codes=np.array(codes, np.int32),
        labels=tuple(labels),
        left_out=left_out,
        skipped=dict(tally.counts),
        remarks=tuple(remarks),
    )


def _tell(tally: not_taken.Tally, remarks: Iterable[str]) -> None:
    """Print what is odd about a tar, and count its skipped files."""
    for remark in remarks:
        warn(remark)
    counted = not_taken.current()
    if counted is not None:
        counted.counts.update(tally.counts)


class _Samples:
    """The samples of several shards."""

    def __init__(self) -> None:
        self._names = StringArray()
        self._archives: list[Path] = []
        self._columns: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], int]] = []
        self._labels: dict[str, int] = {}
        self._left_out: dict[str, tuple[int, str]] = {}

    def add(self, shard: str, plain: Path, index: ShardIndex, side: str | None = None) -> None:
        """Add the samples of one shard; `plain` is its uncompressed tar."""
        self._names.add(f"{shard}/{key}" for key in index.keys)
        self._archives.append(plain)
        codes = np.array([self._labels.setdefault(label, len(self._labels)) for label in index.labels], np.int32)
        own = codes[index.codes] if len(codes) else index.codes
        self._columns.append((index.offsets, index.sizes, own, -1 if side is None else SPLITS.index(side)))
        for reason, (count, key) in index.left_out.items():
            before, first = self._left_out.get(reason, (0, f"{shard}/{key}"))
            self._left_out[reason] = (before + count, first)

    def dataset(self, source: str, names: _Names | None) -> Dataset:
        """Return all samples and warn of skipped ones. Raises UserError if none are left or a label has no name."""
        reasons = [f"{count} have {reason}, such as {first}" for reason, (count, first) in self._left_out.items()]
        if not len(self._names):
            raise UserError(
                f"no sample of these shards can be used: {'; '.join(reasons) or 'they hold no images'}",
                where=source,
                fix="a sample is an image KEY.jpg and KEY.cls (a class index or name), or KEY.json with a "
                '"label"; a tar of class folders is given by itself',
            )
        for reason in reasons:
            warn(f"samples are skipped: {reason}")
        classes, position = _classes(self._labels, names)
        counts = [len(offsets) for offsets, *_ in self._columns]
        places = ArchivePlaces(
            tuple(self._archives),
            np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            np.concatenate([offsets for offsets, *_ in self._columns]),
            np.concatenate([sizes for _, sizes, _, _ in self._columns]),
        )
        targets = np.array([position[label] for label in self._labels], np.int32)
        sides = np.array([side for *_, side in self._columns], np.int8)
        items = Rows(
            names=self._names,
            places=places,
            targets=targets[np.concatenate([codes for _, _, codes, _ in self._columns])],
            splits=np.repeat(sides, counts) if (sides >= 0).any() else None,
        )
        return Dataset(items=items, classes=classes, source=source)


def _by_key(files: _Files, shard: str) -> dict[str, dict[str, ArchiveLocation]]:
    """Group files by sample key, then by the part after the key's dot."""
    samples: dict[str, dict[str, ArchiveLocation]] = {}
    for name, place in files:
        key, part = _split(name)
        parts = samples.setdefault(key, {})
        if part in parts:
            raise UserError("a file occurs twice in this shard", where=f"{shard}: {name}", fix="remove one of the two")
        parts[part] = place
    return samples


def _split(name: str) -> tuple[str, str]:
    """Split a name into key and part, ``photos/0001`` and ``jpg``, at the file name's first dot as in WebDataset."""
    folder, slash, file = name.rpartition("/")
    stem, _, part = file.partition(".")
    return f"{folder}{slash}{stem}", part.lower()


def _is_image(part: str) -> bool:
    return f".{part}" in IMAGE_SUFFIXES


def _is_wanted(name: str) -> bool:
    return is_image_name(name) or name.lower().endswith((".cls", ".json"))


def _holds_samples(files: Sequence[tuple[str, ArchiveLocation]]) -> bool:
    """Return whether images have labels beside them, rather than class folders above them.

    A .cls file is a label. A .json file in a class folder may hold other metadata: there, the first one must hold a
    label.
    """
    parts: dict[str, dict[str, ArchiveLocation]] = {"cls": {}, "json": {}}
    for name, place in files:
        key, part = _split(name)
        parts.setdefault(part, {})[key] = place
    images = [key for part, places in parts.items() if _is_image(part) for key in places]
    if any(key in parts["cls"] for key in images):
        return True
    first = next((key for key in images if key in parts["json"]), None)
    try:
        return first is not None and ("/" not in first or _from_json(_content(parts["json"][first])) is not None)
    except _UnusableError:
        return False


def _label(parts: dict[str, ArchiveLocation]) -> str:
    """Return a sample's class index or name as text."""
    value: Any = None
    if "cls" in parts:
        value = _content(parts["cls"])
    elif "json" in parts:
        value = _from_json(_content(parts["json"]))
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    if value is None or text in ("", "-1"):  # timm's mark for no label is -1
        raise _UnusableError('no label: neither KEY.cls nor KEY.json with a "label"')
    if text is None or len(text) > _LONGEST_NAME or not text.isprintable():
        raise _UnusableError("a label that is not a class index or name")
    return text


def _content(place: ArchiveLocation) -> str:
    if place.size > _MOST_LABEL_BYTES:
        raise _UnusableError(f"a label file of more than {_MOST_LABEL_BYTES // 2**20} MiB")
    try:
        return place.read().decode("utf-8-sig")
    except OSError:
        raise _UnusableError("a label file that cannot be read") from None
    except UnicodeDecodeError:
        raise _UnusableError("a label file that is not UTF-8 text") from None


def _from_json(content: str) -> Any:
    """Return the value of the first label key; None if there is none."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise _UnusableError("a .json file that cannot be parsed") from None
    if not isinstance(fields, dict):
        return None
    return next((fields[key] for key in JSON_KEYS if fields.get(key) is not None), None)


def _classes(labels: Iterable[str], names: _Names | None) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the ordered classes that have samples, and each label's index into them.

    Labels that are all integers are indices, into the named classes if there are names; others are names.
    """
    labels = list(labels)
    by_index = all(label.isascii() and label.isdigit() for label in labels)
    if names:
        known = names.by_index
    elif by_index:
        known = {index: str(index) for index in map(int, labels)}
    else:
        known = dict(enumerate(sorted(labels)))
    by_name = {name: index for index, name in known.items()}
    meaning = {label: int(label) if by_index else by_name.get(label, -1) for label in labels}
    unknown = sorted(label for label, index in meaning.items() if index not in known)
    if names and unknown:
        raise UserError(
            f"{names.path.name} names {len(known)} classes and none for the label {shorten(unknown)}",
            where=str(names.path),
            fix="indices count from 0: correct the labels or the file, or move the file away",
        )
    present = sorted(set(meaning.values()))
    position = {index: place for place, index in enumerate(present)}
    return tuple(known[index] for index in present), {label: position[index] for label, index in meaning.items()}


def _class_names(folders: Iterable[Path]) -> _Names | None:
    """Read class names from a file beside the shards; None if there is none."""
    found = []
    for folder in dict.fromkeys(folders):
        path = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
        if path:
            found.append(_Names(path, _read_names(path)))
    if not found:
        return None
    other = next((names for names in found if names.by_index != found[0].by_index), None)
    if other:
        raise UserError(
            "two files name different classes", where=f"{found[0].path} and {other.path}", fix="remove one of them"
        )
    note(f"class names from {found[0].path.name}")
    return found[0]


def _read_names(path: Path) -> dict[int, str]:
    """Read class names by index: lines, or a JSON list, ``{"0": "cat"}`` or ``{"cat": 0}``."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _pairs(json.loads(text)) if path.suffix == ".json" else list(enumerate(text.rstrip().split("\n")))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"these class names cannot be read: {error}", where=str(path)) from error
    names = {index: name.strip() for index, name in sorted(pairs)}
    if not names or not all(names.values()):
        what = "a class has no name"
    elif min(names) < 0:
        what = "an index is below 0"
    elif len(names) < len(pairs):
        what = "two classes have the same index"
    elif len(set(names.values())) < len(names):
        what = f"the class {Counter(names.values()).most_common(1)[0][0]!r} occurs twice"
    else:
        return names
    raise UserError(f"{what} in these class names", where=str(path), fix="give each class one name of its own")


def _pairs(content: Any) -> list[tuple[int, str]]:
    if isinstance(content, list):
        content = dict(enumerate(content))
    if isinstance(content, dict):
        pairs = list(content.items())
        if all(type(index) is int for _, index in pairs):
            pairs = [(index, name) for name, index in pairs]
        if all(isinstance(name, str) for _, name in pairs):
            return [(int(index), name) for index, name in pairs]
    raise ValueError("it is neither a list of names nor an object of names and indices")


def _sides(names: Sequence[str], source: str) -> list[str | None]:
    """Return the split of each shard: the last word of its name or folder that names one."""
    words = [re.findall("[a-z]+", name.lower()) for name in names]
    sides = [next((SPLIT_FOLDERS[word] for word in reversed(of) if word in SPLIT_FOLDERS), None) for of in words]
    if len(set(sides) - {None}) < 2:  # all in one split, so it is part of the name: DATA/crash-test-00.tar
        return [None] * len(sides)
    if None in sides:
        others = [name for name, side in zip(names, sides, strict=True) if side is None]
        raise UserError(
            f"shards named train, val or test are mixed with others ({shorten(others)})",
            where=source,
            fix="move the others away, or name them train, val or test",
        )
    return sides


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and not is_hidden(path.name) and path.is_file()


def _stem(path: Path) -> str:
    """Return a shard's name without its suffix."""
    suffix = next(suffix for suffix in ARCHIVE_SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]
