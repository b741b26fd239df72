"""The pixels that a network sees are the same in torch, ONNX Runtime, OpenVINO and restune's own decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray

from restune.data.decode import decode_image
from restune.data.preprocess import ImagePreprocess
from restune.exporting.deployable import InputSpec
from restune.exporting.onnx_graph import run_onnx, write_onnx
from restune.exporting.pixels import ResizedCrop

SIZES = ((1, 1), (1, 40), (97, 1500), (300, 500), (333, 224), (224, 224), (32, 32), (65, 47), (256, 257), (2000, 31))
SETTINGS = (
    {"crop": 224, "resize": 256},
    {"crop": 32, "resize": None},
    {"crop": 64, "resize": 73, "interpolation": "bicubic"},
    {"crop": 48, "resize": 48, "interpolation": "nearest"},
    {"crop": 64, "resize": 80, "mean": (0.5,), "std": (0.5,)},
)


def noise(height: int, width: int) -> torch.Tensor:
    """A hard case: every pixel differs from its neighbours."""
    generator = torch.Generator().manual_seed(height * 10_000 + width)
    return torch.randint(0, 256, (1, height, width, 3), generator=generator, dtype=torch.uint8)


def assert_same_pixels(pairs: list[tuple[NDArray[np.float32], NDArray[np.uint8]]], most: float = 1) -> None:
    """99.7% of pixels equal, none off by more than one grey level."""
    differences = [np.abs(found - expected.astype(np.float32)) for found, expected in pairs]
    assert max(difference.max() for difference in differences) <= most
    assert np.mean([(difference == 0).mean() for difference in differences]) >= 0.997


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_graph_equals_decoding(settings: dict[str, object]) -> None:
    preprocess = ImagePreprocess(**settings)  # type: ignore[arg-type]
    graph, images = ResizedCrop(preprocess), [noise(*size) for size in SIZES]
    pairs = [(graph(image)[0].numpy(), preprocess.apply(image[0].numpy()).numpy()) for image in images]
    assert_same_pixels(pairs, 255 if preprocess.interpolation == "nearest" else 1)


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[torch.Tensor], NDArray[np.float32]]]:
    """The resize of ImageNet networks, written once and loaded by both runtimes."""
    path = tmp_path_factory.mktemp("pixels") / "pixels.onnx"
    inputs = InputSpec("images", noise(97, 131).repeat(2, 1, 1, 1), {0: "N", 1: "H", 2: "W"})
    write_onnx(ResizedCrop(ImagePreprocess(crop=224, resize=256)), inputs, ("pixels",), path, {})
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "onnxruntime": lambda images: run_onnx(path, images)["pixels"],
        "openvino": lambda images: np.array(compiled(images.numpy())[0]),
    }


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_equal_decoding(
    runtime: str, runtimes: dict[str, Callable[[torch.Tensor], NDArray[np.float32]]]
) -> None:
    preprocess = ImagePreprocess(crop=224, resize=256)
    pairs = []
    for size in SIZES:
        for count in (1, 3):
            images = noise(*size).repeat(count, 1, 1, 1)
            found = runtimes[runtime](images)
            assert found.shape == (count, 3, 224, 224)
            pairs.append((found[count - 1], preprocess.apply(images[0].numpy()).numpy()))
    assert_same_pixels(pairs)


@pytest.mark.data
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_real_photos(
    runtime: str, runtimes: dict[str, Callable[[torch.Tensor], NDArray[np.float32]]], real_data: Path
) -> None:
    preprocess = ImagePreprocess(crop=224, resize=256)
    photos = sorted((real_data / "hymenoptera/val/bees").iterdir())[:40]
    pairs = []
    for photo in photos:
        content = photo.read_bytes()
        raw = decode_image(content, 3).permute(1, 2, 0).contiguous()[None]
        pairs.append((runtimes[runtime](raw)[0], preprocess.apply(content).numpy()))
    assert_same_pixels(pairs)


def test_a_filter_without_antialiasing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    preprocess = ImagePreprocess(crop=224, resize=256)
    monkeypatch.setattr(torch, "sym_max", lambda a, _: a if isinstance(a, int) else 1.0)
    found = ResizedCrop(preprocess)(noise(600, 900))[0].numpy()
    with pytest.raises(AssertionError):
        assert_same_pixels([(found, preprocess.apply(noise(600, 900)[0].numpy()).numpy())])
