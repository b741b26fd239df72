"""bench, cache and embed as a stranger meets them, and what bench leaves for later runs."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch

import restune
import restune.cli
from restune.networks import zoo
from restune.training.compile_gains import known_compile_gain, record_compile_gain
from restune.training.recipe import Recipe
from restune.training.resolve_auto import resolve_compile

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(restune.create_model("resnet8", num_classes=2).state_dict(), path)
    return restune.load("resnet8", weights=path).with_classes(["blue", "red"]).save(tmp_path / "model.safetensors")


def test_bench_measures_every_kind_of_network(run):
    names = ("resnet8", "resnet1d18", "textresnet")
    done = run("bench", *names, "--seconds", "0.01", "--batch-size", "2", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [row["name"] for row in found["networks"]] == list(names)
    for row in found["networks"]:
        assert row["train"] > 0
        assert row["predict"] > 0
        assert row["compiled"] is None
    assert set(found["peak_gflops"]) == {"fp32", "bf16"}
    table = run("bench", "resnet8", "--seconds", "0.01", "--batch-size", "2").stdout
    assert "GFLOP/s" in table
    assert "resnet8" in table
    wrong = run("bench", "resnet9", "--seconds", "0.01")
    assert wrong.returncode == 2
    assert "Did you mean" in wrong.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler, and there is none")
@pytest.mark.slow
def test_bench_remembers_what_compiling_gains(run):
    done = run("bench", "resnet8", "--seconds", "0.2", "--batch-size", "4", "--compile", "--json")
    (row,) = json.loads(done.stdout.splitlines()[-1])["networks"]
    assert row["compiled"] > 0
    recipe = Recipe(precision=json.loads(done.stdout.splitlines()[-1])["precision"])
    gain = known_compile_gain(zoo.find("resnet8").spec, (4, 3, 32, 32), recipe.precision, CPU)
    assert gain == pytest.approx(row["compiled"] / row["train"], abs=1e-3)


def test_a_run_compiles_only_where_that_is_remembered_as_faster():
    spec, shape, recipe = zoo.find("resnet8").spec, (4, 3, 32, 32), Recipe(precision="fp32")
    settled, decision = resolve_compile(recipe, spec, shape, CPU)
    assert settled.compile == "no"
    assert "not measured" in decision.reason
    record_compile_gain(spec, shape, "fp32", CPU, 1.4)
    settled, decision = resolve_compile(recipe, spec, shape, CPU)
    assert settled.compile == "yes"
    assert "1.40 times" in decision.reason
    assert resolve_compile(recipe, spec.override(num_classes=77), shape, CPU)[0].compile == "yes"
    assert resolve_compile(recipe, spec, (8, 3, 32, 32), CPU)[0].compile == "no", "another batch, another time"
    record_compile_gain(spec, shape, "fp32", CPU, 0.7)
    assert resolve_compile(recipe, spec, shape, CPU)[0].compile == "no"
    assert resolve_compile(Recipe(compile="yes"), spec, shape, CPU) == (Recipe(compile="yes"), None)


def test_damaged_memory_is_as_good_as_none():
    from restune.core.files import cache_folder

    spec, shape = zoo.find("resnet8").spec, (4, 3, 32, 32)
    record_compile_gain(spec, shape, "fp32", CPU, 1.4)
    (cache_folder() / "measured.json").write_text("[1, 2")
    assert known_compile_gain(spec, shape, "fp32", CPU) is None
    record_compile_gain(spec, shape, "fp32", CPU, 1.4)
    assert known_compile_gain(spec, shape, "fp32", CPU) == 1.4


def test_embed_takes_what_predict_takes(run, model, photos, tmp_path):
    out = tmp_path / "features.csv"
    files = [photos / "red" / "0.jpg", photos / "blue" / "*.jpg"]
    done = run("embed", model, *files, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == 4
    ids = [row["id"] for row in csv.DictReader(out.open())]
    assert ids == [str(photos / name) for name in ("red/0.jpg", "blue/0.jpg", "blue/1.jpg", "blue/2.jpg")]
    listed = run("embed", model, "-", "--out", out, "--json", stdin="\n".join(ids))
    assert json.loads(listed.stdout)["items"] == 4
    wrong = run("embed", model, f"{photos}x", "--out", out)
    assert wrong.returncode == 2
    assert "there is no such data" in wrong.stderr


def test_embed_and_cache(run, model, photos, tmp_path):
    out = tmp_path / "features.npz"
    first = json.loads(run("embed", model, photos, "--out", out, "--json").stdout)
    assert (first["items"], first["features"], first["computed"]) == (6, 64, 6)
    assert np.load(out, allow_pickle=False)["features"].shape == (6, 64)
    again = json.loads(run("embed", model, photos, "--out", out, "--json").stdout)
    assert again["computed"] == 0
    assert "6 items, 64 features each" in run("embed", model, photos, "--out", out).stdout
    refused = run("embed", model, photos, "--out", tmp_path / "features.txt")
    assert refused.returncode == 2
    assert ".npz, .csv, .parquet" in refused.stderr

    listed = json.loads(run("cache", "--json").stdout)
    assert [table["rows"] for table in listed["tables"]] == [6]
    assert "1 tables" in run("cache").stdout
    refused = run("cache", "--to", "0")
    assert refused.returncode == 2
    assert "--prune" in refused.stderr
    pruned = json.loads(run("cache", "--prune", "--to", "0", "--json").stdout)
    assert (pruned["tables"], pruned["bytes"], len(pruned["removed"])) == ([], 0, 1)
    assert json.loads(run("embed", model, photos, "--out", out, "--json").stdout)["computed"] == 6
