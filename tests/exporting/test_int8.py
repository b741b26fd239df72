"""restune export --int8: quantised graphs, scored on items that trained neither the network nor the calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import restune
from restune.exporting.quantize import paired_scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, write_noise: Callable[..., Path]) -> Path:
    return write_noise(tmp_path_factory.mktemp("photos"), bright=(110, 80), dark=(0, 80), grey=(60, 80))


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("run") / "run"
    return restune.train(photos, model="resnet8", image_size=16, epochs=6, batch_size=16, test=0.3, out=out)


def test_both_runtimes_keep_the_accuracy_on_held_out_items(
    trained: Any, photos: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    done = run(
        "export",
        trained.out,
        "--to",
        "onnx,openvino",
        "--int8",
        "--calibrate",
        photos,
        "--json",
        "--out",
        tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["targets"]
    test = trained.result["test"]
    for target in ("onnx", "openvino"):
        assert found[target]["accuracy_n"] == test["n"]
        assert found[target]["accuracy_before"] == pytest.approx(test["accuracy"], abs=0.02)
        assert found[target]["accuracy_after"] >= found[target]["accuracy_before"] - 0.01
    proto = onnx.load(tmp_path / "out" / "model.onnx")
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in proto.graph.node}
    assert {one.key for one in proto.metadata_props} >= {"classes", "preprocess"}
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    golden = np.load(tmp_path / "out" / "golden.npz")
    probabilities, novelty = session.run(["probabilities", "novelty"], {"images": golden["input_0"]})
    np.testing.assert_allclose(probabilities[0], golden["probabilities"][0], atol=1e-3)
    np.testing.assert_allclose(novelty[0], golden["novelty"][0], atol=1e-3)
    assert found["onnx"]["false_alarms"]["n"] == test["n"]
    assert abs(found["onnx"]["false_alarms"]["after"] - found["onnx"]["false_alarms"]["before"]) <= 0.1
    assert "held-out items unlike the training data" in done.stderr


def test_the_novelty_score_stays_in_float(trained: Any, photos: Path, tmp_path: Path) -> None:
    out = restune.export(trained.out, to="onnx", int8=True, calibrate=photos, out=tmp_path / "out")
    graph = onnx.load(out / "model.onnx").graph
    made_by = {name: node for node in graph.node for name in node.output}
    (product,) = [node for node in graph.node if node.op_type == "MatMul" and "appended/" in node.output[0]]
    assert not {"DequantizeLinear", "QuantizeLinear"} & {made_by[name].op_type for name in product.input}
    embedding, novelty = onnxruntime.InferenceSession(str(out / "model.onnx")).run(
        ["embedding", "novelty"], {"images": np.load(out / "golden.npz")["input_1"]}
    )
    known = restune.load(trained.out).novelty
    assert known is not None
    np.testing.assert_allclose(novelty, known.scores(torch.from_numpy(embedding)).numpy(), atol=1e-4)


def test_a_loss_of_accuracy_is_refused(
    trained: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(before: Any, after: Any, targets: Any) -> Any:
        return paired_scores(targets, (targets + (np.arange(len(targets)) % 10 == 0)) % 3, targets)

    monkeypatch.setattr("restune.exporting.export.paired_scores", worse)
    with pytest.raises(restune.UserError, match="int8 loses"):
        restune.export(trained.out, to="onnx", int8=True, calibrate=photos, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_int8_needs(trained: Any, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(restune.UserError, match="needs labelled items"):
        restune.export(trained.out, to="onnx", int8=True, out=tmp_path / "out")
    with pytest.raises(restune.UserError, match="holds float weights only"):
        restune.export(trained.out, to="timm", int8=True, calibrate=photos, out=tmp_path / "out")


def test_a_real_network_keeps_its_accuracy(real_data: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    weights, items = real_data / "weights" / "resnet20-12fca82f.th", real_data / "cifar10-jpeg" / "test.tar.gz"
    done = run(
        "export", "resnet20", "--weights", weights, "--to", "onnx,openvino", "--int8", "--calibrate", items, "--json",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout.splitlines()[-1])["targets"].values():
        assert found["accuracy_n"] == 9_000
        assert found["accuracy_after"] >= found["accuracy_before"] - 0.005
        assert found["labels_kept"] >= 0.97
