"""Time `restune check` on 100,000 small photos and measure its memory.

Command: python benchmarks/check_speed.py PHOTOS [--items 100000] [--of 2000]
`--of` photos, re-encoded at 64 to 128 pixels, are hard-linked under `--items` names. Prints seconds, findings and the
process's peak of anonymous memory (RssAnon), without the pages of mapped files.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image

import restune


def anonymous_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def write(photos: Path, folder: Path, items: int, of: int) -> None:
    draw = random.Random(0)
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for number, path in enumerate(draw.sample(files, min(of, len(files)))):
        label = folder / path.parent.name
        label.mkdir(parents=True, exist_ok=True)
        first = label / f"{number:05d}-0.jpg"
        with Image.open(path) as image:
            side = draw.randint(64, 128)
            image.convert("RGB").resize((side, side)).save(first, quality=draw.randint(70, 95))
        for copy in range(1, items // of):
            os.link(first, label / f"{number:05d}-{copy}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--of", type=int, default=2000)
    named = parser.parse_args()
    peak, is_over = [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            peak[0] = max(peak[0], anonymous_mib())

    with tempfile.TemporaryDirectory() as temporary:
        write(named.photos, Path(temporary) / "data", named.items, named.of)
        before = anonymous_mib()
        threading.Thread(target=watch, daemon=True).start()
        started, processor = time.perf_counter(), time.process_time()
        report = restune.check(Path(temporary) / "data", out=Path(temporary) / "out", labels=False)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        is_over.set()
        print(f"{report.items:,} items in {seconds:.0f} s ({processor:.0f} s of processor time): {report.counts}")
        print(f"anonymous memory: {before:.0f} MiB before, at most {peak[0]:.0f} MiB")


if __name__ == "__main__":
    main()
