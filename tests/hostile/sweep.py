"""Hand every hostile file to the library, and say what became of it: one JSON object a line.

``python sweep.py FOLDER`` in a process of its own, whose end, peak memory and silence others can see. A line is
written before a file is read and one after, so that a file that ends the process is known.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import restune
from restune.core.console import quiet
from restune.core.errors import UserError
from restune.data.dataset import Dataset, FileLocation, Item
from restune.data.preload import preload
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset
from restune.training.recipe import read_recipe

PREPROCESS = ImagePreprocess(crop=32, resize=36)


def peak() -> int:
    """The most memory, in bytes, that this process has had at once."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def read_image(path: Path) -> str | None:
    item = Item(id=str(path), location=FileLocation(path), target=0)
    preloaded = preload([item], PREPROCESS, store_size=None, as_seen=True)
    assert bool(preloaded.unreadable) != bool(preloaded.kept)
    return preloaded.unreadable.get(item.id)


def read_data(path: Path) -> str | None:
    """Used when any item can be; a data set of which nothing is left is as good as refused."""
    dataset = open_dataset(path)
    assert len(dataset.fingerprint()) == 16
    items = dataset.items[:50]
    preloaded = preload(items, PREPROCESS, store_size=None, as_seen=True)
    assert set(preloaded.unreadable) | set(preloaded.kept) == {item.id for item in items}
    return None if preloaded.kept or path.name in NOTHING_THERE else next(iter(preloaded.unreadable.values()))


NOTHING_THERE = ("odd paths.csv", "classes.csv")
"""Tables that are read although none of the files they name is there."""


def read_weights(path: Path) -> str | None:
    model = restune.load(path)
    assert len(model.classes) == model.spec.num_classes
    return None


def load_recipe(path: Path) -> str | None:
    read_recipe(path)
    return None


READERS: dict[str, Callable[[Path], str | None]] = {
    "image": read_image,
    "table": read_data,
    "array": read_data,
    "archive": read_data,
    "weights": read_weights,
    "recipe": load_recipe,
}


def attempt(read: Callable[[Path], str | None], path: Path) -> tuple[str, str]:
    """What became of a file, and why."""
    try:
        reason = read(path)
    except UserError as error:
        return "refused", str(error)
    except Exception:
        return "crashed", traceback.format_exc()
    return ("used", "") if reason is None else ("refused", reason)


def sweep(folder: Path) -> None:
    cases = json.loads((folder / "cases.json").read_text(encoding="ascii"))
    read_image(folder / "image/plain/0.jpg")
    warm = next(case["path"] for case in cases if case["family"] == "weights" and case["kind"] == "whole")
    model = restune.load(folder / warm)
    restune.predict(model, folder / "image" / "plain")
    at_rest = peak()
    for case in cases:
        say({"reading": case["path"]})
        started = time.process_time()
        outcome, reason = attempt(READERS[case["family"]], folder / case["path"])
        seconds = time.process_time() - started
        say({**case, "outcome": outcome, "reason": reason, "seconds": seconds, "grown": peak() - at_rest})
    say({"reading": "all images"})
    say({"whole": whole_folder(folder / "image", model), "grown": peak() - at_rest})


def whole_folder(folder: Path, model: restune.Model) -> dict[str, Any]:
    """The folder of all images at once, as evaluate and predict see it."""
    dataset = open_dataset(folder)
    small = [item for item in dataset.items if "sparse" not in item.id and "limit" not in item.id]
    few = Dataset(items=tuple(small), classes=dataset.classes, source=dataset.source)
    evaluation = restune.evaluate(model.with_classes(dataset.classes), few, on_corrupt="skip")
    predictions = restune.predict(model, [item.location.path for item in small])
    unread = {prediction.input for prediction in predictions if prediction.error is not None}
    return {
        "items": sorted(item.id for item in dataset.items),
        "scored": evaluation.n,
        "skipped": sorted(name for name, _ in evaluation.skipped),
        "unread": sorted(Path(name).relative_to(folder).as_posix() for name in unread),
    }


def say(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    with quiet():
        sweep(Path(sys.argv[1]))
