"""Fine-tuning keeps the rows of the head whose classes the weights have, too, by name."""

from __future__ import annotations

import pytest
import torch

import restune
from restune.data.kinds import IMAGE
from restune.data.sources import open_dataset
from restune.runs.initial import build_network, initial_state
from restune.runs.request import Request

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 2, "batch_size": 8, "workers": 0}
QUICK = {"augment.crop_scale": None, "augment.policy": "none", "optimizer.lr": 0.05}


@pytest.fixture
def shapes(tmp_path, write_noise):
    return write_noise(tmp_path / "shapes", bright=(120, 12), dark=(0, 12), grey=(60, 12))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, write_noise):
    """A run on images like `shapes`."""
    folder = tmp_path_factory.mktemp("pretrained")
    data = write_noise(folder / "shapes", bright=(120, 12), dark=(0, 12), grey=(60, 12))
    return restune.train(data, out=folder / "run", set=QUICK, **SMALL).out


def head(data, weights):
    """The head before the first step, and the classes of its rows."""
    dataset = open_dataset(data)
    recipe = Request("finetune", None, {"weights": str(weights), "freeze": "none"}, {}).recipe_for(IMAGE)
    initial = initial_state(recipe, dataset, "finetune")
    network = build_network(initial, recipe, dataset.classes, initial.preprocess)
    return dict(zip(dataset.classes, network.fc.weight.detach(), strict=True)), network.fc.bias.detach()


def test_the_same_classes_keep_the_head(shapes, pretrained, capsys):
    rows, bias = head(shapes, pretrained)
    old = restune.load(pretrained)
    assert all(torch.equal(rows[name], old.module.fc.weight[i]) for i, name in enumerate(old.classes))
    assert torch.equal(bias, old.module.fc.bias)
    assert "kept the head: the data has the weights' 3 classes" in capsys.readouterr().err


def test_shared_classes_keep_their_rows_in_another_order(shapes, pretrained, capsys):
    (shapes / "bright").rename(shapes / "zebra")
    rows, _ = head(shapes, pretrained)
    old = restune.load(pretrained)
    assert list(rows) == ["dark", "grey", "zebra"]
    for name in ("dark", "grey"):
        assert torch.equal(rows[name], old.module.fc.weight[old.classes.index(name)])
    assert not any(torch.equal(rows["zebra"], row) for row in old.module.fc.weight)
    said = capsys.readouterr().err
    assert "new 3-class head (was 3)" in said
    assert "kept the rows of 2 shared classes: dark, grey" in said


def test_other_classes_have_a_new_head(shapes, pretrained, capsys):
    for name in ("bright", "dark", "grey"):
        (shapes / name).rename(shapes / f"other {name}")
    rows, _ = head(shapes, pretrained)
    old = restune.load(pretrained).module.fc.weight
    assert not any(torch.equal(row, other) for row in rows.values() for other in old)
    assert "shared" not in capsys.readouterr().err


def test_continuing_with_the_same_classes_does_not_start_at_chance(shapes, pretrained, tmp_path):
    before = restune.load(pretrained)
    trained = restune.evaluate(before, shapes).accuracy
    settings = {"optimizer.lr": 1e-5, "schedule.warmup_epochs": 0, "augment.crop_scale": None, "augment.policy": "none"}
    run = restune.finetune(
        shapes, weights=pretrained, freeze="none", epochs=1, batch_size=8, out=tmp_path / "on", set=settings
    )
    assert restune.evaluate(run.model, shapes).accuracy >= trained - 0.1
