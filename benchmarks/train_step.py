"""Compare training speed with all layers trainable: restune, a plain PyTorch loop, and a hand-tuned loop.

Command: python benchmarks/train_step.py CIFAR_TAR PHOTOS [--rounds 3] [--seconds 30]
The three train the same network on the same files in turns, in one process, after a warm-up. A turn lasts at least
`--seconds` and at least 8 steps, so that batches prefetched during the others' turns hardly matter. Plain: float32,
contiguous, DataLoader with torchvision's transforms. Hand-tuned: channels_last, bf16 where it is fast, normalised
data in memory as one tensor, without a loader. Prints medians, ranges and ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import restune
from restune.core.allocator import freed_memory_kept
from restune.core.machine import cpu_count
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.decode import decode_image
from restune.data.preload import preload
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset
from restune.training.loop import Trainer
from restune.training.recipe import Recipe
from restune.training.resolve_auto import resolve_auto

CASES = (("resnet20", 32, 128), ("resnet18", 224, 32), ("resnet50", 224, 16))


class Files(Dataset):
    """A typical data set class: decode with Pillow and transform, one item at a time."""

    def __init__(self, items, size: int) -> None:
        self.items = items
        small = size <= 64
        geometry = [v2.RandomCrop(size, padding=4)] if small else [v2.RandomResizedCrop(size)]
        self.transform = v2.Compose(
            [v2.ToImage(), *geometry, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True),
             v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        import io

        from PIL import Image

        item = self.items[index]
        return self.transform(Image.open(io.BytesIO(item.location.read())).convert("RGB")), item.target


def plain(name: str, size: int, batch: int, items, classes: int) -> Iterator[None]:
    network = restune.create_model(name, num_classes=classes).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    loader = DataLoader(Files(items, size), batch, shuffle=True, num_workers=cpu_count(), drop_last=True)
    while True:
        for images, targets in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(images), targets).backward()
            optimizer.step()
            yield


def hand_tuned(name: str, size: int, batch: int, items, classes: int) -> Iterator[None]:
    recipe, _ = resolve_auto(Recipe(), torch.device("cpu"))
    network: nn.Module = restune.create_model(name, num_classes=classes).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)
    view = ImagePreprocess(crop=size)
    part = items[: 4 * batch]
    pixels = torch.stack([view.apply(item.location.read()) for item in part])
    images = view.normalize(pixels).contiguous(memory_format=torch.channels_last)
    targets = torch.tensor([item.target for item in part])
    while True:
        for start in range(0, len(part), batch):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits = network(images[start : start + batch])
            F.cross_entropy(logits.float(), targets[start : start + batch]).backward()
            optimizer.step()
            yield


def ours(name: str, size: int, batch: int, items, classes: int, folder: Path) -> tuple[Iterator[None], Trainer]:
    """Return an iterator over steps of restune's loop, and its trainer."""
    recipe, _ = resolve_auto(Recipe(model=name, batch_size=batch, epochs=1000), torch.device("cpu"))
    preprocess = ImagePreprocess(crop=size, resize=None if size <= 64 else round(size * 256 / 224))
    augment = Augment(shift=4, flip=True) if size <= 64 else Augment(crop_scale=(0.08, 1.0), flip=True)
    preloaded = preload(items, preprocess, store_size=None, as_seen=augment.crop_scale is None)
    batches = TrainingBatches(
        items=items, classes=classes, preprocess=preprocess, augment=augment, batch_size=batch, seed=0,
        preloaded=preloaded,
        workers=cpu_count(),
    )  # fmt: skip
    network = restune.create_model(name, num_classes=classes).to(memory_format=torch.channels_last)
    trainer = Trainer(
        network=network, batches=batches, recipe=recipe, validate=None, folder=folder, class_counts=[1] * classes
    )

    def steps() -> Iterator[None]:
        for epoch in range(10**6):
            trainer.state.epoch, trainer.state.batches = epoch, 0
            for training_batch in batches.epoch(epoch, epoch * len(batches)):
                trainer._step(training_batch, last=False)
                yield

    return steps(), trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for name, size, batch in CASES:
        if options.only and options.only != name:
            continue
        data = open_dataset(options.cifar if size <= 64 else options.photos)
        items = [item for item in data.items if _readable(item)][: 5000 if size <= 64 else 400]
        with tempfile.TemporaryDirectory() as folder:
            loops = {
                "restune": ours(name, size, batch, items, len(data.classes), Path(folder))[0],
                "plain PyTorch": plain(name, size, batch, items, len(data.classes)),
                "hand-tuned, no loader": hand_tuned(name, size, batch, items, len(data.classes)),
            }
            report(name, size, batch, loops, options)


def report(name: str, size: int, batch: int, loops: dict[str, Iterator[None]], options: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {kind: [] for kind in loops}
    for loop in loops.values():
        for _ in islice(loop, 2):
            pass
    for _ in range(options.rounds):
        for kind, loop in loops.items():
            # `restune.train` uses this for the whole run; the other loops use the C library's default.
            with freed_memory_kept() if kind == "restune" else nullcontext():
                next(loop)
                started, steps = time.perf_counter(), 0
                while steps < 8 or time.perf_counter() - started < options.seconds:
                    next(loop)
                    steps += 1
                rates[kind].append(steps * batch / (time.perf_counter() - started))
    print(f"{name} at {size}, batch {batch}, {cpu_count()} cores")
    for kind, values in rates.items():
        print(f"  {kind:22} {statistics.median(values):7.1f} images/s ({min(values):.1f} to {max(values):.1f})")
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    print(f"  restune over plain {medians['restune'] / medians['plain PyTorch']:.2f}", end="")
    print(f", over hand-tuned {medians['restune'] / medians['hand-tuned, no loader']:.2f}", flush=True)


def _readable(item) -> bool:
    try:
        decode_image(item.location.read())
    except (ValueError, OSError):
        return False
    return True


if __name__ == "__main__":
    main()
