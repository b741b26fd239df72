"""Graphs score novelty as `Model.predict` does, say so in their metadata and golden files, or are not written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

import restune
from restune.exporting import export as exporting
from restune.exporting.deployable import NoveltyScore
from restune.inference.model import Model
from restune.verbs.export import ExportResult, export_all
from restune.weights.bundle import BundleInfo
from restune.weights.novelty import Novelty, normalized

K = 3


@pytest.fixture(scope="module")
def model() -> Model:
    """An untrained network that knows 700 images of bright and of dark noise; none of 40 others is novel."""
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=3).eval()
    preprocess = restune.ImagePreprocess(crop=16)
    info = BundleInfo(spec=network.spec, classes=("ant", "bee", "wasp"), preprocess=preprocess, name="resnet8")
    plain, random = Model(module=network, info=info, source="test"), np.random.default_rng(0)
    known, held_out = (
        torch.from_numpy(plain.embed([noise(random, low) for low in (0, 130) for _ in range(count)]))
        for count in (350, 20)
    )
    unset = Novelty(reference=normalized(known).half(), k=K, threshold=2.0, promised=0.05, false_alarms=3, n=60)
    novelty = replace(unset, threshold=1.5 * unset.scores(held_out).max().item())
    return replace(plain, info=replace(info, novelty=novelty))


def noise(random: np.random.Generator, low: int) -> NDArray[np.uint8]:
    return random.integers(low, low + 120, (16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def result(model: Model, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export_all(model, to=["onnx", "openvino"], out=tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def exported(result: ExportResult) -> Path:
    return result.out


@pytest.fixture(scope="module")
def program(model: Model, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export_all(model, to="torch", out=tmp_path_factory.mktemp("program"))


def scores_in(runtime: str, folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the novelty scores that an export computes in a runtime."""
    if runtime == "onnx":
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        return np.array(session.run(["novelty"], {"images": images})[0])
    if runtime == "openvino":
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        return np.array(openvino.Core().compile_model(str(folder / "model.xml"), "CPU", settings)(images)["novelty"])
    with torch.inference_mode():
        return torch.export.load(folder / "model.pt2").module()(torch.from_numpy(images))[-1].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "torch"])
def test_scores_and_flags_are_predicts(
    runtime: str, model: Model, exported: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("program").out if runtime == "torch" else exported
    random = np.random.default_rng(1)
    like = np.stack([noise(random, 0) for _ in range(20)])
    unlike = np.stack([np.full((16, 16, 3), (shade, 0, 255), np.uint8) for shade in range(0, 240, 20)])
    for images in (like, unlike):
        predicted = model.predict(list(images))
        found = scores_in(runtime, folder, images)
        np.testing.assert_allclose(found, [one.novelty for one in predicted], atol=1e-5)
        assert model.novelty is not None
        assert [score > model.novelty.threshold for score in found.tolist()] == [one.novel for one in predicted]
        assert sum(bool(one.novel) for one in predicted) == (12 if images is unlike else 0)


def test_the_score_is_the_distance_that_scikit_learn_finds() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 16)).astype(np.float32)
    reference = torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).half()
    score = NoveltyScore(Novelty(reference=reference, k=K, threshold=1, promised=0.05, false_alarms=0, n=1))
    asked = random.normal(size=(40, 16)).astype(np.float32)
    distances, _ = (
        NearestNeighbors(n_neighbors=K, algorithm="brute")
        .fit(reference.float().numpy())
        .kneighbors(asked / np.linalg.norm(asked, axis=1, keepdims=True))
    )
    np.testing.assert_allclose(score(torch.from_numpy(asked)).numpy(), distances[:, K - 1], atol=1e-3)
    assert score(torch.zeros(1, 16)).item() == pytest.approx(2**0.5)  # of no direction: as far as a right angle


def test_the_reference_keeps_its_sixteen_bits(exported: Path) -> None:
    tensors = onnx.load(exported / "model.onnx").graph.initializer
    assert [one.data_type for one in tensors if list(one.dims) == [700, 64]] == [onnx.TensorProto.FLOAT16]
    without = 4 * 78_000 + 700 * 64 * 2  # the network's parameters, and the reference
    assert (exported / "model.bin").stat().st_size < 1.2 * without


def facts(model: Model) -> dict[str, Any]:
    threshold = model.info.novelty.threshold if model.info.novelty else None
    return {"k": K, "threshold": threshold, "promised": 0.05, "false_alarms": 3, "n": 60}


@pytest.mark.slow
def test_a_torch_program_holds_the_threshold_and_agrees(model: Model, program: ExportResult) -> None:
    extra = {"metadata.json": ""}
    torch.export.load(program.out / "model.pt2", extra_files=extra)
    assert json.loads(json.loads(extra["metadata.json"])["novelty"]) == facts(model)
    agreement = program.to_dict()["targets"]["torch"]["novelty"]
    assert (agreement["n"], agreement["agreement"]) == (8, 1)
    assert agreement["max_difference"] < 1e-4


def test_metadata_and_golden_files_hold_threshold_and_scores(model: Model, exported: Path) -> None:
    stored = onnxruntime.InferenceSession(str(exported / "model.onnx")).get_modelmeta().custom_metadata_map
    info = openvino.Core().read_model(str(exported / "model.xml")).get_rt_info(["restune", "novelty"])
    for text in (stored["novelty"], info.astype(str)):
        assert json.loads(text) == facts(model)
    assert json.loads(stored["outputs"])[-1] == {"name": "novelty", "dtype": "float32", "shape": ["N"]}
    golden, listed = np.load(exported / "golden.npz"), json.loads((exported / "golden.json").read_text())
    assert listed["novelty_threshold"] == json.loads(stored["novelty"])["threshold"]
    for number, example in enumerate(listed["examples"]):
        (predicted,) = model.predict(golden[example["input"]][0])
        assert golden["novelty"][number] == pytest.approx(predicted.novelty, abs=1e-5)
        assert example["novelty"] == pytest.approx(predicted.novelty, abs=1e-5)


@pytest.mark.slow
def test_an_export_with_other_scores_is_not_written(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = exporting.run_program

    def wrong(*arguments: Any) -> list[dict[str, Any]]:
        return [{**one, "novelty": one["novelty"] + 0.1} for one in original(*arguments)]

    monkeypatch.setattr(exporting, "run_program", wrong)
    with pytest.raises(restune.UserError, match="novelty scores differ"):
        restune.export(model, to="torch", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_result_says_how_well_scores_agree(result: ExportResult) -> None:
    for target in result.to_dict()["targets"].values():
        assert target["novelty"]["n"] == 8
        assert target["novelty"]["agreement"] == 1
        assert target["novelty"]["max_difference"] < 1e-4
