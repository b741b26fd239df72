"""Choose weights by transfer: accuracy of heads fitted to frozen features of small networks, on three data sets.

    python benchmarks/offline_backbone.py --data DATA WEIGHTS... --out FILE.json

WEIGHTS are run folders, files, bundled or published names; DATA is the folder of real data sets. The value is the
accuracy on items that the heads have not seen (five folds, as in `--weights auto`), mean and std over three seeds of
the folds: sign-digits at 32 and 64 pixels, hymenoptera at 32, 64 and 96, 2,000 training images of MNIST at 32. No test
items are read. FILE.json is kept up to date after every value, and values in it are not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.files import write_text
from restune.core.machine import describe_machine
from restune.data.dataset import Dataset
from restune.data.items import targets_of
from restune.data.preprocess.image import ImagePreprocess
from restune.data.sources import open_dataset
from restune.inference.load import load_model
from restune.networks.resnet import ResNet
from restune.training.linear_probe import feature_cache
from restune.training.out_of_fold import out_of_fold
from restune.training.recipe import Recipe

SEEDS = (0, 1, 2)
MNIST_ITEMS = 2_000


@dataclass(frozen=True)
class Setting:
    """A data set at an image size."""

    name: str
    size: int
    opened: Callable[[Path], Dataset]

    @property
    def key(self) -> str:
        """Name of the column."""
        return f"{self.name} {self.size}"


def mnist(data: Path) -> Dataset:
    """Open the training images of MNIST and take some, the same ones each time."""
    whole = open_dataset(next((data / "mnist").glob("*train*.npz")))
    chosen = np.random.default_rng(0).permutation(len(whole))[:MNIST_ITEMS]
    return whole.take(np.sort(chosen))


def folder(*parts: str) -> Callable[[Path], Dataset]:
    """Return a function that opens a folder of the data."""
    return lambda data: open_dataset(data.joinpath(*parts))


SETTINGS = (
    *(Setting("sign-digits", size, folder("sign-digits", "Dataset")) for size in (32, 64)),
    *(Setting("hymenoptera", size, folder("hymenoptera")) for size in (32, 64, 96)),
    Setting("mnist", 32, mnist),
)


def accuracy(weights: str, setting: Setting, data: Path, seed: int) -> tuple[float, int]:
    """Return the out-of-fold accuracy of heads on the network's embeddings, and the number of items.

    Args:
        seed: of the folds.
    """
    model = load_model(weights, device="cpu")
    assert isinstance(model.module, ResNet)
    assert isinstance(model.preprocess, ImagePreprocess)
    dataset = setting.opened(data)
    preprocess = model.preprocess.override(image_size=setting.size)
    cache = feature_cache(model.module, preprocess, Recipe(workers=2, precision="bf16"), torch.device("cpu"))
    found = cache.of(dataset.items)
    targets: NDArray[np.int64] = targets_of(dataset.items)[found.readable].astype(np.int64)
    rows = found.rows[0 : len(found.rows)].float()
    predicted = out_of_fold(rows, targets, len(dataset.classes), None, seed).logits.argmax(1)
    return float((predicted == targets).mean()), len(targets)


def measure(names: Sequence[str], data: Path, out: Path) -> dict[str, dict[str, list[float]]]:
    """Measure what `out` does not have yet."""
    stored = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"values": {}}
    values: dict[str, dict[str, list[float]]] = stored["values"]
    for name in names:
        for setting in SETTINGS:
            if setting.key not in values.setdefault(name, {}):
                values[name][setting.key] = [accuracy(name, setting, data, seed)[0] for seed in SEEDS]
                content = {"seeds": SEEDS, "values": values, "machine": describe_machine()}
                write_text(out, json.dumps(content, indent=1) + "\n")
                print(f"{name}  {setting.key}: {statistics.mean(values[name][setting.key]):.2%}", flush=True)
    return values


def table(values: dict[str, dict[str, list[float]]]) -> str:
    """Return a Markdown table: accuracy in percent, mean and std over the seeds, and the mean over data sets."""
    columns = [setting.key for setting in SETTINGS]
    lines = [" | ".join(["", "weights", *columns, ""]).strip(), "|---" * (len(columns) + 1) + "|"]
    for name, row in values.items():
        cells = [
            f"{100 * statistics.mean(row[key]):.1f} ± {100 * statistics.stdev(row[key]):.1f}" if key in row else "-"
            for key in columns
        ]
        lines.append("| " + " | ".join([Path(name).name, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("weights", nargs="+")
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--out", type=Path, default=Path("offline_backbone.json"))
    given = options.parse_args()
    print(table(measure(given.weights, given.data, given.out)))


if __name__ == "__main__":
    main()
