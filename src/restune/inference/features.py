"""Cached activations: the outputs of a network's frozen layers (up to embeddings), computed once per item.

A table belongs to the weights of the frozen layers, where they end, the preprocessing, the view and its seed, the
precision, and the versions of this code and of torch; within it a row belongs to an item's content. Changing any of
these gives another table or row; otherwise nothing is computed twice, in whatever run.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.allocator import freed_memory_kept
from restune.core.console import progress, warn_once
from restune.core.errors import UserError
from restune.core.files import cache_folder
from restune.core.machine import cpu_count, local_processes, memory_bytes
from restune.core.rowstore import RowStore, StoredRows, content_key
from restune.core.version import __version__
from restune.data.ahead import ahead, ahead_in_groups
from restune.data.augment import Augment, RandomKey
from restune.data.dataset import Item
from restune.data.pixels import DecodeError
from restune.data.preprocess import Preprocess
from restune.inference.forward import FittingParts, forward, threads_within_quota
from restune.networks.fold import folded
from restune.networks.layout import weights_layout
from restune.networks.resnet import ResNet

CODE_VERSION = 2
"""Increased whenever the same inputs would give other features."""

_NOT_BELOW = ("num_classes", "dropout", "drop_path", "embedding_dropout")
"""Spec fields that do not change the outputs of frozen layers."""
_SEGMENT_BYTES = 256 * 2**20
_MEMORY_SHARE = 0.5
"""Share of the machine's memory for features that are not on disk."""
_IN_MEMORY = 2**30
"""Bytes. Features up to this size are loaded into memory whole."""


def features_folder() -> Path | None:
    """Return the folder for tables of features; None, with a warning, for a user without a home folder."""
    try:
        return cache_folder() / "features"
    except UserError as error:
        warn_once(
            f"{error.what} ({error.where}): features are held in memory, for this run only. To keep them, set "
            "RESTUNE_CACHE to a folder",
            about="no cache folder",
        )
        return None


@dataclass(frozen=True, kw_only=True)
class View:
    """An augmented view of items: view `number` of a seed.

    Its randomness depends on the item's content instead of its position in an epoch.
    """

    augment: Augment
    seed: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Features:
    """The rows of the items that could be read.

    Args:
        rows: in memory or on disk, ``[N, ...]``.
        readable: indices of their items, ``[N]``.
        failures: why the others could not be read, by item id.
        computed: number of rows that were not in the cache.
        seconds: time taken.
    """

    rows: FeatureRows
    readable: NDArray[np.int64]
    failures: dict[str, str] = field(default_factory=dict)
    computed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FeatureRows:
    """Rows ``[N, ...]`` in memory or on disk, with the same interface."""

    content: Tensor | StoredRows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, as of a tensor."""
        return tuple(self.content.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> Tensor:
        return self.content[part] if isinstance(self.content, Tensor) else torch.from_numpy(self.content.take(part))

    def take(self, indices: NDArray[np.int64]) -> Tensor:
        """Return some rows, in this order."""
        if isinstance(self.content, Tensor):
            return self.content[torch.from_numpy(indices)]
        return torch.from_numpy(self.content.take(indices))

    def loaded(self) -> FeatureRows:
        """Return the same rows, in memory if they are small enough."""
        if isinstance(self.content, Tensor) or self.content.nbytes > _IN_MEMORY:
            return self
        return FeatureRows(self[0 : len(self)])

    def plain(self) -> Tensor | FeatureRows:
        """Return the tensor if the rows are in memory, else this object."""
        return self.content if isinstance(self.content, Tensor) else self

    def joined(self, others: Sequence[FeatureRows]) -> FeatureRows:
        """Return these rows followed by the others'."""
        parts = [self.content, *(other.content for other in others)]
        tensors = [part for part in parts if isinstance(part, Tensor)]
        if tensors:
            return FeatureRows(torch.cat(tensors))
        return FeatureRows(StoredRows.join([part for part in parts if isinstance(part, StoredRows)]))


