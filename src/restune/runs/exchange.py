"""Preloading divided over processes: each reads its share of the items, and gives the others what it found."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from restune.data.by_id import Contents
from restune.data.items import ids_of, location_at, targets_of
from restune.data.preload import Preloaded, read_item, samples_room
from restune.data.preprocess.text_draft import Counted
from restune.runs.data import RunData
from restune.training.distributed import World

_CHECKED = 2000
"""Number of items of other shares that each process reads to compare their content with what the others found."""


def own_share(data: RunData, world: World) -> range | None:
    """Return the positions of the items that this process reads; None for all.

    Without the same list of items in all processes there are no shares: comparing splits then names the difference.
    """
    if world.size == 1:
        return None
    items = data.items()
    digest = hashlib.blake2b(targets_of(items).tobytes(), digest_size=16)
    for name in ids_of(items):
        digest.update(f"{name}\0".encode("utf-8", "surrogatepass"))
    same = len(set(world.texts(digest.hexdigest()))) == 1
    return world.share(range(len(items))) if same else None


def share_findings(preloaded: Preloaded, decode: Callable[[Any], object], mine: range | None, world: World) -> None:
    """Exchange unreadable items and content hashes; drop all samples unless those of all processes fit in memory.

    Each process also decodes a sample of the other shares' items, by `decode`, and keeps its own hashes of these: files
    that differ between processes are noticed, and an item that one of them cannot read is skipped by all.
    """
    if mine is None:
        return
    contents, items = preloaded.contents, preloaded.kept.by_id.items
    assert isinstance(contents, Contents)
    is_complete = len(preloaded.kept) + len(preloaded.unreadable) == len(mine)
    size = world.sum([preloaded.kept.nbytes])[0]
    if world.sum([float(not is_complete or size > samples_room())])[0]:
        preloaded.kept.clear()
    checked: dict[int, str] = {}
    for row in np.linspace(0, len(items) - 1, min(_CHECKED, len(items))).astype(int).tolist():
        if row not in mine:
            digits, result = read_item(location_at(items, row), decode)
            if isinstance(result, str):
                preloaded.unreadable[items[row].id] = result
            elif digits:
                checked[row] = digits
    own = slice(mine.start, mine.stop)
    contents.values_of_rows[:] = np.concatenate(world.gathered(contents.values_of_rows[own]))
    contents.is_known[:] = np.concatenate(world.gathered(contents.is_known[own]))
    for row, digits in checked.items():
        contents.put(row, digits)
    found = world.texts(json.dumps(preloaded.unreadable))
    preloaded.unreadable = {name: reason for text in found for name, reason in json.loads(text).items()}


def share_samples(preloaded: Preloaded, mine: range | None, world: World) -> None:
    """Give all processes the samples of all."""
    if mine is None or not world.sum([float(len(preloaded.kept))])[0]:
        return
    kept = preloaded.kept
    kinds, rows, codes, places, blocks = kept.exported()
    all_kinds = [json.loads(text) for text in world.texts(json.dumps(kinds))]
    columns = list(zip(world.gathered(rows), world.gathered(codes), world.gathered(places), strict=True))
    counts = [int(count) for count in np.concatenate(world.gathered(np.array([len(blocks)])))]
    nothing = np.zeros(0, np.uint8)
    held: list[list[bytearray]] = [[] for _ in range(world.size)]
    for number in range(max(counts)):
        own = np.frombuffer(blocks[number], np.uint8) if number < len(blocks) else nothing
        for rank, block in enumerate(world.gathered(own)):
            if rank != world.rank and number < counts[rank]:
                held[rank].append(bytearray(block))
    for rank, (of_rows, of_codes, of_places) in enumerate(columns):
        if rank != world.rank:
            kept.imported(all_kinds[rank], of_rows, of_codes, of_places, held[rank])


def merged_counts(counted: Counted, world: World) -> Counted:
    """Add up the words that the processes counted."""
    if world.size == 1:
        return counted
    counts: Counter[str] = Counter()
    for text in world.texts(json.dumps(counted)):
        for word, count in json.loads(text):
            counts[word] += count
    return list(counts.items())
