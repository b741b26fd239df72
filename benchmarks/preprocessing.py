"""Time decoding and preprocessing of photos: restune against torchvision's evaluation transform, interleaved.

Command: python benchmarks/preprocessing.py FOLDER [--count 200] [--rounds 5]
Prints seconds per round (median and range) and the ratio of medians; above 1 restune is faster. Both read the same
bytes from memory and return a normalised float tensor, on one thread.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from restune.data.preprocess import ImagePreprocess
from restune.data.sources.folder import walk_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    contents = [path.read_bytes() for path in walk_images(options.folder) if path.suffix.lower() in (".jpg", ".jpeg")]
    contents = contents[: options.count]
    ours = ImagePreprocess(crop=224, resize=256)
    theirs = ImageClassification(crop_size=224, resize_size=256)

    def run_ours() -> None:
        for content in contents:
            ours.normalize(ours.apply(content).unsqueeze(0))

    def run_theirs() -> None:
        for content in contents:
            theirs(Image.open(io.BytesIO(content)).convert("RGB"))

    seconds: dict[str, list[float]] = {"restune": [], "torchvision": []}
    run_ours(), run_theirs()  # warm-up
    for _ in range(options.rounds):
        for name, run in (("restune", run_ours), ("torchvision", run_theirs)):
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        median = statistics.median(times)
        rate = len(contents) / median
        print(f"{name:12} {median:.3f} s ({min(times):.3f} to {max(times):.3f}), {rate:.0f} photos per second")
    ratio = statistics.median(seconds["torchvision"]) / statistics.median(seconds["restune"])
    print(f"restune is {ratio:.2f} times as fast, {len(contents)} photos, {options.rounds} rounds")


if __name__ == "__main__":
    main()