class FeatureCache:
    """Cache of the outputs of a network's frozen layers.

    Args:
        network: in any mode; it is not changed.
        preprocess: its input.
        cut: ``all``: embeddings, the input of the last layer; K: activations after stage K (0: the stem).
        device: where to compute.
        bf16: compute in bfloat16.
        on_disk: False: keep everything in memory, for the lifetime of this object; this also happens, with a warning,
            if the cache folder cannot be written, and for registered blocks, whose code is not part of a table's key.
        batch_size: items per forward pass.
        workers: decoding threads.
    """

    def __init__(
        self,
        network: ResNet,
        preprocess: Preprocess,
        *,
        cut: str | int = "all",
        device: torch.device | None = None,
        bf16: bool = False,
        on_disk: bool = True,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> None:
        self.preprocess, self.cut, self.bf16 = preprocess, cut, bf16
        self.on_disk = on_disk and not network.has_registered_blocks
        self.device = device or torch.device("cpu")
        self.computed = 0
        self.seconds_an_item: float | None = None
        self._known_keys: dict[str, bytes | str] = {}
        self._run = FittingParts(self._forward)
        self._stores: dict[str, RowStore] = {}  # by table
        self.batch_size, self.workers = batch_size, cpu_count() if workers is None else workers
        self.network = folded(network, cut).to(self.device)
        self.network.to(memory_format=weights_layout(network.spec.dims))
        self.about = {
            "code": [CODE_VERSION, __version__, torch.__version__, self.device.type],
            "cut": cut,
            "precision": "bf16" if bf16 else "fp32",
            "preprocess": preprocess.to_dict(),
            "spec": network.spec.to_dict() | dict.fromkeys(_NOT_BELOW, 0),
            "weights": _digest(self.network),
        }

    def of(self, items: Sequence[Item], view: View | None = None) -> Features:
        """Return features of the items' inference view, or of an augmented view.

        Raises StoreFullError if they fit neither in the cache folder nor in memory.
        """
        started = time.perf_counter()
        store = self._store(view)
        keys, failures = self._keys(items)
        wanted: dict[bytes, Item] = {}
        for item, key in zip(items, keys, strict=True):
            if key is not None and key not in store.places:
                wanted.setdefault(key, item)
        broken = self._compute(list(wanted.items()), view, store)
        self.computed += len(wanted) - len(broken)
        failures |= {item.id: broken[key] for item, key in zip(items, keys, strict=True) if key in broken}
        readable = [index for index, key in enumerate(keys) if key is not None and key not in broken]
        return Features(
            rows=FeatureRows(store.rows([key for key in (keys[index] for index in readable) if key])),
            readable=np.array(readable, np.int64),
            failures=failures,
            computed=len(wanted) - len(broken),
            seconds=time.perf_counter() - started,
        )

    def contents(self) -> dict[str, str]:
        """Of each item that was asked for and could be read, 16 hex digits over its content (see `content_hash`)."""
        return {name: key.hex()[:16] for name, key in self._known_keys.items() if isinstance(key, bytes)}

    def forget(self, names: Iterable[str]) -> None:
        """Read these items anew when they are asked for again."""
        for name in names:
            self._known_keys.pop(name, None)

    def _store(self, view: View | None) -> RowStore:
        """Return the table of a view, with the rows that other processes added to it."""
        about = self.about | {"view": None if view is None else asdict(view)}
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
        store = self._stores.get(name)
        if store is None:
            folder = features_folder() if self.on_disk else None
            held = sum(other.held for other in self._stores.values())
            room = _MEMORY_SHARE * memory_bytes() / local_processes() - held
            store = self._stores[name] = RowStore(folder and folder / name, about, room=room)
        else:
            store.refresh()
        return store

    def _keys(self, items: Sequence[Item]) -> tuple[list[bytes | None], dict[str, str]]:
        """Return a key of each item's content, None if it cannot be read, and the reasons by item id."""
        failures: dict[str, str] = {}
        keys: list[bytes | None] = []
        new = [item for item in items if item.id not in self._known_keys]
        for item, key in zip(new, ahead_in_groups(_key, new, self.workers, 16), strict=True):
            self._known_keys[item.id] = key
        for item in items:
            key = self._known_keys[item.id]
            if isinstance(key, str):
                failures[item.id] = key
            keys.append(None if isinstance(key, str) else key)
        return keys, failures

    def _compute(self, wanted: Sequence[tuple[bytes, Item]], view: View | None, store: RowStore) -> dict[bytes, str]:
        """Compute rows and add them to the store, segment by segment. Return the reasons of unreadable items."""
        started = time.perf_counter()
        broken: dict[bytes, str] = {}
        fresh: list[tuple[bytes, Tensor]] = []

        def flush() -> None:
            if fresh:
                store.add([key for key, _ in fresh], torch.stack([row for _, row in fresh]).numpy())
                fresh.clear()

        parts = [wanted[start : start + self.batch_size] for start in range(0, len(wanted), self.batch_size)]
        make = _batch_maker(self.preprocess, view)
        with freed_memory_kept(), threads_within_quota(), progress("features", len(wanted)) as advance:
            for part, made in zip(parts, ahead(make, parts, self.workers, depth=self.workers + 1), strict=True):
                broken |= made.broken
                if made.samples is not None:
                    fresh.extend(zip(made.keys, self._run(made.samples), strict=True))
                    if len(fresh) * 4 * fresh[0][1].numel() >= _SEGMENT_BYTES:
                        flush()
                advance(len(part))
        flush()
        if wanted:
            self.seconds_an_item = (time.perf_counter() - started) / len(wanted)
        return broken

    def time_an_item(self, items: Sequence[Item]) -> float:
        """Return the seconds to compute one row; if none was computed yet, time one batch and discard it."""
        if self.seconds_an_item is None:
            started = time.perf_counter()
            part = [(bytes([0] * 16), item) for item in items[: self.batch_size]]
            made = _batch_maker(self.preprocess, None)(part)
            if made.samples is not None:
                self._run(made.samples)
            self.seconds_an_item = (time.perf_counter() - started) / max(1, len(part))
        return self.seconds_an_item

    def _forward(self, samples: Tensor) -> Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16),
        ):
            rows = forward(
                lambda x, mask: self.network.forward_until(x, self.cut, mask),
                self.preprocess,
                samples.to(self.device),
            )
            return rows.cpu().contiguous()


