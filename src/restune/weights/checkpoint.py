"""Read a PyTorch checkpoint file: tensors, plain values and the names of skipped objects. Runs no code."""

from __future__ import annotations

import mmap
import warnings
import zipfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from restune.core.errors import UserError
from restune.weights.unpickle import (
    MAX_PICKLE,
    CodeError,
    StandIn,
    StandInClass,
    Storage,
    StorageKind,
    UnpickleError,
    is_count,
    size_of,
    unpickle,
)

MAGIC = 0x1950A86A20F9469CFC6C
"""Content of the first pickle of a file from before torch 1.6."""
_LOOKED_AT = 1_000
_LOOKED_AT_IN_ALL = 100_000
"""Maximum values searched for objects that were not loaded, per entry of a checkpoint and in total."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Args:
        content: tensors, plain containers and values, and a `StandIn` for every other object.
        skipped: the entries that hold such objects, as ``args (argparse.Namespace)``.
    """

    content: Any
    skipped: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of torch.save, in the zip format or the one from before torch 1.6.

    torch's weights-only reader is tried first. If it refuses, because a training script stored its arguments or numpy
    scalars, the file is read again with stand-ins for such objects. Neither runs code from the file.

    Raises UserError for a damaged file, and for one that names functions that run code.
    """
    try:
        _reject_bombs(path)
        with warnings.catch_warnings(action="ignore"), suppress(Exception):  # our reader gives the reason
            return Checkpoint(torch.load(path, map_location="cpu", weights_only=True))
        content = _from_zip(path) if zipfile.is_zipfile(path) else _from_legacy(path)
    except UserError:
        raise
    except CodeError as error:
        raise UserError(
            f"refused: unpickling this file would run {error}",
            where=str(path),
            fix="do not open it with torch.load; ask its author for a .safetensors file",
        ) from error
    except Exception as error:  # a damaged file raises arbitrary exceptions
        raise _unreadable(path, error) from error
    return Checkpoint(content, _skipped(content))


def _reject_bombs(path: Path) -> None:
    """Raise for a compressed zip: torch.save never compresses, so its expansion is meant to fill memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        held = sum(member.file_size for member in archive.infolist())
    if held > path.stat().st_size:
        raise UserError(
            "this checkpoint is compressed, which torch.save never does", where=str(path), fix="save it again"
        )


def _unreadable(path: Path, error: Exception) -> UserError:
    text = next(iter(str(error).splitlines()), "")[:200]
    reason = text if isinstance(error, UnpickleError) else f"{type(error).__name__} {text}".strip()
    if not path.stat().st_size:
        reason = "it is empty"
    return UserError(f"this file is not a readable checkpoint: {reason}", where=str(path), fix="download it again")


def _from_zip(path: Path) -> Any:
    """Read one pickle, and a member per storage when the pickle refers to it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise UnpickleError("it is a zip archive, but not one that torch.save wrote")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise UnpickleError("it is a TorchScript archive; save the network's state_dict() instead")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise UnpickleError("it was saved on a big-endian machine")
        if archive.getinfo(pickles[0]).file_size > MAX_PICKLE:
            raise UnpickleError("the pickle in it is too large")
        members = _Members(archive, f"{folder}data/")
        return unpickle(archive.read(pickles[0]), members.storage)


class _Members:
    """The storages of a zip archive, each read once."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._read: dict[str, torch.UntypedStorage] = {}

    def storage(self, identity: Any) -> Any:
        dtype, key, size = _parse_identity(identity)[:3]
        if key not in self._read:
            self._read[key] = _memory(self._archive.read(self._folder + key))
        memory = self._read[key]
        if size * size_of(dtype) > memory.nbytes():
            raise UnpickleError(f"storage {key} is larger than the file says")
        return Storage(memory, dtype, 0, size)


def _parse_identity(identity: Any) -> tuple[torch.dtype, str, int, Any]:
    """Return element type, key, number of elements and view of ``("storage", type, key, device, size[, view])``."""
    if type(identity) is not tuple or not 5 <= len(identity) <= 6 or identity[0] not in ("storage", b"storage"):
        raise UnpickleError("a storage in it cannot be found")
    kind, key, _device, size = identity[1:5]
    key = key.decode("ascii") if type(key) is bytes else key
    if not isinstance(kind, StorageKind) or type(key) is not str or not is_count(size):
        raise UnpickleError("a storage in it cannot be found")
    return kind.dtype, key, size, identity[5] if len(identity) == 6 else None


