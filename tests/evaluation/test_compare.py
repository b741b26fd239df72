"""Two models on the same items, single items: against scipy, hand computations and simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest
from sklearn.metrics import balanced_accuracy_score, log_loss

import restune
from restune.evaluation.compare import compare, mcnemar
from restune.evaluation.evaluation import EvaluationBuilder


def built(logits, targets, ids=None, classes=("a", "b", "c")):
    builder = EvaluationBuilder(tuple(classes))
    names = [f"item {number}" for number in range(len(targets))] if ids is None else list(ids)
    builder.add(names, list(targets), torch.as_tensor(np.asarray(logits), dtype=torch.float32))
    return builder.evaluation(model="m", data="d")


def drawn(seed, n, lift):
    """Logits of a model that is right the more often the larger `lift` is."""
    targets = np.random.default_rng(0).integers(0, 3, n)
    logits = np.random.default_rng(seed).normal(size=(n, 3))
    logits[np.arange(n), targets] += lift
    return logits, targets


@pytest.mark.parametrize(("this", "other"), [(0, 0), (1, 5), (5, 1), (7, 7), (0, 9), (30, 52), (400, 333)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_items(this, other):
    exact, mid = mcnemar(this, other)
    if this + other == 0:
        assert (exact, mid) == (1, 1)
        return
    assert exact == pytest.approx(binomtest(this, this + other).pvalue)
    halves = binom(this + other, 0.5)
    fewer = min(this, other)
    expected = 2 * (halves.cdf(fewer - 1) + 0.5 * halves.pmf(fewer))  # Fagerland et al. 2013
    assert mid == pytest.approx(expected)


def test_mid_p_by_hand():
    """One and five discordant items: (6 + 1) / 64 twice, and once less the point's 6 / 64."""
    assert mcnemar(1, 5) == pytest.approx((14 / 64, 8 / 64))


def test_differences_and_single_items_are_those_of_the_items():
    (logits, targets), (others, _) = drawn(1, 400, 1.5), drawn(2, 400, 0.5)
    this, other = built(logits, targets), built(others, targets)
    found = compare(this, other)
    right, wrong = logits.argmax(1) == targets, others.argmax(1) != targets
    assert list(found.only_this) == [f"item {i}" for i in np.flatnonzero(right & wrong)]
    assert list(found.only_other) == [f"item {i}" for i in np.flatnonzero(~right & ~wrong)]
    assert found.both == (right & ~wrong).sum()
    assert found.accuracy.difference == pytest.approx(right.mean() - (~wrong).mean())
    for each, values in ((found.balanced_accuracy.this, logits), (found.balanced_accuracy.other, others)):
        assert each == pytest.approx(balanced_accuracy_score(targets, values.argmax(1)))
    for each, values in ((found.nll.this, logits), (found.nll.other, others)):
        assert each == pytest.approx(log_loss(targets, torch.tensor(values).softmax(1).numpy()), abs=1e-6)
    low, high = found.accuracy.interval
    spread = np.std(right.astype(float) - ~wrong) / 20
    assert low == pytest.approx(found.accuracy.difference - 1.96 * spread, abs=0.01)
    assert high == pytest.approx(found.accuracy.difference + 1.96 * spread, abs=0.01)
    assert found.p_mid < 0.001
    assert compare(this, other).to_dict() == found.to_dict()


def test_the_interval_covers_the_true_difference(monkeypatch):
    monkeypatch.setattr("restune.evaluation.compare._RESAMPLES", 200)
    monkeypatch.setattr("restune.evaluation.compare._FEWEST_RESAMPLES", 200)
    covered = 0
    whole, targets = drawn(3, 15_000, 1.2)
    others, _ = drawn(4, 15_000, 1.0)
    truth = (whole.argmax(1) == targets).mean() - (others.argmax(1) == targets).mean()
    for start in range(0, 15_000, 250):
        part = slice(start, start + 250)
        low, high = compare(built(whole[part], targets[part]), built(others[part], targets[part])).accuracy.interval
        covered += low <= truth <= high
    assert 0.85 <= covered / 60 <= 1


