"""Distillation: the loss is Hinton's, both networks see the same view, and what a teacher cannot teach is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.preload import Preloaded
from restune.data.sources import open_dataset
from restune.inference.features import FeatureCache
from restune.inference.load import load_model
from restune.runs import teacher as teacher_module
from restune.training.recipe import Recipe
from restune.training.teacher import distillation_loss, make_teacher

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 2, "batch_size": 8, "device": "cpu", "val": 0.25}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, write_noise):
    return write_noise(tmp_path_factory.mktemp("shapes"), (16, 16), bright=(100, 20), dark=(10, 20))


@pytest.fixture(scope="module")
def teacher(shapes, tmp_path_factory):
    return restune.train(shapes, out=tmp_path_factory.mktemp("teacher") / "run", **SMALL).out


def test_the_loss_is_hintons():
    random = torch.Generator().manual_seed(0)
    student, wise = torch.randn(7, 5, generator=random), torch.randn(7, 5, generator=random)
    for temperature in (1.0, 4.0):
        p, q = (wise / temperature).softmax(1).numpy(), (student / temperature).softmax(1).numpy()
        by_hand = temperature**2 * np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1))
        assert float(distillation_loss(student, wise, temperature)) == pytest.approx(by_hand, rel=1e-5)


def test_teacher_and_student_see_the_same_view(shapes, teacher, monkeypatch, tmp_path):
    """The teacher's cached logits of an epoch are those that it gives to the student's own samples."""
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path))
    model, data = load_model(teacher, device="cpu"), open_dataset(shapes, None)
    augment = Augment(shift=3, flip=True)
    recipe = Recipe(teacher={"model": str(teacher), "views": 2}, precision="fp32")
    teaches = make_teacher(model, data, recipe, augment, epochs=4)
    batches = TrainingBatches(
        items=data.items, classes=2, preprocess=model.preprocess, augment=augment, batch_size=8, seed=0,
        preloaded=Preloaded(data.items), teacher=teaches,
    )  # fmt: skip
    seen = []
    for epoch in range(3):
        batch = next(batches.epoch(epoch, 0))
        expected = model.logits(batch.samples.unsqueeze(1))[:, 0]
        torch.testing.assert_close(batch.teacher, expected, rtol=1e-4, atol=1e-4)
        seen.append({item.id: sample for item, sample in zip(batch.items, batch.samples, strict=True)})
    both = [(seen[0][name], seen[2][name]) for name in seen[0].keys() & seen[2].keys()]
    assert both
    assert all(torch.equal(one, other) for one, other in both), "epoch 2 shows the views of epoch 0 again"
    plain = make_teacher(model, data, recipe, Augment(), epochs=4)
    assert plain.view_count == 1


def test_views_do_not_use_up_a_time_budget(shapes, teacher, monkeypatch, tmp_path):
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path))
    model, data = load_model(teacher, device="cpu"), open_dataset(shapes, None)
    for seconds, views in ((1.0, 1), (0.05, 3), (0.001, 8)):
        monkeypatch.setattr(FeatureCache, "time_an_item", lambda *_, seconds=seconds: seconds)
        recipe = Recipe(teacher={"model": str(teacher)}, precision="fp32", time=20.0)
        assert make_teacher(model, data, recipe, Augment(shift=3), epochs=None).view_count == views
    recipe = Recipe(teacher={"model": str(teacher), "views": 5}, precision="fp32", time=20.0)
    assert make_teacher(model, data, recipe, Augment(shift=3), epochs=None).view_count == 5


def test_a_student_follows_its_teacher_not_the_labels(run, shapes, teacher, tmp_path):
    """A teacher that has the classes swapped: with the whole weight on it, the student swaps them, too."""
    import safetensors.torch

    swapped = tmp_path / "swapped.safetensors"
    with safetensors.safe_open(teacher / "model.safetensors", "pt") as file:
        header = file.metadata()
    tensors = safetensors.torch.load_file(teacher / "model.safetensors")
    tensors["fc.weight"], tensors["fc.bias"] = -tensors["fc.weight"], -tensors["fc.bias"]
    safetensors.torch.save_file(tensors, swapped, metadata=header)
    settings = ["--model", "resnet8", "--image-size", 16, "--epochs", 12, "--batch-size", 8, "--device", "cpu"]
    done = run(
        "train", shapes, "--teacher", swapped, "--set", "teacher.weight=1", *settings, "--monitor", "train_loss",
        "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "teacher" in done.stderr
    right = restune.load(teacher).predict(sorted(shapes.rglob("*.png")))
    learnt = restune.load(tmp_path / "run").predict(sorted(shapes.rglob("*.png")))
    differing = np.mean([one.label != other.label for one, other in zip(right, learnt, strict=True)])
    assert differing > 0.8
    assert "swapped.safetensors" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_a_teacher_of_frozen_layers(shapes, teacher, tmp_path, monkeypatch):
    """With cached activations of frozen layers the teacher's logits are those of the same views. It is loaded once."""
    loads = []
    monkeypatch.setattr(teacher_module, "load_model", lambda *a, **k: (loads.append(a), load_model(*a, **k))[1])
    run = restune.finetune(
        shapes, weights=teacher, teacher=teacher, freeze=1, epochs=3, batch_size=8, device="cpu", out=tmp_path / "run",
        val=0.25,
    )  # fmt: skip
    assert run.result["epochs"] == 3
    assert len(loads) == 1
    lines = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["train_loss"]) for line in lines)


def test_what_a_teacher_cannot_teach_is_refused(run, shapes, teacher, tmp_path):
    other = tmp_path / "other"
    for name in ("cat", "dog"):
        (other / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (16, 16), (number, 0, 0)).save(other / name / f"{number}.png")
    cases = {
        "have different classes": ("train", other, "--teacher", teacher),
        "asked once about whole, single items": ("train", shapes, "--teacher", teacher, "--set", "mixup=0.2"),
        "there is no teacher": ("train", shapes, "--set", "teacher.weight=0.5"),
        "not trained": ("finetune", shapes, "--weights", teacher, "--freeze", "all", "--teacher", teacher),
        "is not a file": ("train", shapes, "--teacher", "nobody"),
    }
    for message, command in cases.items():
        done = run(*command, "--out", tmp_path / "never")
        assert done.returncode == 2, message
        assert message in done.stderr
    assert not (tmp_path / "never").exists()
