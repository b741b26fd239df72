"""A small network with calibration and novelty, and its export to both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo
from restune.weights.calibration import Calibration, ConformalThresholds, RiskCurve
from restune.weights.novelty import Novelty, normalized

CLASSES = ("ant", "bee", "wasp")


def calibration() -> Calibration:
    conformal = ConformalThresholds(levels=(0.5, 0.9), marginal=(0.5, 0.2), class_conditional=((0.5, 0.1),) * 3)
    curve = RiskCurve(thresholds=(0.4, 0.8), answered=(10, 5), correct=(8, 5))
    return Calibration(temperature=0.7, n=10, nll=(1.0, 0.9), ece=(0.1, 0.05), abstention=curve, conformal=conformal)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth colour pictures of several sizes."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number, size in enumerate([(40, 50), (50, 40), (97, 61), (40, 50)]):
        small = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The model, as one file."""
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=3).eval()
    torch.nn.init.normal_(network.fc.weight, std=6.0)
    preprocess = restune.ImagePreprocess(crop=32, resize=37)
    samples = preprocess.stack([preprocess.apply(path.read_bytes()) for path in sorted(photos.glob("*.jpg"))])
    with torch.inference_mode():
        network.fc.bias.copy_(network.fc.bias - network(preprocess.normalize(samples)).mean(dim=0))  # no class prevails
    info = BundleInfo(
        spec=network.spec, classes=CLASSES, preprocess=preprocess, name="resnet8", calibration=calibration()
    )
    model = Model(module=network, info=info, source="test")
    known = normalized(torch.from_numpy(model.embed(sorted(photos.glob("*.jpg"))))).half()
    novelty = Novelty(reference=known, k=2, threshold=0.05, promised=0.05, false_alarms=1, n=20)
    model = Model(module=network, info=BundleInfo(**{**vars(info), "novelty": novelty}), source="test")
    return model.save(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="session")
def export(saved: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `restune export` wrote of it."""
    data = tmp_path_factory.mktemp("labelled")
    for number, path in enumerate(sorted(photos.glob("*.jpg"))):
        folder = data / CLASSES[number % 3]
        folder.mkdir(exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    return restune.export(saved, to=["onnx", "openvino"], out=tmp_path_factory.mktemp("export") / "out", data=data)
