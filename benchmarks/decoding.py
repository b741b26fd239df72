"""Time JPEG decoding by restune, torchvision and Pillow, interleaved, and compare the pixels.

Command: python benchmarks/decoding.py FOLDER [--count 200] [--rounds 7] [--threads 1]
Prints photos per second (median and range over the rounds) and, against each of the others, the share of equal pixel
values and the greatest difference. All read the same bytes from memory and return uint8 [3, H, W].
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from restune.data.decode import decode_image
from restune.data.sources.folder import walk_images

Decoder = Callable[[bytes], Tensor]


def by_torchvision(content: bytes) -> Tensor:
    """Decode to upright RGB by torchvision's decoder, which torchvision has deprecated."""
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return decode_jpeg(data, mode=ImageReadMode.RGB, apply_exif_orientation=True)


def by_pillow(content: bytes) -> Tensor:
    """Decode to upright RGB by Pillow."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


DECODERS: dict[str, Decoder] = {"restune": decode_image, "torchvision": by_torchvision, "Pillow": by_pillow}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    torch.set_num_threads(1)
    paths = [path for path in walk_images(options.folder) if path.suffix.lower() in (".jpg", ".jpeg")]
    contents = [path.read_bytes() for path in paths[: options.count]]
    for name in ("torchvision", "Pillow"):
        print(f"restune against {name:12} {_parity(contents, DECODERS[name])}")
    medians = {}
    for name, times in _timed(contents, options.rounds, options.threads).items():
        medians[name] = statistics.median(times)
        rates = [len(contents) / seconds for seconds in (medians[name], max(times), min(times))]
        print(f"{name:12} {rates[0]:.0f} photos per second ({rates[1]:.0f} to {rates[2]:.0f})")
    print(
        f"{len(contents)} photos, {options.threads} threads, {options.rounds} rounds: restune is "
        f"{medians['torchvision'] / medians['restune']:.2f} times as fast as torchvision, "
        f"{medians['Pillow'] / medians['restune']:.2f} times as fast as Pillow"
    )


def _parity(contents: list[bytes], decode: Decoder) -> str:
    equal, count, greatest = 0, 0, 0
    for content in contents:
        difference = (decode_image(content).int() - decode(content).int()).abs()
        equal, count = equal + int((difference == 0).sum()), count + difference.numel()
        greatest = max(greatest, int(difference.max()))
    return f"{equal / count:.4%} of the pixel values are equal, greatest difference {greatest}"


def _timed(contents: list[bytes], rounds: int, threads: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in DECODERS}
    with ThreadPoolExecutor(threads) as pool:
        for turn in range(rounds + 1):
            for name, decode in DECODERS.items():
                started = time.perf_counter()
                for _ in pool.map(decode, contents):
                    pass
                if turn:  # the first round is a warm-up
                    seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
