"""evaluate: the right number, the right items, the right classes; and what stands in the way of them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import restune
from restune.weights.bundle import BundleInfo, write_bundle


@pytest.fixture
def colour_model(tmp_path):
    """A one-block network whose head tells red from blue: class order red, green, blue."""
    network = restune.create_model("resnet8", depths=(1,), width=4, num_classes=3).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for channel in range(3):  # the stem passes the three colours, the block adds nothing
            network.conv1.weight[channel, channel, 1, 1] = 1
            network.fc.weight[channel, channel] = 10
        network.bn1.weight.fill_(1)
    info = BundleInfo(
        spec=network.spec,
        classes=("red", "green", "blue"),
        preprocess=restune.ImagePreprocess(crop=16, mean=(0.0,) * 3, std=(1.0,) * 3),
    )
    write_bundle(tmp_path / "colours.safetensors", network.state_dict(), info)
    return restune.load(tmp_path / "colours.safetensors")


def test_a_model_that_is_always_right(colour_model, photos):
    result = restune.evaluate(colour_model, photos, allow_missing=True)
    assert (result.accuracy, result.n) == (1.0, 6)
    assert result.confusion.tolist() == [[3, 0, 0], [0, 0, 0], [0, 0, 3]]
    assert result.classes == ("red", "green", "blue")
    assert result.ids[0] == "blue/0.jpg"


def test_a_wrong_label_counts(colour_model, photos):
    shutil.move(photos / "red" / "0.jpg", photos / "blue" / "9.jpg")
    result = restune.evaluate(colour_model, photos, allow_missing=True)
    assert result.accuracy == 5 / 6
    assert result.confusion.tolist() == [[2, 0, 0], [0, 0, 0], [1, 0, 3]]


def test_classes_that_differ_are_named(colour_model, photos):
    with pytest.raises(restune.UserError, match="'green' with no items"):
        restune.evaluate(colour_model, photos)
    (photos / "red").rename(photos / "crimson")
    with pytest.raises(restune.UserError, match="'crimson' that the model does not know"):
        restune.evaluate(colour_model, photos, allow_missing=True)


def test_the_order_of_the_data_can_be_taken(colour_model, photos):
    """Folders n1, n2, n3 in the model's order: red, green, blue."""
    (photos / "red").rename(photos / "n1")
    (photos / "blue").rename(photos / "n3")
    shutil.copytree(photos / "n3", photos / "n2")
    result = restune.evaluate(colour_model, photos, class_order="data")
    assert result.confusion.tolist() == [[3, 0, 0], [0, 0, 3], [0, 0, 3]]
    assert result.classes == ("n1", "n2", "n3")


def test_weights_without_names_take_the_datas_and_must_agree_in_number(photos, tmp_path, capsys):
    torch.save(restune.create_model("resnet8", num_classes=2).state_dict(), tmp_path / "weights.pth")
    result = restune.evaluate("resnet8", photos, weights=tmp_path / "weights.pth")
    assert result.classes == ("blue", "red")
    assert "do not name their classes" in capsys.readouterr().err
    torch.save(restune.create_model("resnet8", num_classes=5).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(restune.UserError, match="2 classes, the model 5"):
        restune.evaluate("resnet8", photos, weights=tmp_path / "weights.pth")


def test_unreadable_items(colour_model, photos):
    (photos / "red" / "0.jpg").write_bytes(b"<html>")
    with pytest.raises(restune.UserError, match="web page") as caught:
        restune.evaluate(colour_model, photos, allow_missing=True)
    assert caught.value.where == "red/0.jpg"
    result = restune.evaluate(colour_model, photos, allow_missing=True, on_corrupt="skip")
    assert result.n == 5
    assert result.skipped == (("red/0.jpg", "a web page, not an image (it starts like HTML)"),)
    for path in photos.glob("*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(restune.UserError, match="no item of this data could be read"):
        restune.evaluate(colour_model, photos, allow_missing=True, on_corrupt="skip")


def test_the_test_split_is_scored_where_there_is_one(colour_model, photos, tmp_path, capsys):
    for name in ("train", "val", "test"):
        shutil.copytree(photos, tmp_path / "data" / name)
    (tmp_path / "data" / "test" / "red" / "0.jpg").unlink()
    assert restune.evaluate(colour_model, tmp_path / "data", allow_missing=True).n == 5
    assert "the test items are scored" in capsys.readouterr().err
    assert restune.evaluate(colour_model, tmp_path / "data", allow_missing=True, split="all").n == 17
    with pytest.raises(restune.UserError, match="no 'val' split"):
        restune.evaluate(colour_model, photos, allow_missing=True, split="val")


def test_batch_size_and_workers_change_nothing(colour_model, photos):
    runs = [
        restune.evaluate(colour_model, photos, allow_missing=True, batch_size=batch_size, workers=workers)
        for batch_size, workers in ((1, 0), (4, 1), (64, 4))
    ]
    for run in runs[1:]:
        assert np.array_equal(run.predicted, runs[0].predicted)
        assert np.allclose(run.probabilities, runs[0].probabilities, atol=1e-6)


@pytest.mark.slow
def test_published_cifar_weights(real_data):
    """An independent count of 5 images a class, by hand: torchvision's decoder and a loop. And the whole set."""
    data = real_data / "cifar10-jpeg" / "test.tar.gz"
    for name, file, expected in (
        ("resnet20", "resnet20-12fca82f.th", 0.810),
        ("resnet56", "resnet56-4bfd9763.th", 0.832),
    ):
        result = restune.evaluate(name, data, weights=real_data / "weights" / file)
        assert abs(result.accuracy - expected) <= 0.005
        assert result.n == 10_000
