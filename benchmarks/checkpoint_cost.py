"""Measure how much writing a checkpoint in the background slows training.

Command: python benchmarks/checkpoint_cost.py PHOTOS [--model resnet18] [--batch 32] [--seconds 30] [--rounds 5]
Turns of at least `--seconds`, about a short epoch, in one process: one that starts with a checkpoint, one without.
Prints images per second of both and the main thread's waiting time per checkpoint.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from train_step import ours

from restune.core.allocator import freed_memory_kept
from restune.data.sources import open_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = open_dataset(options.photos)
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        steps, trainer = ours(options.model, 224, options.batch, data.items[:200], len(data.classes), Path(folder))
        for _ in islice(steps, 3):
            pass
        rates: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(options.rounds):
            for keeps in (True, False):
                trainer.keeper.finish()
                started, count = time.perf_counter(), 0
                if keeps:
                    trainer._save()
                while time.perf_counter() - started < options.seconds:
                    next(steps)
                    count += 1
                rates[keeps].append(count * options.batch / (time.perf_counter() - started))
        trainer.keeper.finish()
        size = sum(file.stat().st_size for file in max(Path(folder).glob("checkpoints/*")).iterdir())
    medians = {keeps: statistics.median(values) for keeps, values in rates.items()}
    print(f"{options.model} at 224, batch {options.batch}, turns of {options.seconds:.0f} s, {size / 2**20:.0f} MiB")
    for keeps, values in rates.items():
        name = "with a checkpoint" if keeps else "without"
        print(f"  {name:18} {medians[keeps]:6.2f} images/s ({min(values):.2f} to {max(values):.2f})")
    print(
        f"  cost {1 - medians[True] / medians[False]:.2%}; waiting {trainer.keeper.waited / options.rounds:.3f} s each"
    )


if __name__ == "__main__":
    main()
