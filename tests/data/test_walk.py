"""Folders are listed without holding more than the names."""

from __future__ import annotations

import tracemalloc

from restune.data.sources.walk import walk_names


def test_listing_a_large_folder_takes_little_memory(tmp_path):
    count = 2_000
    for number in range(count):
        (tmp_path / f"photo-{number:06d}.jpg").touch()
    tracemalloc.start()
    try:
        assert sum(1 for _ in walk_names(tmp_path, lambda _name: True)) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * count, "a directory entry takes about 400 bytes, its name 75"
