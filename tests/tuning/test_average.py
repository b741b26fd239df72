"""Averages of runs: the weights are the mean, the greedy choice is by validation, what does not fit is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

import restune
from restune.data.loader import read_batches
from restune.runs.reopen import reopened_splits
from restune.tuning.average import averaged, cook, goodness, load_ingredients

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 1, "batch_size": 8, "device": "cpu", "val": 0.4}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, write_noise):
    return write_noise(tmp_path_factory.mktemp("shapes"), (16, 16), bright=(100, 20), dark=(10, 20))


@pytest.fixture(scope="module")
def runs(shapes, tmp_path_factory):
    """Three runs of one network on one split, fine-tuned from the same weights."""
    out = tmp_path_factory.mktemp("runs")
    start = restune.train(shapes, out=out / "start", **SMALL).out
    return [
        restune.finetune(
            shapes,
            weights=start,
            freeze="none",
            epochs=1,
            batch_size=8,
            val=0.4,
            lr=lr,
            device="cpu",
            out=out / str(lr),
        ).out
        for lr in (0.01, 0.02, 0.3)
    ]


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def test_weights_are_the_mean_and_statistics_those_of_the_mean(runs, shapes, tmp_path):
    made = restune.average(runs, method="uniform", out=tmp_path / "average")
    mean, parts = tensors(made.out), [tensors(run) for run in runs]
    names = [name for name in mean if "running" not in name and "tracked" not in name and name != "novelty.reference"]
    assert len(names) > 20
    for name in names:
        by_hand = np.mean([part[name].double().numpy() for part in parts], axis=0)
        np.testing.assert_allclose(mean[name].numpy(), by_hand, rtol=1e-6, atol=1e-9)
    # The first norm reads the first convolution's outputs: its statistics by hand, over all training items at once.
    model, splits = made.model, reopened_splits(runs[0])
    (batch,) = read_batches(splits.train.items, model.preprocess, batch_size=len(splits.train))
    x, _ = model.preprocess.inputs(batch.samples.flatten(0, 1))
    outputs = torch.nn.functional.conv2d(x, model.module.conv1.weight, padding=1)
    torch.testing.assert_close(mean["bn1.running_mean"], outputs.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean["bn1.running_var"], outputs.var(dim=(0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_statistics_that_runs_share_are_kept(runs, shapes, tmp_path):
    """Frozen layers have the statistics that the runs were trained with; those above are estimated for the mean."""
    parts = [
        restune.finetune(
            shapes, weights=runs[0], freeze=1, epochs=1, batch_size=8, val=0.4, lr=lr, device="cpu",
            out=tmp_path / str(lr),
        ).out
        for lr in (0.01, 0.05)
    ]  # fmt: skip
    mean = tensors(restune.average(parts, method="uniform", out=tmp_path / "average").out)
    one, other = (tensors(part) for part in parts)
    names = [name for name in mean if name.endswith("running_mean")]
    shared = [name for name in names if torch.equal(one[name], other[name])]
    assert "bn1.running_mean" in shared
    assert 0 < len(shared) < len(names)
    for name in names:
        assert torch.equal(mean[name], one[name]) == (name in shared), name


def test_greedy_keeps_what_does_not_hurt_and_leaves_the_rest_out(runs, tmp_path):
    splits = reopened_splits(runs[0])
    ingredients = load_ingredients(runs, splits.val, "cpu")
    scores = [goodness(one.val) for one in ingredients]
    assert scores == sorted(scores, reverse=True)
    soup = cook(ingredients, "greedy", splits.train, splits.val)
    assert {one.run for one in soup.kept + soup.left_out} == set(runs)
    assert goodness(soup.val)[0] >= scores[0][0]
    # The same by hand: each in turn, kept if the average is no worse.
    kept, best = [ingredients[0]], scores[0][0]
    for one in ingredients[1:]:
        from restune.evaluation.score import score

        accuracy = score(averaged([*kept, one], splits.train), splits.val).accuracy
        if accuracy >= best:
            kept, best = [*kept, one], accuracy
    assert [one.run for one in soup.kept] == [one.run for one in kept]


def test_a_run_that_spoils_the_average_is_left_out(runs, tmp_path):
    """One run's weights are noise: alone it is worst, and no average with it is as good."""
    broken = shutil.copytree(runs[2], tmp_path / "broken")
    path = broken / "model.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
    torch.manual_seed(0)
    noise = {n: torch.randn_like(t) * 30 if n.startswith("fc") else t for n, t in tensors(broken).items()}
    safetensors.torch.save_file(noise, path, metadata=header)
    made = restune.average([runs[0], broken], out=tmp_path / "average")
    val = json.loads((made.out / "average.json").read_text())
    assert [one["run"] for one in val["runs"] if one["kept"]] == [str(run) for run in made.kept]
    assert val["val"]["accuracy"] >= max(one["val"]["accuracy"] for one in val["runs"])


