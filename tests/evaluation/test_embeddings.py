"""Evaluations hold the embeddings of their items, from the forward pass that gives the logits."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import restune
from restune.data.inputs import as_items
from restune.evaluation import logits as storage
from restune.evaluation.evaluation import EvaluationBuilder, load_evaluation
from restune.inference.model import Model
from restune.inference.predictor import predict_with_embeddings


@pytest.fixture(scope="module")
def noise(tmp_path_factory, write_noise):
    folder = tmp_path_factory.mktemp("embeddings")
    data = write_noise(folder / "data", dark=(0, 12), bright=(120, 12))
    run = restune.train(data, model="resnet8", image_size=16, epochs=1, batch_size=8, out=folder / "run", workers=0)
    return data, run


def test_they_are_those_of_the_model_in_the_order_of_the_items(noise):
    data, run = noise
    scored = restune.evaluate(run.model, data, split="all")
    expected = run.model.embed([data / name for name in scored.ids])
    assert scored.embeddings.dtype == np.float32
    assert scored.embeddings.shape == (24, run.model.spec.num_features)
    np.testing.assert_allclose(scored.embeddings, expected, atol=1e-4)
    head = run.model.module.fc
    np.testing.assert_allclose(
        scored.embeddings @ head.weight.numpy().T + head.bias.numpy(), scored.logits, atol=1e-4
    )  # fmt: skip


def test_the_network_runs_once_per_batch(noise, monkeypatch):
    data, run = noise
    calls = []
    original = type(run.model.module).forward_until
    monkeypatch.setattr(
        type(run.model.module), "forward_until", lambda *given: calls.append(len(given[1])) or original(*given)
    )
    restune.evaluate(run.model, data, split="all", batch_size=10)
    assert calls == [10, 10, 4]


def test_several_views_give_their_mean(noise):
    data, run = noise
    ((_, logits, each),) = predict_with_embeddings(
        run.model, as_items(data / "dark/000.png", run.model.kind), views="flip"
    )
    assert each.shape == (1, 2, run.model.spec.num_features)
    assert logits.shape == (1, 2, 2)
    assert not torch.equal(each[:, 0], each[:, 1])
    scored = restune.evaluate(run.model, data, split="all", views="flip")
    row = scored.embeddings[scored.ids.index("dark/000.png")]
    np.testing.assert_allclose(row, each.mean(dim=1)[0].numpy(), atol=1e-5)


def test_a_runs_saved_scores_hold_them_whether_trained_or_fitted(noise, tmp_path):
    data, run = noise
    fitted = restune.finetune(data, weights=run.out, freeze="all", out=tmp_path / "fitted", workers=0)
    for finished in (run, fitted):
        saved = load_evaluation(finished.out / "evaluation" / "val.npz")
        head = finished.model.module.fc
        logits = saved.embeddings @ head.weight.numpy().T + head.bias.numpy()
        np.testing.assert_allclose(logits, saved.logits, atol=1e-4)


def test_a_module_of_ones_own_has_none(noise, tmp_path):
    data, _ = noise
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    run = restune.train(data, model=module, image_size=16, epochs=1, out=tmp_path / "own", workers=0)
    model = restune.load(run.out, module=module)
    assert isinstance(model, Model)
    assert restune.evaluate(model, data, split="all").embeddings is None
    with np.load(run.out / "evaluation" / "val.npz") as content:
        assert "embeddings" not in content


def built(n=50, width=9):
    builder = EvaluationBuilder(("a", "b"))
    rows = torch.arange(n * width, dtype=torch.float32).reshape(n, width)
    for start in range(0, n, 16):
        part = rows[start : start + 16]
        builder.add([str(start + i) for i in range(len(part))], [0] * len(part), torch.zeros(len(part), 2), part)
    return builder.evaluation(), rows.numpy()


@pytest.mark.parametrize("limit", [0, 10**9])
def test_they_are_saved_and_read_back_and_older_files_still_load(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(storage, "_IN_MEMORY", limit)
    evaluation, rows = built()
    assert isinstance(evaluation.embeddings, np.memmap) == (limit == 0)
    assert np.array_equal(evaluation.embeddings, rows)
    path = evaluation.save(tmp_path / "scores.npz")
    assert np.array_equal(load_evaluation(path).embeddings, rows)
    with zipfile.ZipFile(path) as new, zipfile.ZipFile(tmp_path / "old.npz", "w") as old:
        for name in new.namelist():
            if name != "embeddings.npy":
                old.writestr(name, new.read(name))
    assert load_evaluation(tmp_path / "old.npz").embeddings is None


def test_embeddings_that_do_not_fit_the_items_are_one_message(tmp_path):
    path = built()[0].save(tmp_path / "scores.npz")
    wrong = io.BytesIO()
    np.save(wrong, np.zeros((49, 9), np.float32))
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "wrong.npz", "w") as broken:
        for name in whole.namelist():
            broken.writestr(name, wrong.getvalue() if name == "embeddings.npy" else whole.read(name))
    with pytest.raises(restune.UserError, match="do not fit together"):
        load_evaluation(tmp_path / "wrong.npz")


def test_too_many_are_not_kept(monkeypatch):
    monkeypatch.setattr(storage, "_MOST_EMBEDDINGS", 4 * 9 * 40)
    assert built(n=40)[0].embeddings is not None
    assert built(n=41)[0].embeddings is None
