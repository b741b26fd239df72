"""Time training steps with and without restune's setting that keeps freed memory in the process.

Command: python benchmarks/allocation.py [--only resnet20] [--rounds 4]
Steps of one network in contiguous, in channels_last, and in channels_last with freed memory kept: each in processes of
its own, in turns, since a process in which memory was kept allocates differently afterwards (see core/allocator.py).
Prints the medians of images per second, and how many pages the kernel cleared per step. "afterwards" is a program that
trains by itself after restune has kept memory once: it should be no slower than channels_last.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F

import restune
from restune.core.allocator import freed_memory_kept

CASES = {"resnet20": (32, 128), "resnet18": (224, 16), "resnet50": (224, 8)}
KINDS = ("contiguous", "channels_last", "kept", "afterwards")
WARM_UP, STEPS = 2, 5


def stepper(name: str, layout: torch.memory_format) -> Callable[[], None]:
    size, batch = CASES[name]
    network = restune.create_model(name, num_classes=10).train().to(memory_format=layout)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
    targets = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), targets).backward()
        optimizer.step()

    return step


def pages_cleared() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(name: str, kind: str) -> dict[str, float]:
    step = stepper(name, torch.contiguous_format if kind == "contiguous" else torch.channels_last)
    if kind == "afterwards":
        with freed_memory_kept():
            step()
    with freed_memory_kept() if kind == "kept" else nullcontext():
        for _ in range(WARM_UP):
            step()
        pages, seconds = pages_cleared(), []
        for _ in range(STEPS):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        return {"seconds": statistics.median(seconds), "pages": (pages_cleared() - pages) / STEPS}


def in_own_process(name: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", name, kind]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", choices=["", *CASES])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    for name, (size, batch) in CASES.items():
        if options.only not in ("", name):
            continue
        taken: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for _ in range(options.rounds):
            for kind in KINDS:
                taken[kind].append(in_own_process(name, kind))
        print(f"{name} at {size}, batch {batch} (medians of {options.rounds} processes each):")
        for kind, found in taken.items():
            rates = sorted(batch / one["seconds"] for one in found)
            pages = statistics.median(one["pages"] for one in found)
            spread = f"{rates[0]:.1f} to {rates[-1]:.1f}"
            print(f"  {kind:14} {statistics.median(rates):7.1f} images/s ({spread}), {pages:,.0f} pages", flush=True)


if __name__ == "__main__":
    main()
