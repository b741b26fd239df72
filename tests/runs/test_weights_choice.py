"""--weights auto: candidates at hand are compared on the run's training items only, and the best is taken."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

import restune
from restune.data.sources import open_dataset
from restune.runs import weights_choice
from restune.weights import bundle

pytestmark = pytest.mark.usefixtures("nothing_bundled")


@pytest.fixture
def shapes(tmp_path, write_noise):
    return write_noise(tmp_path / "shapes", (16, 16), bright=(100, 20), dark=(10, 20))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs in runs/: one whose embeddings tell bright from dark, one whose embeddings are all zero."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "cache"))
    for name, scale, licence in (("good", 1.0, "CC-BY-NC-4.0"), ("blind", 0.0, None)):
        torch.manual_seed(0)
        network = restune.create_model("resnet8", num_classes=2)
        state = network.state_dict()
        state["bn1.weight"] = state["bn1.weight"] * scale
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        info = bundle.BundleInfo(
            spec=network.spec, name="resnet8", classes=("a", "b"), preprocess=restune.ImagePreprocess(crop=16),
            licence=licence,
        )  # fmt: skip
        bundle.write_bundle(folder / "model.safetensors", state, info)
    return tmp_path / "runs"


def test_the_best_weights_are_taken_and_their_licence_said(run, shapes, runs):
    command = ("finetune", shapes, "--weights", "auto", "--freeze", "all", "--test", "0.25", "--out", "made")
    done = run(*command)
    assert done.returncode == 0, done.stderr
    losses = {name: float(done.stderr.split(f"weights runs/{name} ")[1].split("loss of ")[1].split()[0]) for name in
              ("good", "blind")}  # fmt: skip
    assert losses["blind"] == pytest.approx(np.log(2), abs=0.02), "a head on constant features knows the shares only"
    assert losses["good"] < 0.3
    assert "weights: runs/good" in (runs.parent / "made" / "recipe.yaml").read_text()
    assert "no commercial use" in done.stderr
    again = run(
        "finetune", shapes, "--weights", "auto", "--freeze", "all", "--test", "0.25", "--out", "made", "--resume"
    )
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr


def test_only_training_items_are_compared_on(shapes, runs, monkeypatch):
    compared = []
    score = weights_choice._score
    monkeypatch.setattr(weights_choice, "_score", lambda *given: (compared.append(given[3]), score(*given))[1])
    made = restune.finetune(shapes, weights="auto", freeze="all", test=0.25, out=runs.parent / "made")
    with (made.out / "split.csv").open() as file:
        train = {row["item"] for row in csv.DictReader(file) if row["split"] == "train"}
    assert len(compared) == 2
    assert all(set(items.ids()) == train for items in compared)
    assert len(train) < len(open_dataset(shapes, None))


def test_what_cannot_be_compared_is_an_error(run, shapes, runs, tmp_path):
    table = tmp_path / "tags.csv"
    rows = [f"{path},{'a|b' if number % 2 else 'a'}" for number, path in enumerate(sorted(shapes.rglob("*.png")))]
    table.write_text("\n".join(["path,tags", *rows]) + "\n")
    done = run("finetune", table, "--weights", "auto", "--task", "multi-label", "--label-column", "tags", "--json")
    assert done.returncode == 2
    assert "tell classes apart" in json.loads(done.stdout.splitlines()[-1])["error"]["what"]
    for file in runs.rglob("*.safetensors"):
        file.unlink()
    done = run("finetune", shapes, "--weights", "auto")
    assert done.returncode == 2
    assert "no weights at hand" in done.stderr
