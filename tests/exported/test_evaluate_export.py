"""restune evaluate EXPORT: the scores of the model that it was written from, computed by the graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import restune
from restune.evaluation.evaluation import Evaluation

CLASSES = ("ant", "bee", "wasp")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of two shapes in the folders of three classes.

    Their shorter sides are those that the model resizes to: its pixels and the graph's are the same.
    """
    folder, random = tmp_path_factory.mktemp("labelled"), np.random.default_rng(5)
    for number in range(12):
        small = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        path = folder / CLASSES[number % 3] / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        small.resize((44, 37) if number % 2 else (37, 50), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_the_scores_are_the_models(saved: Path, export: Path, labelled: Path, engine: str) -> None:
    expected, found = restune.evaluate(saved, labelled), restune.evaluate(export, labelled, engine=engine, batch_size=5)
    assert isinstance(expected, Evaluation)
    assert isinstance(found, Evaluation)
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4 * np.abs(expected.logits).max())
    ours, theirs = found.to_dict(), expected.to_dict()
    assert set(ours) == set(theirs)
    assert {name for name in ours if ours[name] is None} == {name for name in theirs if theirs[name] is None}
    assert ours["nll"] == pytest.approx(theirs["nll"], abs=1e-3)
    assert found.novelty is not None
    assert expected.novelty is not None
    np.testing.assert_allclose(found.novelty.scores, expected.novelty.scores, atol=1e-3)
    assert ours["novelty"] == theirs["novelty"]


def test_the_command_line_compares_a_model_with_its_export(
    run: Callable[..., Any], saved: Path, export: Path, labelled: Path
) -> None:
    done = run("evaluate", export, labelled, "--against", saved, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["n"] == 12
    assert found["against"]["accuracy"]["difference"] == 0
    other = run("evaluate", saved, labelled, "--against", export, "--json")
    assert json.loads(other.stdout.splitlines()[-1])["accuracy"] == found["accuracy"]
    assert "accuracy" in run("evaluate", export / "model.onnx", labelled, "--mistakes", 2).stdout


def test_unreadable_items_and_classes_as_with_a_model(
    run: Callable[..., Any], export: Path, labelled: Path, tmp_path: Path
) -> None:
    for path in labelled.rglob("*.png"):
        target = tmp_path / "data" / path.parent.name.replace("wasp", "fly") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    done = run("evaluate", export, tmp_path / "data")
    assert done.returncode == 2
    assert "'fly' that the model does not know" in done.stderr
    (tmp_path / "data" / "fly").rename(tmp_path / "data" / "wasp")
    (tmp_path / "data" / "ant" / "00.png").write_bytes(b"")
    assert "the file is empty" in run("evaluate", export, tmp_path / "data").stderr
    done = run("evaluate", export, tmp_path / "data", "--on-corrupt", "skip", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["n"] == 11


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"views": "flip"}, "--views"),
        ({"unknown": "photos"}, "--unknown"),
        ({"weights": "resnet18:v1"}, "--weights"),
        ({"image_size": 64}, "--image-size"),
        ({"precision": "bf16"}, "--precision"),
    ],
)
def test_what_needs_the_model_is_refused(export: Path, labelled: Path, options: dict[str, Any], where: str) -> None:
    with pytest.raises(restune.UserError, match="needs the model itself") as caught:
        restune.evaluate(export, labelled, **options)
    assert caught.value.where == where


def test_an_export_without_logits_is_refused(export: Path, labelled: Path, tmp_path: Path) -> None:
    model = onnx.load(export / "model.onnx")
    (logits,) = [output for output in model.graph.output if output.name == "logits"]
    model.graph.output.remove(logits)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(restune.UserError, match="does not answer with logits"):
        restune.evaluate(tmp_path, labelled)
