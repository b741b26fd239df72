"""Several evaluation views of an item: test-time augmentation of images and clips of videos by the same code."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import restune
from restune.data.preprocess import ImagePreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.inference.forward import mean_of_views


def png(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), pixels


@pytest.fixture
def model(tmp_path):
    network = restune.create_model("resnet8", num_classes=3)
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.weight)
    from restune.weights.bundle import BundleInfo, write_bundle

    preprocess = ImagePreprocess(crop=24, resize=32)
    info = BundleInfo(spec=network.spec, classes=("a", "b", "c"), preprocess=preprocess)
    write_bundle(tmp_path / "m.safetensors", network.state_dict(), info)
    return restune.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("width", "height"), [(40, 32), (31, 57), (32, 32)])
def test_crops_are_torchvisions(width, height):
    content, pixels = png(width, height)
    preprocess = ImagePreprocess(crop=24, resize=32)
    resized = v2.functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [32], antialias=True)
    assert torch.equal(preprocess.views(content, "five-crop"), torch.stack(v2.FiveCrop(24)(resized)))
    single, flipped = preprocess.views(content, "flip")
    assert torch.equal(single, preprocess.apply(content))
    assert torch.equal(flipped, single.flip(-1))
    assert torch.equal(preprocess.views(content, "single"), single.unsqueeze(0))


def test_probabilities_are_averaged_over_views(model):
    content, _ = png(50, 40)
    views = model.preprocess.views(content, "five-crop")
    with torch.inference_mode():
        alone = torch.stack([model.module(model.preprocess.inputs(view[None])[0]) for view in views])
    expected = alone.softmax(-1).mean(0)[0]
    (prediction,) = model.predict([content], topk=3, views="five-crop")
    assert dict(prediction.top) == pytest.approx(dict(zip("abc", expected.tolist(), strict=True)), rel=1e-4)
    (plain,) = model.predict([content], topk=3)
    assert abs(plain.probability - prediction.probability) > 1e-5


def test_the_logits_of_one_view_are_not_touched():
    logits = torch.randn(5, 1, 3)
    assert torch.equal(mean_of_views(logits), logits[:, 0])


def test_logits_have_a_row_per_view(model):
    samples = torch.stack([model.preprocess.views(png(40, 40, seed)[0], "flip") for seed in (1, 2)])
    logits = model.logits(samples)
    assert logits.shape == (2, 2, 3)
    alone = model.logits(samples[1:, 1:])
    assert torch.allclose(logits[1, 1], alone[0, 0], atol=1e-5)


def test_evaluate_and_the_command_line_know_views(model, photos, run, tmp_path):
    model = model.with_classes(["blue", "red", "green"])
    plain, flipped, crops = (
        restune.evaluate(model, photos, allow_missing=True, views=views) for views in (None, "flip", "five-crop")
    )
    assert plain.logits.shape == flipped.logits.shape == crops.logits.shape == (6, 3)
    assert not np.allclose(crops.logits, plain.logits)
    assert plain.clips is None, "views of images are not scored on their own"
    assert crops.clips is None
    path = model.save(tmp_path / "named.safetensors")
    done = run("evaluate", path, photos, "--views", "five-crop", "--allow-missing", "--json")
    assert done.returncode == 0, done.stderr
    assert run("predict", path, photos, "--views", "flip", "--json").returncode == 0
    wrong = run("predict", path, photos, "--views", "flop")
    assert wrong.returncode == 2
    assert "use one of single, flip, five-crop" in wrong.stderr


def test_videos_have_views_of_their_own():
    from restune.data.kinds import KINDS

    assert KINDS["video"].view_mode(None) == "spread"
    assert VideoPreprocess(clips=5).cost("spread") == 5 * VideoPreprocess().cost("single")
    with pytest.raises(restune.UserError, match="unknown views 'flip' of videos"):
        KINDS["video"].view_mode("flip")
