"""Time prediction from files against decoding alone and computing alone, in turns.

Command: python benchmarks/overlap.py MODEL FOLDER [--weights FILE] [--count 10000] [--batch-size 64] [--rounds 5]
Prints images per second (median and range over the rounds) of each, and prediction's share of the slower one. On a CPU
all use the same cores; the share beside it is that of doing one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice

import restune
from restune.data.dataset import DataOptions
from restune.data.inputs import expand
from restune.data.loader import read_batches
from restune.inference.model import predict_items
from restune.inference.predictor import compute_batch

_HELD = 8
"""Batches held in memory for computing alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--weights")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model, size = restune.load(options.model, weights=options.weights), options.batch_size
    reading = DataOptions(kind=model.kind.name)
    items = list(islice(expand(options.folder, reading, model.classes), options.count))
    held = list(islice(read_batches(items, model.preprocess, batch_size=size), _HELD))

    def decode() -> int:
        return sum(len(batch.items) for batch in read_batches(items, model.preprocess, batch_size=size))

    def compute() -> int:
        done = 0
        while done < len(items):
            for batch in held:
                compute_batch(model, batch)
                done += len(batch.items)
        return done

    def both() -> int:
        return sum(1 for _ in predict_items(model, iter(items), 1, batch_size=size))

    both()  # a warm-up
    rates = {name: [] for name in ("decode", "compute", "predict")}
    for _ in range(options.rounds):
        for name, work in zip(rates, (decode, compute, both), strict=True):
            rates[name].append(_rate(work))
    for name, found in rates.items():
        print(f"{name:8} {statistics.median(found):.1f} images/s ({min(found):.1f} to {max(found):.1f})")
    turns = list(zip(*rates.values(), strict=True))
    shares = [predict / min(decode, compute) for decode, compute, predict in turns]
    serial = [1 / (1 / decode + 1 / compute) / min(decode, compute) for decode, compute, _ in turns]
    print(
        f"{len(items)} images, share of the slower one {statistics.median(shares):.2f} "
        f"({min(shares):.2f} to {max(shares):.2f}); one after the other {statistics.median(serial):.2f}"
    )


def _rate(work: Callable[[], int]) -> float:
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
