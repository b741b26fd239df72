"""Large images, series, texts, labels and numbers: what single parts of predicting with an export compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import restune
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.resize import resize_shorter_side, resize_to
from restune.data.targets import Outputs, TargetScale
from restune.exported import shrink
from restune.exported.answers import Answering, answers
from restune.exported.info import ExportInfo
from restune.exported.inputs import raw_input, stacked
from restune.inference.model import Model
from restune.inference.prediction import AnswerOptions
from restune.inference.task_predictions import task_answers
from restune.weights.bundle import BundleInfo


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("resize", [None, 41])
def test_large_images_are_resized_as_torch_does(
    interpolation: str, resize: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrink, "LARGE", 0)
    random, off, count = np.random.default_rng(0), 0, 0
    for height, width in [(97, 131), (333, 500), (61, 1800), (480, 64), (49, 50)]:
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = shrink.shrunk(pixels, ImagePreprocess(crop=37, resize=resize, interpolation=interpolation))
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        expected = (
            resize_to(tensor, 37, 37, interpolation)
            if resize is None
            else resize_shorter_side(tensor, resize, interpolation)
        )
        difference = np.abs(found.astype(int) - expected.permute(1, 2, 0).numpy())
        assert difference.max() <= 1
        off, count = off + int((difference > 0).sum()), count + difference.size
    assert off / count < 5e-3


def test_small_images_and_enlarged_ones_are_left_to_the_graph() -> None:
    pixels = np.zeros((30, 40, 3), np.uint8)
    assert shrink.shrunk(pixels, ImagePreprocess(crop=20)) is pixels


def info_of(outputs: Outputs, classes: tuple[str, ...]) -> ExportInfo:
    return ExportInfo(
        name="", task=outputs.task, classes=classes, preprocess=ImagePreprocess(crop=8), calibration=None,
        outputs=outputs, novelty_threshold=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs("multi-label", thresholds=(0.3, 0.5, 0.9)),
        Outputs("multi-label"),
        Outputs("regression", scale=TargetScale((1.0, -2.0, 30.0), (2.0, 0.5, 10.0))),
    ],
)
def test_labels_and_numbers_as_the_models(outputs: Outputs) -> None:
    names = ("a", "b", "c")
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    if outputs.scale is not None:
        info, graph = info_of(outputs, names), {"values": outputs.scale.values(logits.numpy())}
    else:
        info, graph = info_of(outputs, names), {"probabilities": logits.sigmoid().numpy()}
    found = list(answers(graph, info, Answering(topk=2, options=AnswerOptions(), thresholds=None)))
    assert found == task_answers(logits[:, None], names, outputs, 2)
    assert outputs.task == "regression" or {len(one["labels"]) for one in found} >= {0, 1, 2}


def test_padding_is_nan_in_series_and_0_in_texts() -> None:
    series = SignalPreprocess()
    batch = stacked([raw_input(np.arange(3.0), series), raw_input(np.array([5.0]), series)])
    np.testing.assert_array_equal(batch, [[[0, 1, 2]], [[5, np.nan, np.nan]]])
    text = TextPreprocess(tokens="bytes")
    np.testing.assert_array_equal(stacked([raw_input("ab", text), raw_input("c", text)]), [[98, 99], [100, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["series", "text"])
def test_series_and_texts_have_the_models_answers(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if kind == "series":
        network, preprocess = restune.create_model("resnet1d_ts", num_classes=3), SignalPreprocess(length=60)
        random = np.random.default_rng(0)
        inputs = [random.normal(size=(1, length)).astype(np.float32) for length in (20, 60, 95)]
    else:
        preprocess = TextPreprocess(tokens="words", vocabulary=("good", "bad", "<x>", "<Xx>"), length=30)
        network = restune.create_model("textresnet", num_classes=3, vocabulary=preprocess.vocabulary_size)
        inputs = ["Good news", "bad, BAD news: 1 2 3", "好", "good " * 50]
    network.eval()
    torch.nn.init.normal_(network.fc.weight, std=0.5)
    info = BundleInfo(spec=network.spec, classes=("x", "y", "z"), preprocess=preprocess, name=kind)
    saved = Model(module=network, info=info, source="test").save(tmp_path / "model.safetensors")
    export = restune.export(saved, to="onnx", out=tmp_path / "out")
    for one, other in zip(restune.predict(export, inputs), restune.predict(saved, inputs), strict=True):
        assert (one.input, one.label) == (other.input, other.label)
        for (_, found), (_, expected) in zip(one.top, other.top, strict=True):
            assert found == pytest.approx(expected, abs=1e-4)
