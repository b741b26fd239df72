"""Inputs unlike the training data: scores and threshold by hand and by scikit-learn, files, predictions, runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

import restune
from restune.evaluation.novelty import (
    auroc_interval,
    compare_with_unknown,
    conformal_quantile,
    fit_novelty,
    novelty_scores,
    reference_positions,
)
from restune.weights.bundle import HEADER_KEY, read_info, read_tensors
from restune.weights.load import read_weights
from restune.weights.novelty import REFERENCE


def test_the_score_is_the_distance_to_the_kth_neighbour():
    random = np.random.default_rng(0)
    reference, held_out = random.normal(size=(300, 16)), random.normal(size=(80, 16)).astype(np.float32)
    novelty = fit_novelty(reference.astype(np.float32), 3, held_out)
    assert novelty.k == 5
    neighbours = NearestNeighbors(n_neighbors=5).fit(normalize(reference))
    expected = neighbours.kneighbors(normalize(held_out))[0][:, -1]
    np.testing.assert_allclose(novelty_scores(novelty, held_out), expected, atol=2e-3)  # the reference is float16


def test_the_threshold_is_the_conformal_quantile():
    assert conformal_quantile(np.arange(1, 20.0), 0.05) == 19  # ceil(20 x 0.95) = 19
    assert conformal_quantile(np.arange(1, 100.0), 0.05) == 95
    assert conformal_quantile(np.arange(1, 100.0)[::-1], 0.1) == 90


def test_new_items_are_false_alarms_at_most_as_often_as_promised():
    """Over many drawn validation sets: the mean rate on new items, and the mean of the measured rates."""
    random = np.random.default_rng(1)
    reference = random.normal(size=(400, 8)).astype(np.float32) + 2
    true, measured = [], []
    for _ in range(150):
        held_out, new = (random.normal(size=(n, 8)).astype(np.float32) + 2 for n in (60, 400))
        novelty = fit_novelty(reference, 2, held_out)
        true.append((novelty_scores(novelty, new) > novelty.threshold).mean())
        measured.append(novelty.false_alarms / novelty.n)
    assert 0.03 < np.mean(true) < 0.055
    assert abs(np.mean(measured) - np.mean(true)) < 0.015


def test_too_few_validation_items_promise_nothing():
    random = np.random.default_rng(2)
    rows = random.normal(size=(50, 4)).astype(np.float32)
    assert fit_novelty(rows, 2, rows[:24]) is None
    assert fit_novelty(rows, 2, rows[:25]) is not None


def test_the_reference_has_as_many_items_of_each_class_as_there_are():
    targets = np.repeat([0, 1, 2], [5000, 1000, 10])
    chosen = reference_positions(targets, 64, seed=0)
    assert len(set(chosen)) == 2000
    assert np.bincount(targets[chosen]).tolist() == [995, 995, 10]
    assert np.array_equal(chosen, reference_positions(targets, 64, seed=0))
    assert len(reference_positions(targets, 8192, seed=0)) == 512  # 8 MiB of float16


def test_auroc_is_scikit_learns_and_its_interval_covers():
    random = np.random.default_rng(3)
    covered = covered_difference = 0
    truth_a, truth_b = 0.7602499, 0.6381632  # of normal scores one and a half apart: Phi(d / sqrt(2)), d = 1, 0.5
    for _ in range(150):
        shared = random.normal(size=60)
        known = (np.round(random.normal(size=40), 2), random.normal(size=40))
        unknown = (np.round(shared + 1, 2), 0.6 * shared + 0.8 * random.normal(size=60) + 0.5)
        result = compare_with_unknown(known, unknown, 0.5, "x")
        truth = np.repeat([0, 1], [40, 60])
        for auroc, scores in zip((result.novelty, result.max_softmax), zip(known, unknown, strict=True), strict=True):
            assert auroc.value == pytest.approx(roc_auc_score(truth, np.concatenate(scores)))
        low, high = result.novelty.interval
        covered += low <= truth_a <= high
        _, low, high = result.difference
        covered_difference += low <= truth_a - truth_b <= high
        assert result.detected == (unknown[0] > 0.5).sum()
    assert 0.9 <= covered / 150 <= 1
    assert 0.9 <= covered_difference / 150 <= 1
    low, high = auroc_interval(1.0, 50, 50)
    assert high == 1
    assert 0.9 < low < 0.99


@pytest.fixture(scope="module")
def learned(tmp_path_factory, write_noise):
    folder = tmp_path_factory.mktemp("novelty")
    data = write_noise(folder / "data", dark=(0, 80), bright=(120, 80))
    run = restune.train(
        data, model="resnet8", image_size=16, epochs=3, batch_size=16, test=0.25, val=0.25, out=folder / "run",
        workers=0,
    )  # fmt: skip
    flat = folder / "flat"
    flat.mkdir()
    from PIL import Image

    for number in range(20):
        Image.new("RGB", (18, 18), (255, 10 * number, 0)).save(flat / f"{number}.png")
    return data, run, flat


def test_predict_says_what_is_unlike_the_training_data(learned, run):
    data, trained, flat = learned
    known = trained.model.predict(sorted((data / "dark").iterdir()))
    assert sum(prediction.novel for prediction in known) <= 12
    unknown = restune.predict(trained.out, flat)
    assert all(prediction.novel for prediction in unknown)
    assert all(prediction.novelty > trained.model.novelty.threshold for prediction in unknown)
    assert unknown[0].to_dict()["novel"] is True
    assert "unlike the training data" in repr(unknown[0])
    assert run("predict", trained.out, flat).stdout.count("unlike the training data") == 20
    assert run("predict", trained.out, flat, "--csv").stdout.splitlines()[1].split(",")[4] == "true"


def test_evaluate_measures_the_promise_and_compares_with_maximum_softmax(learned, run):
    data, trained, flat = learned
    answer = json.loads(run("evaluate", trained.out, data, "--unknown", flat, "--json").stdout.splitlines()[-1])
    novelty = answer["novelty"]
    assert novelty["n"] == 40
    assert novelty["promised"] == 0.05
    assert novelty["false_alarm_rate"] <= 0.2
    assert novelty["unknown"]["auroc"]["value"] == 1
    assert novelty["unknown"]["detected"] == 1
    result = trained.result["novelty"]
    assert result["test"]["false_alarm_rate"] == novelty["false_alarm_rate"]
    assert result["val"] == novelty["validation"]
    printed = run("evaluate", trained.out, data, "--unknown", flat).stdout
    assert "AUROC of maximum softmax" in printed
    assert "promised 5%" in printed


def test_it_is_kept_when_saved_and_renamed_and_dropped_when_the_input_changes(learned, tmp_path):
    _, trained, flat = learned
    model = trained.model
    renamed = restune.load(model.with_classes(("a", "b")).save(tmp_path / "copy.safetensors"))
    assert renamed.novelty == model.novelty
    assert renamed.novelty.reference.dtype == torch.float16
    assert renamed.predict(flat / "0.png")[0].novel
    other = restune.load(trained.out, image_size=24)
    assert other.novelty is None
    assert other.predict(flat / "0.png")[0].novel is None
    assert "novel" not in other.predict(flat / "0.png")[0].to_dict()


def test_fine_tuning_from_such_a_model_starts_anew(learned, tmp_path):
    data, trained, _ = learned
    assert REFERENCE not in read_weights(trained.out).state
    fitted = restune.finetune(data, weights=trained.out, freeze="all", val=0.25, out=tmp_path / "fitted", workers=0)
    assert fitted.model.novelty is not None
    assert fitted.result["novelty"]["items"] == 120
    off = restune.finetune(
        data, weights=trained.out, freeze="all", out=tmp_path / "off", workers=0, set={"novelty": False}
    )  # fmt: skip
    assert off.model.novelty is None
    assert "novelty" not in off.result


def _rewritten(source, target, tensor=None, **changes):
    with safetensors.safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER_KEY])
    tensors = safetensors.torch.load_file(source)
    header["novelty"].update(changes)
    if tensor is not None:
        tensors[REFERENCE] = tensor
    safetensors.torch.save_file(tensors, target, metadata={HEADER_KEY: json.dumps(header)})
    return target


HOSTILE = {
    "k of zero": {"k": 0},
    "k beyond the table": {"k": 10**6},
    "k is no number": {"k": "5"},
    "k is true": {"k": True},
    "threshold": {"threshold": 3.0},
    "threshold is not finite": {"threshold": float("inf")},
    "promise": {"promised": 1.5},
    "more alarms than items": {"false_alarms": 10**9},
    "an unknown entry": {"more": 1},
    "another width": {"tensor": torch.ones(4, 3, dtype=torch.float16) / 3**0.5},
    "another type": {"tensor": torch.ones(4, 64)},
    "not a table": {"tensor": torch.ones(64, dtype=torch.float16)},
    "not finite": {"tensor": torch.full((4, 64), float("nan"), dtype=torch.float16)},
    "not normalised": {"tensor": torch.ones(9, 64, dtype=torch.float16)},
    "empty": {"tensor": torch.ones(0, 64, dtype=torch.float16)},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_lies_is_one_message(learned, tmp_path, case):
    path = _rewritten(learned[1].out / "model.safetensors", tmp_path / "bad.safetensors", **HOSTILE[case])
    with pytest.raises(restune.UserError, match="header cannot be read"):
        restune.load(path)


def test_a_file_without_its_table_or_with_a_stray_one(learned, tmp_path):
    source = learned[1].out / "model.safetensors"
    with safetensors.safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER_KEY])
    tensors = read_tensors(source)
    safetensors.torch.save_file(tensors, tmp_path / "gone.safetensors", metadata={HEADER_KEY: json.dumps(header)})
    with pytest.raises(restune.UserError, match="header cannot be read"):
        read_info(tmp_path / "gone.safetensors")
    del header["novelty"]  # as files of earlier versions
    stray = {**tensors, REFERENCE: torch.zeros(3, 3)}
    safetensors.torch.save_file(stray, tmp_path / "stray.safetensors", metadata={HEADER_KEY: json.dumps(header)})
    assert restune.load(tmp_path / "stray.safetensors").novelty is None
