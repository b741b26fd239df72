"""Train from scratch for a minute on a few items, and score the models on held-out ones.

600 photos of 64 pixels: sign-digits (10 classes), CIFAR-10 enlarged (5 classes); 244 of ants and bees; 40 synthetic
sounds (trills of rising or falling tones in noise). `new` are photos that no split of the run contains.

Command: python benchmarks/short_runs.py DATA [--only signs,cifar,ants,sounds] [--time 60s] [--seeds 0,1,2]
DATA is a folder with sign-digits/Dataset, cifar10-jpeg/*.tar.gz and hymenoptera.
"""

from __future__ import annotations

import argparse
import statistics
import tarfile
import tempfile
import time
import wave
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import restune
from restune.training.recipe import parse_assignment

SIDE = 64
CIFAR = ("automobile", "bird", "deer", "frog", "ship")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(MAKERS))
    parser.add_argument("--time", default="60s")
    parser.add_argument("--epochs", type=int, help="instead of a time limit")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--model")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--keep", type=Path, help="folder for the data and the runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for name in options.only.split(","):
            photos, new = folder / name / "train", folder / name / "new"
            if not photos.exists():
                MAKERS[name](options.data, photos, new)
            scores = [_score(options, name, photos, new, int(seed)) for seed in options.seeds.split(",")]
            for split, column in zip(("held-out", "new"), zip(*scores, strict=True), strict=True):
                spread = f" (sd {statistics.stdev(column):.2%})" if len(column) > 1 else ""
                print(f"{name:8} {split:9} mean {statistics.mean(column):.2%}{spread}, {len(column)} seeds", flush=True)


def _score(options: argparse.Namespace, name: str, photos: Path, new: Path, seed: int) -> tuple[float, float]:
    """Train once; return the accuracy on the held-out splits and on the new items."""
    limits = {"epochs": options.epochs} if options.epochs else {"time": options.time}
    more = {"model": options.model, "batch_size": options.batch_size, "image_size": options.image_size}
    settings = dict(parse_assignment(text) for text in options.set)
    out = photos.parent / f"run-{time.time_ns()}"
    started = time.perf_counter()
    run = restune.train(photos, out=out, seed=seed, set=settings, **limits, **more)
    seconds = time.perf_counter() - started
    held_out = [run.result[split] for split in ("val", "test") if run.result.get(split)]
    n = sum(score["n"] for score in held_out)
    accuracy = sum(score["n"] * score["accuracy"] for score in held_out) / n
    fresh = restune.evaluate(out, new).accuracy
    print(
        f"{name:8} seed {seed}: {accuracy:.2%} of {n} held-out, {fresh:.2%} of the new; {run.result['model']}, "
        f"{run.result['epochs']} epochs (best {run.result['best_epoch']}), {run.result['steps']} steps, "
        f"{seconds:.0f} s",
        flush=True,
    )
    return accuracy, fresh


def make_signs(data: Path, train: Path, new: Path) -> None:
    """60 photos of each of ten hand signs; the other photos are the new ones."""
    random = np.random.default_rng(0)
    for folder in sorted((data / "sign-digits" / "Dataset").iterdir()):
        paths = random.permutation(sorted(folder.iterdir()))
        for number, path in enumerate(paths):
            _save(Image.open(path), (train if number < 60 else new) / folder.name / f"{number}.jpg")


def make_cifar(data: Path, train: Path, new: Path) -> None:
    """120 training images of each of five classes of CIFAR-10, enlarged; 200 test images of each are the new ones."""
    for name, target, count in (("train", train, 120), ("test", new, 200)):
        seen = dict.fromkeys(CIFAR, 0)
        for label, image in _archived(data / "cifar10-jpeg" / f"{name}.tar.gz"):
            if seen.get(label, count) < count:
                _save(image, target / label / f"{seen[label]}.jpg")
                seen[label] += 1


def make_ants(data: Path, train: Path, new: Path) -> None:
    """244 photos of ants and bees, their centre squares at 64 pixels; the validation folder's 153 are the new ones."""
    for name, target in (("train", train), ("val", new)):
        for path in sorted((data / "hymenoptera" / name).glob("*/*.jpg")):
            _save(Image.open(path), target / path.parent.name / f"{path.stem}.jpg")


def make_sounds(_data: Path, train: Path, new: Path) -> None:
    """20 rising and 20 falling trills, one second of sound at 16 kHz each; 200 more of each are the new ones."""
    random = np.random.default_rng(0)
    for target, count in ((train, 20), (new, 200)):
        for label, sign in (("falling", -1), ("rising", 1)):
            for number in range(count):
                _save_sound(_tone(random, sign), target / label / f"{number}.wav")


def _tone(random: np.random.Generator, sign: int, rate: int = 16_000) -> np.ndarray:
    """A second of a trill: a tone that sweeps 0.5 to 2 kHz up or down, again every 60 to 120 ms, in noise."""
    period = int(rate * random.uniform(0.06, 0.12))
    start, sweep = random.uniform(300, 1500), random.uniform(500, 2000)
    position = (np.arange(rate) + random.integers(period)) % period / period
    frequency = start + sweep * (position if sign > 0 else 1 - position)
    tone = np.sin(2 * np.pi * np.cumsum(frequency) / rate) * np.sin(np.pi * position)
    return tone * random.uniform(0.3, 1) + random.normal(0, 0.1, rate)


def _archived(path: Path) -> Iterator[tuple[str, Image.Image]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and member.name.endswith(".jpg"):
                yield Path(member.name).parent.name, Image.open(BytesIO(file.read()))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ImageOps.fit(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=92)


def _save_sound(values: np.ndarray, path: Path, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, len(values), "NONE", ""))
        file.writeframes((np.clip(values / 2, -1, 1) * 32767).astype("<i2").tobytes())


MAKERS = {"signs": make_signs, "cifar": make_cifar, "ants": make_ants, "sounds": make_sounds}


if __name__ == "__main__":
    main()
