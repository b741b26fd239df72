"""Engines give the answers that torch gives, for every kind of data and task; and the choice between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import restune
from restune.core.errors import UserError
from restune.data.preprocess import ImagePreprocess, Preprocess
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.exporting.engines import with_engine
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.weights.bundle import BundleInfo

ENGINES = ("onnx", "openvino")
TINY: dict[str, Any] = {"depths": (1, 1, 1), "width": 8, "num_classes": 5}
KINDS: dict[str, tuple[str, dict[str, Any], Preprocess]] = {
    "images": ("resnet8", TINY, ImagePreprocess(crop=24)),
    "grey images": ("resnet8", {**TINY, "in_channels": 1}, ImagePreprocess(crop=24, mean=(0.1,), std=(0.3,))),
    "series": (
        "resnet1d_ts",
        {"in_channels": 2, "width": 8, "num_classes": 5},
        SignalPreprocess(channels=2, normalization="channel", mean=(1, 2), std=(1, 2)),
    ),
    "texts": ("textresnet", {"num_classes": 5}, TextPreprocess(tokens="bytes", length=60)),
    "clips": ("r3d_18", {"depths": (1, 1, 1, 1), "width": 8, "num_classes": 5}, VideoPreprocess(crop=24, frames=3)),
}


def made(name: str, changes: dict[str, Any], preprocess: Preprocess, randomize: Callable[..., nn.Module]) -> Model:
    if isinstance(preprocess, TextPreprocess):
        changes = {**changes, "vocabulary": preprocess.vocabulary_size}
    network = randomize(restune.create_model(name, **changes))
    assert isinstance(network, ResNet)
    network.requires_grad_(False)
    classes = tuple(f"class {number}" for number in range(network.spec.num_classes))
    return Model(
        module=network, info=BundleInfo(spec=network.spec, classes=classes, preprocess=preprocess), source=name
    )


def samples_of(preprocess: Preprocess, count: int) -> torch.Tensor:
    """Samples as the decoders make them: of two lengths, padded, where items may differ in length."""
    generator = torch.Generator().manual_seed(count)
    if isinstance(preprocess, ImagePreprocess):
        return torch.randint(0, 256, (count, preprocess.channels, 24, 24), generator=generator, dtype=torch.uint8)
    if isinstance(preprocess, VideoPreprocess):
        return torch.randint(0, 256, (count, 3, 3, 24, 24), generator=generator, dtype=torch.uint8)
    if isinstance(preprocess, SignalPreprocess):
        series = [torch.randn(2, 60 - 17 * (place == 1), generator=generator).numpy() for place in range(count)]
        return preprocess.stack([preprocess.apply(one) for one in series])
    texts = ["a few words and " * (1 + (place != 1)) + str(place) for place in range(count)]
    return preprocess.stack([preprocess.apply(text) for text in texts])


@pytest.mark.parametrize("kind", KINDS)
def test_engines_compute_what_the_network_computes(kind: str, randomize: Callable[..., nn.Module]) -> None:
    model = made(*KINDS[kind], randomize)
    for count in (1, 5):
        samples = samples_of(model.preprocess, count)
        x, mask = model.preprocess.inputs(samples)
        with torch.inference_mode():
            network = model.module
            assert isinstance(network, ResNet)
            embeddings = network.embed(x, mask)
            logits = network.fc(embeddings)
        for engine in ("torch", *ENGINES):
            computed, embedded = with_engine(model, engine).logits_and_embeddings(samples[:, None])
            assert embedded is not None
            atol = 1e-4 * max(1.0, float(logits.abs().max()))
            np.testing.assert_allclose(computed[:, 0], logits, atol=atol, err_msg=engine)
            np.testing.assert_allclose(embedded[:, 0], embeddings, atol=atol, err_msg=engine)


def test_a_model_without_a_graph_and_an_engine_that_is_missing_are_refused(
    randomize: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = made("vdcnn9", {"num_classes": 3}, TextPreprocess(tokens="bytes", length=60), randomize)
    with pytest.raises(UserError, match="k-max pooling"):
        with_engine(texts, "openvino")
    model = made(*KINDS["images"], randomize)
    with pytest.raises(UserError, match="unknown value 'onx'"):
        with_engine(model, "onx")
    monkeypatch.setattr("restune.inference.engines.runtime.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"(?s)needs the package openvino.*restune\[export\]"):
        with_engine(model, "openvino")


def test_a_graph_is_made_once(
    randomize: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path))
    model = made(*KINDS["images"], randomize)
    with_engine(model, "onnx")
    monkeypatch.setattr("restune.exporting.engines.write_onnx", lambda *_: pytest.fail("made again"))
    with_engine(made(*KINDS["images"], randomize), "openvino")
    assert len(list((tmp_path / "engines").iterdir())) == 1
