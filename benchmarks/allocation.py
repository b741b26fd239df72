"""Time training steps with and without restune's setting that keeps freed memory in the process.

Command: python benchmarks/allocation.py [--only resnet20] [--rounds 12]
Pairs of steps of one network in one process, in turns: contiguous, channels_last, channels_last with freed memory
kept. Prints medians and the medians of the paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F

import restune
from restune.core.allocator import freed_memory_kept

CASES = (("resnet20", 32, 128), ("resnet18", 224, 16), ("resnet50", 224, 8))


def stepper(name: str, size: int, batch: int, layout: torch.memory_format) -> Callable[[], None]:
    network = restune.create_model(name, num_classes=10).train().to(memory_format=layout)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
    targets = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), targets).backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None], setting: AbstractContextManager[None]) -> float:
    with setting:
        step()
        started = time.perf_counter()
        step()
        step()
        return (time.perf_counter() - started) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    for name, size, batch in CASES:
        if options.only not in ("", name):
            continue
        plain = stepper(name, size, batch, torch.contiguous_format)
        channels_last = stepper(name, size, batch, torch.channels_last)
        taken: dict[str, list[float]] = {"contiguous": [], "channels_last": [], "kept": []}
        for _ in range(options.rounds):
            taken["contiguous"].append(seconds(plain, nullcontext()))
            taken["channels_last"].append(seconds(channels_last, nullcontext()))
            taken["kept"].append(seconds(channels_last, freed_memory_kept()))
        rates = ", ".join(f"{kind} {batch / statistics.median(values):.1f}" for kind, values in taken.items())
        over = {
            kind: statistics.median(a / b for a, b in zip(taken[kind], taken["kept"], strict=True))
            for kind in ("contiguous", "channels_last")
        }
        print(f"{name} at {size}, batch {batch}: images/s {rates}")
        ratios = ", ".join(f"{ratio:.3f} times {kind}" for kind, ratio in over.items())
        print(f"  channels_last with freed memory kept: {ratios} (medians of {options.rounds} pairs)", flush=True)


if __name__ == "__main__":
    main()
