"""Classify motion in videos, from clips, from clips with shuffled frames, and from single frames.

Command: python benchmarks/motion.py --clips 60
The clips show moving handwritten digits and are written as mp4 (tests/motion.py). The digit is independent of the
motion, so only the order of the frames reveals a direction.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import restune
from motion import CLASSES, write_motion
from restune.core.console import quiet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=60, help="training clips per class; a third as many for testing")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for what in ("clips", "shuffled", "single frames"):
            if options.only and options.only not in what:
                continue
            folder = Path(temporary) / what.replace(" ", "-")
            for split, count, seed in (("train", options.clips, 0), ("test", options.clips // 3, 1)):
                write_motion(folder / split, count, seed, options.size, options.frames, shuffled=what == "shuffled")
            report(what, folder, options)


def report(what: str, folder: Path, options: argparse.Namespace) -> None:
    frames = 1 if what == "single frames" else options.frames
    changes = {"spec.width": options.width, "video.frames": frames, "video.clips": 1}
    with quiet():
        run = restune.train(
            folder, model="r3d_18", out=folder / "run", image_size=options.size, epochs=options.epochs, val=0,
            seed=options.seed, set=changes,
        )  # fmt: skip
        scores = restune.evaluate(run.out, folder, split="test")
    opposite = {"n": "s", "ne": "sw", "e": "w", "se": "nw", "s": "n", "sw": "ne", "w": "e", "nw": "se"}
    moves = [place for place, name in enumerate(CLASSES) if name.startswith("move_")]
    confusion = scores.confusion[moves]
    back = [CLASSES.index(f"move_{opposite[CLASSES[place].removeprefix('move_')]}") for place in moves]
    forth = confusion[range(len(moves)), moves].sum()
    turned = confusion[range(len(moves)), back].sum()
    direction = confusion[range(len(moves)), moves].sum() / confusion.sum()
    low, high = scores.interval
    print(
        f"{what:14} all {len(CLASSES)} classes {scores.accuracy:.2%} ({low:.2%} to {high:.2%}, n = {scores.n}; chance "
        f"{1 / len(CLASSES):.1%}), the {len(moves)} directions {direction:.2%} (n = {confusion.sum()}); "
        f"correct direction among the correct axis {forth / max(1, forth + turned):.2%} (n = {forth + turned}; chance "
        "50%); "
        f"{run.result['seconds']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