def test_classes_in_another_order_and_items_that_only_one_has():
    logits, targets = drawn(5, 60, 1.0)
    this = built(logits, targets)
    turned = [2, 0, 1]
    other = built(logits[:50, turned], np.array([1, 2, 0])[targets[:50]], classes=("c", "a", "b"))
    found = compare(this, other)
    assert found.n == 50
    assert found.only_this == found.only_other == ()
    assert found.p_exact == 1
    assert found.nll.difference == pytest.approx(0, abs=1e-9)
    with pytest.raises(restune.UserError, match="no items in common"):
        compare(this, built(logits, targets, ids=[f"x{i}" for i in range(60)]))
    with pytest.raises(restune.UserError, match="differ in the items' labels"):
        compare(this, built(logits, (targets + 1) % 3))


def test_mistakes_and_uncertain_items():
    rows = [[5, 0, 0], [0, 3, 0], [0, 2.9, 2.8], [1, 0, 0], [0, 0, 9]]
    scored = built(rows, [0, 0, 1, 1, 2], ids="abcde")
    assert [item.id for item in scored.mistakes()] == ["b", "d"]
    first = scored.mistakes(1)[0]
    assert (first.label, first.predicted) == ("a", "b")
    assert first.probability == pytest.approx(np.e**3 / (np.e**3 + 2))
    assert first.label_probability == pytest.approx(1 / (np.e**3 + 2))
    assert [item.id for item in scored.uncertain(3)] == ["c", "d", "b"]
    assert scored.uncertain(1)[0].runner_up == "c"
    assert len(scored.uncertain(99)) == 5


@pytest.fixture(scope="module")
def two(tmp_path_factory, write_noise):
    folder = tmp_path_factory.mktemp("two")
    data = write_noise(folder / "data", dark=(0, 30), bright=(60, 30))
    settings = {"model": "resnet8", "image_size": 16, "batch_size": 16, "workers": 0, "val": 0.2}
    good = restune.train(data, epochs=4, out=folder / "good", **settings)
    poor = restune.train(data, epochs=1, out=folder / "poor", seed=3, **settings)
    return data, good.out, poor.out


def test_the_command_compares_and_lists(two, run):
    data, good, poor = two
    answer = json.loads(
        run("evaluate", good, data, "--split", "all", "--against", poor, "--mistakes", 3, "--json").stdout.splitlines()[
            -1
        ]
    )
    separate = [restune.evaluate(model, data, split="all") for model in (good, poor)]
    against = answer["against"]
    assert against["accuracy"]["this"] == separate[0].accuracy
    assert against["accuracy"]["other"] == separate[1].accuracy
    assert against["n"] == 60
    assert sum(against[key] for key in ("both_right", "only_this", "only_other", "neither")) == 60
    assert len(answer["uncertain"]) == 3
    assert answer["uncertain"][0] == separate[0].uncertain(1)[0].to_dict()
    assert "mistakes" not in json.loads(run("evaluate", good, data, "--json").stdout.splitlines()[-1])
    printed = run("evaluate", good, data, "--split", "all", "--against", poor, "--mistakes", 2)
    assert "McNemar's test p =" in printed.stdout
    assert "least certain items" in printed.stdout
    assert "这" not in printed.stdout
    chinese = run("evaluate", good, data, "--split", "all", "--against", poor, "--mistakes", 2, "--lang", "zh").stdout
    assert "McNemar 检验 p =" in chinese
    assert "平衡准确率" in chinese


def test_a_model_that_cannot_be_compared_is_one_message(two, run):
    data, good, _ = two
    failed = run("evaluate", good, data, "--against", "nowhere/model.safetensors")
    assert failed.returncode == 2
    assert "there is no such file" in failed.stderr