def _memory(content: bytes) -> torch.UntypedStorage:
    if not content:
        return torch.UntypedStorage(0)  # type: ignore[no-untyped-call]
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).untyped_storage()


def _from_legacy(path: Path) -> Any:
    """Read five consecutive pickles (magic number, version, machine, content, keys), then the storages' data."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if unpickle(content, _no_storage) != MAGIC:
            raise UnpickleError("it is not a file that torch.save wrote")
        if unpickle(content, _no_storage) != 1001:
            raise UnpickleError("it is of an unknown version")
        machine = unpickle(content, _no_storage)
        if type(machine) is dict and machine.get("little_endian") is False:
            raise UnpickleError("it was saved on a big-endian machine")
        promised = _Promised(len(content))
        result = unpickle(content, promised.storage)
        promised.fill(content, unpickle(content, _no_storage))
        return result


def _no_storage(_: Any) -> Any:
    raise UnpickleError("a storage in it cannot be found")


class _Promised:
    """The storages of a file from before torch 1.6: allocated when the pickle names them, filled after it."""

    def __init__(self, available: int) -> None:
        self._available = available
        self._made: dict[str, tuple[torch.UntypedStorage, int, torch.dtype]] = {}

    def storage(self, identity: Any) -> Any:
        if type(identity) is tuple and len(identity) == 4 and identity[0] in ("module", b"module"):
            return identity[1]  # the class of a whole network, stored with its source
        dtype, key, size, view = _parse_identity(identity)
        if key not in self._made:
            self._available -= size * size_of(dtype)
            if self._available < 0:
                raise UnpickleError("the storages in it are larger than the file")
            memory = torch.UntypedStorage(size * size_of(dtype))  # type: ignore[no-untyped-call]
            self._made[key] = memory, size, dtype
        memory = self._made[key][0]
        if size * size_of(dtype) > memory.nbytes():
            raise UnpickleError(f"storage {key} is larger than the file says")
        if view is None:
            return Storage(memory, dtype, 0, size)
        if type(view) is not tuple or len(view) != 3 or not is_count(view[1]) or not is_count(view[2]):
            raise UnpickleError("a storage in it cannot be found")
        if view[1] + view[2] > size:
            raise UnpickleError("a view in it reaches beyond its storage")
        return Storage(memory, dtype, view[1], view[2])

    def fill(self, content: mmap.mmap, keys: Any) -> None:
        """Read each storage's length (eight bytes) and data. Raises UnpickleError if some are missing."""
        if type(keys) is not list or sorted(map(str, keys)) != sorted(self._made):
            raise UnpickleError("its storages are not those that its tensors need")
        for key in keys:
            memory, size, _ = self._made[str(key)]
            if int.from_bytes(content.read(8), "little") != size:
                raise UnpickleError(f"storage {key} is not as large as the file says")
            read = content.read(memory.nbytes())
            if len(read) < memory.nbytes():
                raise UnpickleError("it ends too early")
            if read:
                memory.copy_(_memory(read))


def _skipped(content: Any) -> tuple[str, ...]:
    """List the entries of a checkpoint that hold stand-ins, with the class of the first."""
    if isinstance(content, StandIn):
        return (content.name,)
    if not isinstance(content, Mapping):
        return ()
    skipped, left = [], _LOOKED_AT_IN_ALL
    for key, value in content.items():
        name, seen = _first_stand_in(value, min(left, _LOOKED_AT))
        left -= seen
        if name is not None:
            skipped.append(f"{str(key)[:80]} ({name[:80]})")
    return tuple(skipped)


_NUMPY = {"scalar": "numpy number", "_reconstruct": "numpy array", "_frombuffer": "numpy array"}


def _first_stand_in(value: Any, limit: int) -> tuple[str | None, int]:
    """Return the class of the first stand-in, breadth first within a limit, and the number of values searched."""
    waiting, seen = deque([value]), 0
    while waiting and seen < limit:
        inner, seen = waiting.popleft(), seen + 1
        if isinstance(inner, StandIn | StandInClass):
            module, _, name = inner.name.rpartition(".")
            return (_NUMPY.get(name, inner.name) if module.startswith("numpy.") else inner.name), seen
        if isinstance(inner, Mapping):
            waiting.extend(islice(inner.values(), limit))
        elif isinstance(inner, list | tuple | set | frozenset):
            waiting.extend(islice(inner, limit))
    return None, seen
