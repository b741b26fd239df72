"""The metadata of a graph alone tells a reader how to make inputs and how to name answers, of every kind and task."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import onnx
import openvino
import torch

import restune
from restune.data.preprocess import Preprocess
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.data.targets import TargetScale
from restune.exporting.deployable import InputSpec, deployable, input_spec
from restune.exporting.metadata import metadata
from restune.exporting.onnx_graph import write_onnx
from restune.exporting.openvino_graph import write_openvino
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

CLASSES = ('a "b" & <c>', "中文 😀", "two\nlines\u0007")


def stored(name: str, preprocess: Preprocess, changes: dict[str, Any] | None = None, **info: Any) -> dict[str, Any]:
    """Return the metadata of an untrained network's graph: JSON parsed, names as they are."""
    network = restune.create_model(name, num_classes=3, **(changes or {})).eval()
    described = BundleInfo(spec=network.spec, classes=CLASSES, preprocess=preprocess, name=name, **info)
    model = Model(module=network, info=described, source="test")
    found = metadata(model, deployable(model), input_spec(preprocess))
    assert all(isinstance(value, str) for value in found.values())
    names = ("restune", "name", "task", "kind", "word_pattern", "precision", "licence")
    return {key: value if key in names else json.loads(value) for key, value in found.items()}


def test_images() -> None:
    found = stored("resnet8", restune.ImagePreprocess(crop=32))
    assert found["format"] == 1
    assert (found["task"], found["kind"], found["precision"]) == ("single-label", "image", "float32")
    assert tuple(found["classes"]) == CLASSES
    assert found["input"] == {"name": "images", "dtype": "uint8", "shape": ["N", "H", "W", 3]}
    assert [(one["name"], one["shape"]) for one in found["outputs"]] == [
        ("probabilities", ["N", 3]), ("embedding", ["N", 64]), ("class_map", ["N", 3, "..."]), ("logits", ["N", 3]),
    ]  # fmt: skip
    assert found["preprocess"]["crop"] == 32
    assert found["calibration"] is found["novelty"] is found["thresholds"] is found["target_scale"] is None
    assert found["word_pattern"] == ""


def test_other_kinds() -> None:
    series = stored("resnet1d_ts", SignalPreprocess(channels=2), {"in_channels": 2})
    assert series["input"] == {"name": "series", "dtype": "float32", "shape": ["N", 2, "L"]}
    clips = stored("r3d_18", VideoPreprocess(crop=32, frames=4), {"depths": (1, 1, 1, 1), "width": 8})
    assert clips["input"] == {"name": "clips", "dtype": "uint8", "shape": ["N", 4, "H", "W", 3]}
    words = TextPreprocess(tokens="words", vocabulary=("good", "bad", "<x>"))
    texts = stored("textresnet", words, {"vocabulary": words.vocabulary_size})
    assert texts["input"] == {"name": "tokens", "dtype": "int64", "shape": ["N", "L"]}
    assert texts["preprocess"]["vocabulary"] == ["good", "bad", "<x>"]
    assert texts["word_pattern"]


def test_other_tasks() -> None:
    preprocess = restune.ImagePreprocess(crop=32)
    assert stored("resnet8", preprocess, task="multi-label")["thresholds"] == [0.5, 0.5, 0.5]
    chosen = stored("resnet8", preprocess, task="multi-label", thresholds=(0.2, 0.4, 0.9))
    assert chosen["thresholds"] == [0.2, 0.4, 0.9]
    scale = TargetScale((1.0, 2.0, 3.0), (0.1, 0.2, 0.3))
    numbers = stored("resnet8", preprocess, task="regression", target_scale=scale)
    assert numbers["target_scale"] == {"mean": [1, 2, 3], "std": [0.1, 0.2, 0.3]}
    assert numbers["outputs"][0]["name"] == "values"


def test_any_name_survives_in_the_files(tmp_path: Path) -> None:
    text = json.dumps(list(CLASSES), ensure_ascii=False)
    inputs = InputSpec("x", torch.zeros(2, 3), {0: "N"})
    write_onnx(torch.nn.Linear(3, 2), inputs, ("y",), tmp_path / "model.onnx", {"classes": text})
    (one,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert (one.key, one.value) == ("classes", text)
    write_openvino(tmp_path / "model.onnx", tmp_path / "model.xml", {"classes": text})
    info = openvino.Core().read_model(str(tmp_path / "model.xml")).get_rt_info(["restune", "classes"])
    assert info.astype(str) == text
    node = ElementTree.parse(tmp_path / "model.xml").find("rt_info/restune/classes")
    assert node is not None
    assert node.get("value") == text