def test_the_average_is_a_model_like_others(run, runs, shapes, tmp_path):
    done = run("average", *runs, "--out", tmp_path / "average", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert [one["run"] for one in made["runs"]]
    assert made["difference"]["interval"]
    assert made["test_difference"] is None  # these runs have no test items
    done = run("evaluate", tmp_path / "average", shapes, "--json")
    scored = json.loads(done.stdout.splitlines()[-1])
    assert scored["n"] == made["val"]["n"] == 16  # the runs' own validation items, found by its split record
    assert scored["accuracy"] == made["val"]["accuracy"]
    model = restune.load(tmp_path / "average")
    assert model.calibration is not None
    assert (model.novelty is None) == (restune.load(runs[0]).novelty is None)
    done = run("average", *runs[:2])
    assert "validation" in done.stdout + done.stderr


def test_the_gain_is_said_on_test_items_that_chose_nothing(run, shapes, tmp_path):
    """The best run's test scores are those that it saved; by hand from both models' predictions."""
    settings = {**SMALL, "test": 0.3, "val": 0.3}
    start = restune.train(shapes, out=tmp_path / "start", **settings).out
    parts = [
        restune.finetune(
            shapes, weights=start, freeze="none", epochs=1, batch_size=8, val=0.3, test=0.3, lr=lr, device="cpu",
            out=tmp_path / str(lr),
        ).out
        for lr in (0.001, 0.2)
    ]  # fmt: skip
    done = run("average", *parts, "--method", "uniform", "--out", tmp_path / "average", "--json")
    made = json.loads(done.stdout.splitlines()[-1])
    best = json.loads((tmp_path / made["runs"][0]["run"] / "result.json").read_text())
    by_hand = made["test"]["accuracy"] - best["test"]["accuracy"]
    assert made["test_difference"]["difference"] == pytest.approx(by_hand)
    from restune.reporting.averages import average_lines

    lines = list(average_lines(made))
    assert lines[-1].startswith(f"against the best run: {100 * by_hand:+.2f} points")
    assert "on the test items" in lines[-1]
    alone = {**made, "runs": [{**one, "kept": not place} for place, one in enumerate(made["runs"])]}
    assert any("no average was as good" in line for line in average_lines(alone))


def test_what_does_not_fit_is_refused(run, runs, shapes, tmp_path):
    other = restune.train(shapes, out=tmp_path / "other", **{**SMALL, "model": "resnet20"}).out
    split = restune.train(shapes, out=tmp_path / "split", seed=1, **SMALL).out
    cases = {
        "another structure": [runs[0], other],
        "other training and validation items": [runs[0], split],
        "at least two": [runs[0]],
        "same weights": [runs[0], runs[0]],
        "not the folder of a finished run": [runs[0], tmp_path],
    }
    for message, folders in cases.items():
        done = run("average", *folders, "--out", tmp_path / "never")
        assert done.returncode == 2, message
        assert message in done.stderr
    assert not (tmp_path / "never").exists()
