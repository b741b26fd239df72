"""Exported graphs compute what the network computes: for every kind of data, every family of networks, any size."""

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
from restune.exporting.deployable import Deployable, deployable, input_spec
from restune.exporting.onnx_graph import run_onnx, write_onnx
from restune.exporting.openvino_graph import run_openvino
from restune.exporting.torch_program import run_program, write_program
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.weights.bundle import BundleInfo

IMAGES = ImagePreprocess(crop=32)
SMALL: dict[str, Any] = {"depths": (1, 1, 1, 1), "width": 16, "num_classes": 7}
FAMILIES: dict[str, tuple[str, dict[str, Any], Preprocess]] = {
    "imagenet": ("resnet18", SMALL, ImagePreprocess(crop=64, resize=73)),
    "bottleneck": ("resnet50", SMALL, ImagePreprocess(crop=64)),
    "resnext": ("resnext50_32x4d", {"depths": (1, 1, 1, 1), "num_classes": 7}, ImagePreprocess(crop=64)),
    "deep stem, average-pooled shortcut": ("resnet50d", SMALL, ImagePreprocess(crop=64)),
    "squeeze and excitation": ("seresnet50", SMALL, ImagePreprocess(crop=64)),
    "channel attention": ("ecaresnet50d", SMALL, ImagePreprocess(crop=64)),
    "pre-activation": ("preresnet18", SMALL, ImagePreprocess(crop=64)),
    "option A": ("resnet8", {}, IMAGES),
    "plain, group norm, gelu": (
        "resnet8",
        {"residual": False, "norm": "group", "norm_groups": 4, "act": "gelu"},
        IMAGES,
    ),
    "average and maximum": ("resnet8", {"pool": "average+max"}, IMAGES),
    "hidden head": ("resnet8", {"hidden": (12,)}, IMAGES),
    "one channel": ("resnet8", {"in_channels": 1}, ImagePreprocess(crop=28, mean=(0.1,), std=(0.3,))),
    "series": ("resnet1d_ts", {}, SignalPreprocess()),
    "series of channels": (
        "resnet1d18",
        {**SMALL, "in_channels": 3},
        SignalPreprocess(channels=3, normalization="channel", mean=(1, 2, 3), std=(1, 2, 3), length=90),
    ),
    "text, k-max": ("vdcnn9", {"num_classes": 3, "hidden": (8,)}, TextPreprocess(tokens="bytes", length=200)),
    "text": ("textresnet", {"num_classes": 3}, TextPreprocess(tokens="bytes", length=200)),
    "clips": ("r3d_18", SMALL, VideoPreprocess(crop=32, resize=37, frames=4)),
    "factorised clips": ("r2plus1d_18", SMALL, VideoPreprocess(crop=32, resize=37, frames=4)),
}


def model_of(name: str, changes: dict[str, Any], preprocess: Preprocess, randomize: Callable[..., nn.Module]) -> Model:
    if isinstance(preprocess, TextPreprocess):
        changes = {**changes, "vocabulary": preprocess.vocabulary_size}
    network = randomize(restune.create_model(name, **changes))
    assert isinstance(network, ResNet)
    classes = tuple(f"class {number}" for number in range(network.spec.num_classes))
    info = BundleInfo(spec=network.spec, classes=classes, preprocess=preprocess)
    return Model(module=network, info=info, source=name)


def raw_batches(preprocess: Preprocess) -> list[torch.Tensor]:
    """A batch of one, and one of seven of another size, with padding where items may differ in length."""
    generator = torch.Generator().manual_seed(1)
    name = input_spec(preprocess).name
    if name in ("images", "clips"):
        frames = (4,) if name == "clips" else ()
        shapes = ((1, *frames, 45, 61, 3), (7, *frames, 30, 99, 3))
        return [torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for shape in shapes]
    if name == "series":
        batches = [
            torch.randn(count, preprocess.channels, length, generator=generator)
            for count, length in ((1, 77), (7, 130))
        ]
        batches[1][3, :, 60:] = torch.nan
        return batches
    tokens = [torch.randint(1, 200, (count, length), generator=generator) for count, length in ((1, 77), (7, 130))]
    tokens[1][3, 60:] = 0
    return tokens


