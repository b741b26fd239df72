"""quickstart: train, fine-tune and predict on scikit-learn's digits, without an internet connection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from restune.core.console import note
from restune.core.files import user_path
from restune.data.dataset import Dataset
from restune.data.sources import open_dataset
from restune.inference.model import Prediction
from restune.runs.request import Request
from restune.runs.run import Run, run

NETWORK: dict[str, Any] = {"model": "resnet8", "image_size": 16, "batch_size": 32}
"""8x8 digits are enlarged to 16: a CIFAR network of eight layers learns them in seconds."""

SETTINGS = {
    "augment.crop_scale": None,
    "augment.policy": "none",
    "augment.shift": 1,
    "augment.flip": False,
    "optimizer.lr": 0.1,
    "schedule.warmup_epochs": 1,
    "label_smoothing": 0.05,
}


@dataclass(frozen=True)
class Quickstart:
    """The results of the quickstart: three runs and one prediction."""

    first: Run
    tuned: Run
    complete: Run
    image: Path
    prediction: Prediction

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune quickstart --json`` prints."""
        return {
            "train": {"test_accuracy": self.complete.result["test"]["accuracy"]},
            "finetune": {"test_accuracy": self.tuned.result["test"]["accuracy"]},
            "first": {"test_accuracy": self.first.result["test"]["accuracy"]},
            "report": str(self.complete.out / "report.html"),
            "predicted": self.prediction.label,
            "image": str(self.image),
        }


def quickstart(
    out: str | Path | None = None, *, seed: int = 0, device: str | None = None, resume: bool = False
) -> Quickstart:
    """Train on the digits 0-4, fine-tune that network's head to 5-9, train on all ten, and predict one image.

    Args:
        out: the folder for the three runs; by default ``runs/quickstart-001`` and so on.
        seed: seed of all three.
        device: ``cpu`` or ``cuda``.
        resume: continue in `out`, or in the last such folder: finished runs are kept, an interrupted one goes on.
    """
    folder = _folder(out, resume=resume)
    digits = open_dataset("digits")
    more: dict[str, Any] = {"seed": seed, "device": device, "resume": resume}
    note("1 of 4: train on the digits 0 to 4")
    # Twice as wide, with mixup, without label smoothing: features that transfer better (Kornblith et al. 2021).
    wide = {**SETTINGS, "spec.width": 32, "mixup": 0.5, "label_smoothing": 0.0}
    few = _run("train", _only(digits, "01234"), folder / "train-0-4", wide, epochs=12, **NETWORK, **more)
    note("\n2 of 4: fine-tune its head to the digits 5 to 9, with a frozen backbone")
    head: dict[str, Any] = {key: value for key, value in SETTINGS.items() if key.startswith("augment.")}
    frozen: dict[str, Any] = {"weights": few.out, "freeze": "all", "views": 8}
    tuned = _run("finetune", _only(digits, "56789"), folder / "finetune-5-9", head, **frozen, **more)
    note("\n3 of 4: train on all ten digits")
    complete = _run("train", digits, folder / "train-all", SETTINGS, epochs=25, **NETWORK, **more)
    note("\n4 of 4: predict one image of the test items")
    image = folder / "digit.png"
    item = digits.select("test").items[0]
    Image.fromarray(np.asarray(item.location.read())).save(image)
    (prediction,) = complete.model.predict(image)
    return Quickstart(few, tuned, complete, image, prediction)


def _run(verb: str, data: Dataset, out: Path, settings: dict[str, Any], *, resume: bool = False, **options: Any) -> Run:
    return run(data, Request(verb, None, options, settings), out, None, resume=resume)


def _only(dataset: Dataset, names: str) -> Dataset:
    """Return the items of some classes, as a data set with these classes only."""
    kept = tuple(name for name in dataset.classes if name in names)
    index = {dataset.classes.index(name): position for position, name in enumerate(kept)}
    items = tuple(replace(item, target=index[item.target]) for item in dataset.items if item.target in index)
    return replace(dataset, items=items, classes=kept)


def _folder(out: str | Path | None, *, resume: bool) -> Path:
    """Return the folder to work in: `out`, else the last one to resume, else a new one."""
    if out is not None:
        return user_path(out)
    number = 1
    while _numbered(number).exists():
        number += 1
    return _numbered(number - 1 if resume and number > 1 else number)


def _numbered(number: int) -> Path:
    return Path("runs") / f"quickstart-{number:03d}"
