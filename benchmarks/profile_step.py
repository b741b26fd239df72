"""Profile a training step by kind of operation, with default settings.

Command: python benchmarks/profile_step.py [--model resnet50] [--size 224] [--batch 16] [--steps 5]
Times are each operator's self CPU time from torch's profiler; shares are of their sum.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

import restune
from restune.core.allocator import freed_memory_kept
from restune.training.optimizer import NamedOptimizer
from restune.training.recipe import Recipe
from restune.training.resolve_auto import resolve_auto

KINDS = (
    ("convolutions", ("conv", "mkldnn")),
    ("batch norms", ("batch_norm",)),
    ("ReLU, sums and pooling", ("relu", "threshold", "add", "pool", "clamp")),
    ("casts and copies", ("copy", "to", "clone", "contiguous", "empty", "resize", "as_strided")),
    ("optimiser", ("sgd", "adam", "foreach", "zero")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    recipe, _ = resolve_auto(Recipe(), torch.device("cpu"))
    torch.set_num_threads(recipe.threads or 1)
    network = restune.create_model(options.model, num_classes=1000).to(memory_format=torch.channels_last).train()
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(1000, (options.batch,))
    optimizer = NamedOptimizer(network, recipe.optimizer)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = network(images)
        torch.autograd.backward(F.cross_entropy(logits.float(), targets))
        optimizer.step(0.1)

    with freed_memory_kept():
        for _ in range(2):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as record:
            for _ in range(options.steps):
                step()
    spent: dict[str, float] = defaultdict(float)
    for event in record.key_averages():
        name = event.key.removeprefix("aten::").lower()
        kind = next((kind for kind, signs in KINDS if any(sign in name for sign in signs)), "everything else")
        spent[kind] += event.self_cpu_time_total / 1e3 / options.steps
    total = sum(spent.values())
    print(f"{options.model} at {options.size}, batch {options.batch}, {recipe.precision}: {total:.0f} ms per step")
    for kind, milliseconds in sorted(spent.items(), key=lambda pair: -pair[1]):
        print(f"  {kind:24}{milliseconds:8.1f} ms  {milliseconds / total:6.1%}")


if __name__ == "__main__":
    main()
