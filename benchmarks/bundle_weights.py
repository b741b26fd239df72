"""Make weights inside the package from a finished run: bfloat16, with the score of exactly these rounded weights.

    python benchmarks/bundle_weights.py RUN NAME --test DATA --data-name "CIFAR-10 (JPEG copy, quality 75)"

The same run gives the same bytes. The file is written to `src/restune/weights/bundled`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

import restune
from restune.runs.results import summary_of
from restune.runs.split_record import read_split_record
from restune.weights import bundled
from restune.weights.bundle import BundleInfo, read_info, read_tensors, write_bundle

MOST_BYTES = 5_000_000
"""Of one file: what an installed package can hold without anyone minding."""


def main() -> None:
    """Write the file and print what its header says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path, help="a finished run's folder")
    options.add_argument("name", help="the reference, such as wide_resnet8:cifar10")
    options.add_argument(
        "--test", required=True, help="the labelled test items: the rounded weights are scored on them"
    )
    options.add_argument("--data-name", required=True, help="name of the data set, for people")
    options.add_argument("--recipe-name", required=True, help="the recipe that it was trained by, such as cifar-fast")
    options.add_argument("--licence", default="Apache-2.0")
    options.add_argument("--folder", type=Path, default=bundled.FOLDER)
    given = options.parse_args()
    path = bundle(given.run, given.name, given.test, given.data_name, given.recipe_name, given.licence, given.folder)
    info = read_info(path)
    assert info is not None
    print(f"{path}: {path.stat().st_size:,} bytes")
    for score in info.scores:
        print(f"{score['side']}: {score['accuracy']:.2%}, n = {score['n']:,} ({score['data']})")


def bundle(
    run: Path, name: str, test: str, data_name: str, recipe_name: str, licence: str, folder: Path = bundled.FOLDER
) -> Path:
    """Write the weights of a run as the package's, and return the file."""
    network, _, data = name.partition(":")
    source = run / "model.safetensors"
    info = read_info(source)
    if info is None or info.name != network or not data:
        raise SystemExit(f"{source} is not a model of {network!r}: the name must be its network's, as NETWORK:DATA")
    path = folder / f"{network}-{data}.safetensors"
    state = rounded(read_tensors(source))
    about = replace(
        info, dtype="bfloat16", licence=licence, calibration=None, novelty=None, scores=(),
        training=training(run, info, data_name, recipe_name),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_bundle(path, state, about)
    write_bundle(path, state, replace(about, scores=(score(path, test, data_name),)))
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    return path


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round floating-point tensors to bfloat16."""
    return {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()}


def score(path: Path, test: str, data_name: str) -> dict[str, Any]:
    """Score the written file on the test items, in float32."""
    evaluation = restune.evaluate(restune.load(path), test)
    return {"side": "test", "data": f"{data_name}, test set", **summary_of(evaluation)}


def training(run: Path, info: BundleInfo, data_name: str, recipe_name: str) -> dict[str, Any]:
    """Return how the weights were trained: recipe with seed, data with fingerprint, and who trained them."""
    split, result = read_split_record(run), json.loads((run / "result.json").read_text(encoding="utf-8"))
    if split is None:
        raise SystemExit(f"{run} does not say what it was trained on (split.json)")
    # names of files, not their places on the machine that trained them
    recipe = {key: Path(value).name if key in ("val", "test") and isinstance(value, str) else value
              for key, value in info.training["recipe"].items()}  # fmt: skip
    return {
        **info.training,
        "recipe": recipe,
        "recipe_name": recipe_name,
        "seed": recipe["seed"],
        "source": "trained with restune by its authors",
        "data": {"name": data_name, "fingerprint": split.fingerprint("train"), "items": result["items"]},
        "versions": result["versions"],
        "seconds": result["training_seconds"],
    }


if __name__ == "__main__":
    main()
