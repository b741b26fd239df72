"""Functions of one's own in a training: losses, augmentations and callbacks."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import yaml
from torch import nn

import restune

SMALL = {"image_size": 16, "epochs": 2, "batch_size": 8, "threads": 1, "workers": 0, "precision": "fp32"}
TINY = {"model": "resnet8", "width": 4, "depths": (1, 1)}


@pytest.fixture
def shapes(tmp_path, write_noise):
    return write_noise(tmp_path / "shapes", bright=(120, 20), dark=(0, 20))


def tensors(run):
    return safetensors.torch.load_file(run.out / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_loss_of_ones_own_is_the_loss(shapes, tmp_path):
    """Cross-entropy handed over as a function is the recipe's own, bit for bit; so is its value for each item."""
    settings = {**TINY, **SMALL}
    usual = restune.train(shapes, out=tmp_path / "usual", set={"label_smoothing": 0}, **settings)
    seen = []

    def loss(logits, targets):
        seen.append((logits.dtype, logits.shape, targets.dtype, targets.shape))
        return F.cross_entropy(logits, targets)

    mine = restune.train(shapes, out=tmp_path / "mine", loss=loss, **settings)
    assert set(seen) == {(torch.float32, (8, 2), torch.int64, (8,))}
    assert equal(tensors(mine), tensors(usual))
    each = restune.train(
        shapes, out=tmp_path / "each", loss=nn.CrossEntropyLoss(reduction="none"), set={"micro_batch": 8}, **settings
    )
    assert all(torch.allclose(value, tensors(each)[name], atol=1e-5) for name, value in tensors(usual).items())
    other = restune.train(shapes, out=tmp_path / "other", loss=lambda a, b: 3 * F.cross_entropy(a, b), **settings)
    assert not equal(tensors(other), tensors(usual))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": lambda logits, _targets: logits}, r"returned a tensor of shape \[8, 2\]"),
        ({"loss": lambda _logits, _targets: 0.5}, "returned a float"),
        ({"loss": F.cross_entropy, "set": {"label_smoothing": 0.1}}, "label_smoothing has no effect"),
        ({"loss": F.cross_entropy, "set": {"class_weights": "balanced"}}, "class_weights has no effect"),
        ({"augment": lambda x, _generator: x[:1]}, r"returned torch.uint8 \[1, 3, 16, 16\]"),
        ({"augment": lambda x, _generator: x.float()}, "returned torch.float32"),
        ({"on_epoch": 3}, "a function of one argument"),
    ],
)
def test_what_functions_may_not_do(shapes, tmp_path, options, text):
    with pytest.raises(restune.UserError, match=text):
        restune.train(shapes, out=tmp_path / "run", **{**TINY, **SMALL, **options})


def test_a_fitted_head_has_no_steps(shapes, tmp_path):
    weights = restune.train(shapes, out=tmp_path / "first", **TINY, **SMALL).out
    for name in ("loss", "augment", "on_step"):
        with pytest.raises(restune.UserError, match=f"{name} has no effect here"):
            restune.finetune(shapes, weights=weights, freeze="all", out=tmp_path / "run", **{name: print})
    records = []
    restune.finetune(shapes, weights=weights, freeze="all", out=tmp_path / "run", on_epoch=records.append)
    assert [record.epoch for record in records] == [1]


def shifted(x, generator):
    """Darken by a random amount for each image, with a draw of torch's own generator beside the one handed over."""
    assert (x.dtype, x.shape[1:]) == (torch.uint8, (3, 16, 16))
    amount = torch.randint(0, 60, (len(x), 1, 1, 1), generator=generator, dtype=torch.uint8)
    return x - torch.minimum(x, amount + torch.randint(0, 9, (1,), dtype=torch.uint8))


def test_an_augmentation_of_ones_own_repeats_exactly(shapes, tmp_path):
    settings = {**TINY, **SMALL}
    usual = restune.train(shapes, out=tmp_path / "usual", **settings)
    same = restune.train(shapes, out=tmp_path / "same", augment=lambda x, _generator: x, **settings)
    assert equal(tensors(same), tensors(usual))
    torch.manual_seed(1)
    first = restune.train(shapes, out=tmp_path / "first", augment=shifted, **settings)
    torch.manual_seed(2)
    again = restune.train(shapes, out=tmp_path / "again", augment=shifted, **settings)
    assert equal(tensors(first), tensors(again))
    assert not equal(tensors(first), tensors(usual))
    weights = usual.out  # with frozen layers, whose features cannot be cached then
    frozen = restune.finetune(
        shapes, weights=weights, freeze=1, augment=shifted, epochs=2, image_size=16, out=tmp_path / "frozen", threads=1
    )
    assert torch.equal(tensors(frozen)["layer1.0.conv1.weight"], tensors(usual)["layer1.0.conv1.weight"])


def test_callbacks_see_the_run_and_change_nothing(shapes, tmp_path):
    steps, epochs = [], []
    settings = {**TINY, **SMALL}
    usual = restune.train(shapes, out=tmp_path / "usual", **settings)
    run = restune.train(shapes, out=tmp_path / "run", on_step=steps.append, on_epoch=epochs.append, **settings)
    assert equal(tensors(run), tensors(usual))
    assert [(step.step, step.epoch, step.images) for step in steps] == [
        (1, 1, 8), (2, 1, 16), (3, 1, 24), (4, 1, 32), (5, 2, 40), (6, 2, 48), (7, 2, 56), (8, 2, 64),
    ]  # fmt: skip
    assert all(isinstance(step, restune.StepRecord) and isinstance(step.network, restune.ResNet) for step in steps)
    assert all(isinstance(epoch, restune.EpochRecord) for epoch in epochs)
    assert epochs[0].train_loss == pytest.approx(sum(step.loss for step in steps[:4]) / 4)
    lines = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert [epoch.to_dict() for epoch in epochs] == lines
    assert (
        "# called during the run, not needed to repeat it: on_epoch, on_step" in (run.out / "recipe.yaml").read_text()
    )
    assert yaml.safe_load((run.out / "recipe.yaml").read_text())["custom"] == []


@pytest.mark.parametrize("name", ["loss", "augment", "on_epoch", "on_step"])
def test_exceptions_pass_unchanged(shapes, tmp_path, name):
    error = RuntimeError("mine")

    def fail(*_arguments):
        raise error

    with pytest.raises(RuntimeError) as caught:
        restune.train(shapes, out=tmp_path / "run", **{name: fail}, **TINY, **SMALL)
    assert caught.value is error


def test_the_recipe_says_what_it_does_not_hold(shapes, tmp_path, run):
    made = restune.train(shapes, loss=F.cross_entropy, augment=shifted, out=tmp_path / "run", **TINY, **SMALL)
    recipe = made.out / "recipe.yaml"
    assert yaml.safe_load(recipe.read_text())["custom"] == ["loss", "augment"]
    assert (
        "# not in this file, pass it again in Python: loss (cross_entropy), augment (shifted)\n" in recipe.read_text()
    )
    done = run("train", shapes, "--recipe", recipe, "--out", tmp_path / "line")
    assert done.returncode == 2
    assert "a loss function and an augmentation of its own, which a recipe cannot hold" in done.stderr
    assert "loss=..., augment=..." in done.stderr
    again = restune.train(shapes, recipe=recipe, loss=F.cross_entropy, augment=shifted, out=tmp_path / "again")
    assert equal(tensors(again), tensors(made))