@dataclass(frozen=True)
class _Made:
    keys: list[bytes]
    samples: Tensor | None
    broken: dict[bytes, str]


def _batch_maker(preprocess: Preprocess, view: View | None) -> Callable[[Sequence[tuple[bytes, Item]]], _Made]:
    def make(part: Sequence[tuple[bytes, Item]]) -> _Made:
        samples: list[Tensor] = []
        keys: list[bytes] = []
        broken: dict[bytes, str] = {}
        for key, item in part:
            sample = _decoded(item, preprocess, view, key)
            if isinstance(sample, str):
                broken[key] = sample
            else:
                keys.append(key)
                samples.append(sample)
        if not samples:
            return _Made(keys, None, broken)
        if view is None:
            return _Made(keys, preprocess.stack(samples), broken)
        return _Made(keys, preprocess.training_views(samples, view.augment, _random_key(view, keys)), broken)

    return make


def _random_key(view: View, keys: Sequence[bytes]) -> RandomKey:
    """Return the random key of a view, with a row for each item's content."""
    rows = tuple(int.from_bytes(key[:6], "little") for key in keys)
    return RandomKey(seed=view.seed, epoch=view.number, positions=rows, step=0, stream="cached view ")


def _decoded(item: Item, preprocess: Preprocess, view: View | None, key: bytes) -> Tensor | str:
    """Decode a sample: an inference sample unless the view needs wholes, of which many may not fit in memory."""
    try:
        content = item.location.read()
        if view is None or not preprocess.needs_wholes(view.augment):
            return preprocess.apply(content)
        return preprocess.training_source(
            None, lambda: preprocess.whole(content), lambda: content, _random_key(view, [key])
        )
    except (DecodeError, OSError, MemoryError, ValueError) as error:
        return _reason(error)


def _key(item: Item) -> bytes | str:
    try:
        return content_key(item.location.read())
    except (OSError, MemoryError, ValueError) as error:
        return _reason(error)


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason or type(error).__name__


def _digest(network: ResNet) -> str:
    """Hash all parameters and buffers of the frozen layers."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in _sorted(network):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _sorted(network: ResNet) -> Iterator[tuple[str, Tensor]]:
    return iter(sorted(network.state_dict().items()))
