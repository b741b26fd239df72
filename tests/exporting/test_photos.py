"""Two hundred real photos of odd sizes, modes and orientations: the same pixels and answers in every runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray

import restune
from restune.data.preprocess import ImagePreprocess
from restune.exporting.deployable import InputSpec, deployable, input_spec
from restune.exporting.onnx_graph import write_onnx
from restune.exporting.pixels import ResizedCrop
from restune.exporting.raw_examples import raw_of
from restune.exporting.torch_program import write_program

sys.path.insert(0, str(Path(__file__).parents[1]))
from odd_photos import odd_photos, share_and_most

pytestmark = [pytest.mark.slow, pytest.mark.data]
SETTINGS = (ImagePreprocess(crop=224, resize=256), ImagePreprocess(crop=96, resize=110, interpolation="bicubic"))


class Runtimes:
    """A graph in ONNX Runtime, OpenVINO and as a torch program."""

    def __init__(self, graph: torch.nn.Module, inputs: InputSpec, names: tuple[str, ...], folder: Path) -> None:
        onnx = folder / "model.onnx"
        write_onnx(graph, inputs, names, onnx, {})
        session = onnxruntime.InferenceSession(str(onnx))
        compiled = openvino.Core().compile_model(str(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        program = torch.export.load(write_program(graph, inputs, folder / "model.pt2", {})).module()
        self.run = {
            "onnxruntime": lambda raw: dict(zip(names, session.run(names, {inputs.name: raw.numpy()}), strict=True)),
            "openvino": lambda raw: {name: np.array(compiled(raw.numpy())[name]) for name in names},
            "torch": lambda raw: dict(zip(names, (one.numpy() for one in _as_tuple(program(raw))), strict=True)),
        }


def _as_tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("preprocess", SETTINGS, ids=["bilinear 224", "bicubic 96"])
def test_the_same_pixels(preprocess: ImagePreprocess, real_data: Path, tmp_path: Path) -> None:
    inputs = input_spec(preprocess)
    runtimes = Runtimes(ResizedCrop(preprocess).eval(), inputs, ("network_pixels",), tmp_path)
    photos = odd_photos(real_data / "hymenoptera", 200)
    raws = [raw_of(content, preprocess) for _, content in photos]
    expected = [preprocess.apply(content).numpy() for _, content in photos]
    for name, run in runtimes.run.items():
        with torch.inference_mode():
            pairs = [(run(raw)["network_pixels"][0], pixels) for raw, pixels in zip(raws, expected, strict=True)]
        equal, most = share_and_most(pairs)
        print(f"{name}: {equal:.3%} of pixels equal, at most {most:g} grey levels")
        assert equal >= 0.99, name
        assert most <= 2, name


def test_the_same_answers(real_data: Path, tmp_path: Path) -> None:
    model = restune.load("resnet20", weights=real_data / "weights" / "resnet20-12fca82f.th")
    graph, inputs = deployable(model), input_spec(model.preprocess)
    runtimes = Runtimes(graph, inputs, graph.output_names, tmp_path)
    photos = odd_photos(real_data / "hymenoptera", 200)
    raws = [raw_of(content, model.preprocess) for _, content in photos]
    samples = torch.stack([model.preprocess.apply(content) for _, content in photos])
    expected = model.probabilities(model.logits(samples[:, None])).numpy()
    best = np.sort(expected, axis=1)
    clear = best[:, -1] - best[:, -2] > 0.02
    assert clear.sum() > 150
    for name, run in runtimes.run.items():
        with torch.inference_mode():
            found: NDArray[np.float32] = np.concatenate([run(raw)["probabilities"] for raw in raws])
        differs = found.argmax(axis=1) != expected.argmax(axis=1)
        print(f"{name}: {differs.sum()} of 200 labels differ, largest difference {np.abs(found - expected).max():.2g}")
        assert not (differs & clear).any(), name