def network_batches(preprocess: Preprocess) -> list[torch.Tensor]:
    """Batches of one and of seven, of images and clips resized and cropped already: equal pixels in every runtime."""
    inputs = input_spec(preprocess, cropped=True)
    if inputs.name != "pixels":
        return raw_batches(preprocess)
    generator = torch.Generator().manual_seed(1)
    shape = inputs.example.shape[1:]
    return [torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8) for count in (1, 7)]


def own_logits(model: Model, graph: Deployable, raw: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The network's logits, from its own code and not from the graph, on the same input."""
    with torch.inference_mode():
        x, mask = graph.raw(raw)
        logits = model.module(x, mask) if mask is not None else model.module(x)
    return logits.numpy()


NO_PROGRAM = ("series of channels", "text, k-max")
"""Families for which torch.export cannot describe all lengths: series cut to 90 values, and the 8 largest values."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_runtimes_agree_with_the_network(family: str, tmp_path: Path, randomize: Callable[..., nn.Module]) -> None:
    model = model_of(*FAMILIES[family], randomize)
    graph, inputs = deployable(model, cropped=True), input_spec(model.preprocess, cropped=True)
    path = tmp_path / "model.onnx"
    write_onnx(graph, inputs, graph.output_names, path, {})
    batches = network_batches(model.preprocess)
    expected = [own_logits(model, graph, raw) for raw in batches]
    results = {"onnxruntime": [run_onnx(path, raw) for raw in batches]}
    if "k-max" not in family:
        results["openvino"] = run_openvino(path, batches, graph.output_names)
    if family in NO_PROGRAM:
        with pytest.raises(UserError, match="inputs of any length"):
            write_program(graph, inputs, tmp_path / "model.pt2", {})
    else:
        program = write_program(graph, inputs, tmp_path / "model.pt2", {})
        results["torch"] = run_program(program, batches, graph.output_names)
    for found in results.values():
        for one, logits in zip(found, expected, strict=True):
            np.testing.assert_allclose(one["logits"], logits, atol=1e-4 * max(1.0, np.abs(logits).max()))
            np.testing.assert_allclose(one["probabilities"].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("family", ["option A", "series", "text, k-max"])
def test_the_graph_equals_the_network_in_torch(family: str, randomize: Callable[..., nn.Module]) -> None:
    model = model_of(*FAMILIES[family], randomize)
    graph = deployable(model)
    for raw in raw_batches(model.preprocess):
        with torch.inference_mode():
            outputs = dict(zip(graph.output_names, graph(raw), strict=True))
        logits = own_logits(model, graph, raw)
        np.testing.assert_allclose(outputs["logits"].numpy(), logits, atol=1e-4 * max(1.0, np.abs(logits).max()))


def test_series_are_normalised_and_cut_as_in_python(randomize: Callable[..., nn.Module]) -> None:
    for settings in ({}, {"length": 50}, {"normalization": "none"}):
        preprocess = SignalPreprocess(channels=2, **settings)  # type: ignore[arg-type]
        model = model_of("resnet1d_ts", {"in_channels": 2}, preprocess, randomize)
        graph = deployable(model)
        series = [torch.randn(2, length).cumsum(dim=1) + 5 for length in (80, 33, 51)]
        raw = torch.full((3, 2, 80), torch.nan)
        for row, one in zip(raw, series, strict=True):
            row[:, : one.shape[1]] = one
        samples = preprocess.stack([preprocess.apply(one.numpy()) for one in series])
        expected = model.logits(samples[:, None])[:, 0]
        with torch.inference_mode():
            outputs = dict(zip(graph.output_names, graph(raw), strict=True))
        torch.testing.assert_close(outputs["logits"], expected, atol=1e-4, rtol=1e-4)


def test_a_torch_program_takes_any_size(tmp_path: Path, randomize: Callable[..., nn.Module]) -> None:
    model = model_of(*FAMILIES["option A"], randomize)
    graph = deployable(model)
    path = write_program(graph, input_spec(model.preprocess), tmp_path / "model.pt2", {"name": "resnet8"})
    batches = raw_batches(model.preprocess)
    for found, raw in zip(run_program(path, batches, graph.output_names), batches, strict=True):
        np.testing.assert_allclose(found["logits"], own_logits(model, graph, raw), atol=1e-4, rtol=1e-4)
