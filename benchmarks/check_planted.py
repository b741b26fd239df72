"""Count how many planted faults `restune check` finds, and the pairs that it reports beside them.

Command: python benchmarks/check_planted.py PHOTOS [--items 10000] [--seed 0]
A copy of photos in class folders gets a train and a test split, then 1% exact duplicates across the splits, 2% near
duplicates (re-encoded, resized, flipped, rotated by 90 degrees, brightened, a fifth each, in either split) and 0.5%
corrupt files (cut in half, or without content). Prints the share of each that is found, and the other reported items.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

import restune

NEAR = ("re-encoded", "resized", "flipped", "rotated", "brightened")


def changed(image: Image.Image, kind: str, draw: random.Random) -> tuple[Image.Image, int]:
    """Return the image after one change, and the JPEG quality to save it with."""
    if kind == "re-encoded":
        return image, draw.choice([40, 50, 60, 85])
    if kind == "resized":
        ratio = draw.choice([0.6, 0.75, 1.5, 2.0])
        return image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC), 85
    if kind == "flipped":
        return draw.choice([ImageOps.mirror, ImageOps.flip])(image), 85
    if kind == "rotated":
        return image.transpose(draw.choice([Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270])), 85
    return ImageEnhance.Brightness(image).enhance(draw.choice([1.2, 1.3, 1.4])), 85


def plant(photos: Path, folder: Path, items: int, seed: int) -> dict[str, list[tuple[str, str]]]:
    """Write the data set; return pairs of (planted id, id of its original) by fault."""
    draw = random.Random(seed)
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = draw.sample(files, min(items, len(files)))
    originals = []
    for number, path in enumerate(files):
        split = "train" if draw.random() < 0.8 else "test"
        name = f"{split}/{path.parent.name}/{number:05d}{path.suffix.lower()}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
        originals.append(name)
    planted: dict[str, list[tuple[str, str]]] = defaultdict(list)
    order = draw.sample(originals, len(originals))
    exact, near, corrupt = (round(share * len(files)) for share in (0.01, 0.02, 0.005))
    for number in range(exact):
        original = order.pop()
        split, label, name = original.split("/")
        copy = f"{'test' if split == 'train' else 'train'}/{label}/exact-{number}{Path(name).suffix}"
        shutil.copyfile(folder / original, folder / copy)
        planted["exact"].append((copy, original))
    for number in range(near):
        original, kind = order.pop(), NEAR[number % len(NEAR)]
        copy = f"{draw.choice(['train', 'test'])}/{original.split('/')[1]}/{kind}-{number}.jpg"
        with Image.open(folder / original) as image:
            made, quality = changed(image.convert("RGB"), kind, draw)
        made.save(folder / copy, quality=quality)
        planted[kind].append((copy, original))
    for number in range(corrupt):
        victim = order.pop()
        content = (folder / victim).read_bytes()
        (folder / victim).write_bytes(content[: len(content) // 2] if number % 3 else b"")
        planted["corrupt"].append((victim, victim))
    return planted


def found(out: Path, planted: dict[str, list[tuple[str, str]]]) -> dict[str, float]:
    """Return the share found of each planted fault, and the number of other items reported as copies."""
    rows = defaultdict(set)
    with (out / "check.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows[row["finding"]].add(row["item"])
    shares: dict[str, float] = {}
    copies = rows["duplicate"] | rows["near-duplicate"]
    expected = set()
    for fault, pairs in planted.items():
        within = rows["unreadable"] if fault == "corrupt" else rows["leak"] if fault == "exact" else copies
        shares[fault] = sum(bool({copy, original} & within) for copy, original in pairs) / max(1, len(pairs))
        expected |= {name for pair in pairs for name in pair}
    near = [pair for kind in NEAR for pair in planted[kind]]
    shares["near"] = sum(bool(set(pair) & copies) for pair in near) / max(1, len(near))
    shares["others"] = len(copies - expected)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    named = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = named.keep or Path(temporary)
        planted = plant(named.photos, folder / "data", named.items, named.seed)
        report = restune.check(folder / "data", out=folder / "out", labels=False)
        shares = found(folder / "out", planted)
    counts = ", ".join(f"{len(pairs)} {fault}" for fault, pairs in planted.items())
    print(f"{report.items:,} items, {report.seconds:.1f} s; planted: {counts}")
    print(", ".join(f"{name} {share:.1%}" for name, share in shares.items() if name != "others"))
    print(f"other items reported as copies: {shares['others']:.0f}")


if __name__ == "__main__":
    main()
