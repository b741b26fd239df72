"""Preprocessing against torchvision's own evaluation transform, on made and on real photos."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

import restune
from restune.data.preprocess import ImagePreprocess, preprocess_from_dict

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def ours_and_theirs(content, settings):
    ours = settings.normalize(settings.apply(content).unsqueeze(0))[0]
    transform = ImageClassification(
        crop_size=settings.crop, resize_size=settings.resize, interpolation=MODES[settings.interpolation]
    )
    theirs = transform(Image.open(io.BytesIO(content)).convert("RGB"))
    grey_level = 1 / 255 / torch.tensor(settings.std).view(3, 1, 1)
    return ((ours - theirs).abs() / grey_level).flatten()


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (257, 256), (640, 481), (100, 90)])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (235, 224)])
def test_torchvisions_transform(size, resize, crop, interpolation):
    rows = np.random.default_rng(0).integers(0, 256, (size[1] // 10 + 1, size[0] // 10 + 1, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rows).resize(size, Image.Resampling.BICUBIC).save(buffer, format="PNG")
    settings = ImagePreprocess(crop=crop, resize=resize, interpolation=interpolation)
    levels = ours_and_theirs(buffer.getvalue(), settings)
    assert np.percentile(levels.numpy(), 99) <= 1.01
    # Both resize in fixed point, with coefficients rounded differently: two sharp bicubic lobes may add up.
    assert levels.max() <= (2.01 if interpolation == "bicubic" else 1.01)


def test_two_hundred_real_photos(real_data):
    photos = sorted((real_data / "hymenoptera").glob("*/*/*.jpg"))[:200]
    assert len(photos) == 200
    settings = ImagePreprocess(crop=224, resize=256)
    levels = torch.cat([ours_and_theirs(path.read_bytes(), settings) for path in photos])
    assert np.percentile(levels.numpy(), 99) <= 1.0


def test_a_strip_is_cut_before_it_is_resized():
    strip = np.zeros((1, 30000, 3), np.uint8)
    strip[:, 15000] = 255
    assert ImagePreprocess(crop=224, resize=256).apply(strip).shape == (3, 224, 224)
    assert ImagePreprocess(crop=224, resize=256).apply(np.zeros((1, 1), np.uint8)).shape == (3, 224, 224)


def test_without_a_crop_the_whole_image_is_seen():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :20] = 255
    seen = ImagePreprocess(crop=20).apply(image)
    assert (seen[:, :, :9] == 255).all()
    assert (seen[:, :, 11:] == 0).all()


def test_override():
    base = ImagePreprocess(crop=224, resize=256)
    assert (base.override(image_size=112).crop, base.override(image_size=112).resize) == (112, 128)
    assert base.override(crop=0.875).resize == 256
    assert base.override(crop=1.0).resize == 224
    assert base.override(crop=0).resize is None
    assert base.override(mean=(0.5,), std=(0.25,)).mean == (0.5, 0.5, 0.5)
    assert base.with_channels(1).channels == 1
    for wrong in ({"mean": (0.1, 0.2)}, {"crop": 1.5}, {"interpolation": "linear"}, {"image_size": 0}, {"std": (0.0,)}):
        with pytest.raises(restune.UserError):
            base.override(**wrong)


def test_it_survives_its_dictionary():
    settings = ImagePreprocess(crop=200, resize=210, interpolation="bicubic", mean=(0.1,), std=(0.2,))
    assert preprocess_from_dict(settings.to_dict()) == settings
    with pytest.raises(restune.UserError, match="'sound'"):
        preprocess_from_dict({"kind": "sound"})
    with pytest.raises(restune.UserError, match="'colour'"):
        preprocess_from_dict({**settings.to_dict(), "colour": 1})
