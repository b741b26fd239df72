"""Time an epoch on cached activations of frozen layers against an epoch of the whole network.

Command: python benchmarks/frozen_prefix.py PHOTOS [--model resnet18] [--size 224] [--batch 32] [--rounds 3]
Every run is `restune.finetune` from the same weights with ``freeze`` none or K, in turns; an epoch is training and
validation, and the last of three is timed. The expected speed-up is the whole network's operations over those of the
trainable layers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import restune
from restune.core.console import quiet
from restune.data.sources import open_dataset
from restune.networks import zoo
from restune.networks.describe import describe

EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    stages = len(zoo.find(options.model).spec.stages)
    cuts = ["none", *range(1, stages)]
    seconds: dict[str | int, list[float]] = {cut: [] for cut in cuts}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RESTUNE_CACHE"] = folder
        start = Path(folder) / "start.safetensors"
        _random_weights(options, start)
        for number in range(options.rounds):
            for cut in cuts:
                with quiet():
                    run = restune.finetune(
                        options.photos, weights=start, freeze=cut, epochs=EPOCHS, batch_size=options.batch,
                        image_size=options.size, out=Path(folder) / f"{number}-{cut}",
                        set={"augment.crop_scale": None, "augment.flip": False},
                    )  # fmt: skip
                last = (run.out / "timings.jsonl").read_text().splitlines()[-1]
                seconds[cut].append(json.loads(last)["seconds"])
    shares = _shares(options.model, options.size)
    whole = statistics.median(seconds["none"])
    print(f"{options.model} at {options.size}, batch {options.batch}: the last epoch of {EPOCHS}, medians")
    print(f"  not frozen           {whole:7.2f} s ({min(seconds['none']):.2f} to {max(seconds['none']):.2f})")
    for cut in cuts[1:]:
        median = statistics.median(seconds[cut])
        expected = 1 / shares[int(cut)]
        print(f"  frozen to stage {cut}    {median:7.2f} s ({min(seconds[cut]):.2f} to {max(seconds[cut]):.2f}): "
              f"{whole / median:5.2f} times as fast; {expected:5.2f} expected from operations; "
              f"ratio {whole / median / expected:.2f}")  # fmt: skip


def _random_weights(options: argparse.Namespace, path: Path) -> None:
    classes = open_dataset(options.photos).classes
    network = restune.create_model(options.model, num_classes=len(classes))
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)


def _shares(name: str, size: int) -> dict[int, float]:
    """Return the share of the network's operations above each stage."""
    description = describe(zoo.find(name).spec, size)
    total = description.flops
    shares, below = {}, 0
    for row in description.parts:
        below += row.flops
        if row.name.startswith("stage"):
            shares[int(row.name.removeprefix("stage"))] = (total - below) / total
    return shares


if __name__ == "__main__":
    main()
