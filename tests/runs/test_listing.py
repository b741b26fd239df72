"""restune runs reads saved files; --seeds makes several runs and their mean and standard deviation."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

import restune


def test_runs_are_listed_with_what_they_are(run, begin, cut, noise, tmp_path):
    first = begin(out="runs/first", epochs=1, test=0.2)
    cut(6, out="runs/deep/stopped", epochs=3)
    done = run("runs", tmp_path / "runs", "--json")
    listed = {row["folder"].split("/runs/")[1]: row for row in json.loads(done.stdout)["runs"]}
    assert list(listed) == ["first", "deep/stopped"]
    assert listed["first"]["data"] == str(noise)
    assert (listed["first"]["verb"], listed["first"]["model"], listed["first"]["state"]) == (
        *("train", "resnet8", "finished"),
    )
    assert listed["first"]["test"]["accuracy"] == first.result["test"]["accuracy"]
    assert listed["first"]["test"]["interval"] == first.result["test"]["interval"]
    stopped = listed["deep/stopped"]
    assert (stopped["state"], stopped["epoch"], stopped["epochs"], stopped["val"]) == ("unfinished", 1, 3, None)
    table = run("runs", tmp_path / "runs").stdout
    assert "unfinished, epoch 1 of 3" in table
    assert f"n {first.result['val']['n']}" in table
    assert "2 runs in" in table


def test_a_damaged_run_does_not_hide_the_others(begin, tmp_path):
    begin(out="runs/a", epochs=1)
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "recipe.yaml").write_text("model: resnet8\n")
    (tmp_path / "runs" / "b" / "result.json").write_text("{")
    assert {info.folder.name: info.state for info in restune.list_runs(tmp_path / "runs")} == {
        "a": "finished",
        "b": "damaged",
    }


def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(run, tmp_path):
    assert run("runs", tmp_path / "none").returncode == 2
    (tmp_path / "empty").mkdir()
    assert "0 runs in" in run("runs", tmp_path / "empty").stdout


def test_listing_imports_no_torch(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "recipe.yaml").write_text("# restune train photos a --recipe THIS_FILE repeats\nmodel: resnet8\n")
    code = (
        f"import sys; sys.argv = ['restune', 'runs', {str(tmp_path)!r}]\n"
        "from restune.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "photos a" in printed
    assert printed.splitlines()[-1] == "False"


def test_several_seeds(begin, noise, tmp_path, run):
    several = begin(out="several", seeds=3, seed=5, epochs=2, test=0.2)
    assert [one.out.name for one in several.runs] == ["seed-5", "seed-6", "seed-7"]
    alone = begin(out="alone", seed=6, epochs=2, test=0.2)
    assert (alone.out / "model.safetensors").read_bytes() == (several.out / "seed-6/model.safetensors").read_bytes()
    values = [one.result["test"]["accuracy"] for one in several.runs]
    test = several.result["test"]["accuracy"]
    assert test == {"mean": statistics.mean(values), "std": statistics.stdev(values), "values": values}
    assert json.loads((several.out / "seeds.json").read_text()) == several.result
    (several.out / "seed-7" / "result.json").unlink()
    done = run("train", "--resume", "--out", several.out, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["test"] == several.result["test"]
    assert [one["seed"] if "seed" in one else one["verb"] for one in printed["runs"]] == ["train"] * 3
    assert done.stderr.count("is finished; nothing to do") == 2


def test_seeds_are_said(run, noise, tmp_path):
    options = ["--model", "resnet8", "--image-size", 16, "--batch-size", 8, "--epochs", 1, "--set", "spec.width=4"]
    done = run("train", noise, "--seeds", 2, "--out", tmp_path / "several", *options)
    assert done.returncode == 0, done.stderr
    assert "validation accuracy" in done.stdout
    assert "standard deviation" in done.stdout
    assert done.stdout.count("seed ") == 2
    assert f"restune runs {tmp_path / 'several'}" in done.stdout


def test_seeds_that_cannot_be(begin, noise, tmp_path):
    with pytest.raises(restune.UserError, match="1 seeds do not show a spread"):
        begin(seeds=1)
    begin(out="single", epochs=1)
    with pytest.raises(restune.UserError, match="this folder contains a single run"):
        begin(out="single", seeds=2, resume=True)
    with pytest.raises(restune.UserError):
        restune.train(noise / "bright", seeds=2, out=tmp_path / "failed")
    assert not (tmp_path / "failed").exists()
