"""Files that are not whole exports of restune give one message, and nothing outside the folder is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import restune
from restune.exported import files
from restune.exported.protobuf import has_external_data, metadata_of


def with_metadata(export: Path, target: Path, **changes: str | None) -> Path:
    """Copy the ONNX file with some entries of its metadata changed; None removes one."""
    model = onnx.load(export / "model.onnx")
    kept = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    helper.set_model_props(model, {key: value for key, value in kept.items() if value is not None})
    onnx.save(model, target)
    return target


def foreign(_: Path, target: Path) -> None:
    nodes = [helper.make_node("Abs", ["x"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph(nodes, "abs", values[:1], values[1:])), target)


def cut(export: Path, target: Path) -> None:
    content = (export / "model.onnx").read_bytes()
    target.write_bytes(content[: len(content) // 2])


def external(export: Path, target: Path) -> None:
    onnx.save_model(
        onnx.load(export / "model.onnx"), target, save_as_external_data=True, location="weights", size_threshold=64
    )


def noise(_: Path, target: Path) -> None:
    target.write_bytes(bytes(range(1, 256)) * 50)


def changed(**changes: str | None) -> Callable[[Path, Path], object]:
    return lambda export, target: with_metadata(export, target, **changes)


PREPROCESS = {"kind": "image", "crop": 32, "resize": 37, "mean": [0.5] * 3, "std": [0.5] * 3}
CASES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "another graph": (foreign, "not an export of restune"),
    "cut": (cut, "not a whole ONNX file"),
    "no graph at all": (noise, "not a whole ONNX file"),
    "empty": (lambda _, target: target.write_bytes(b""), "not an export of restune"),
    "weights elsewhere": (external, "weights in another file"),
    "fewer classes": (
        changed(classes='["ant", "bee"]', calibration="null"),
        "lists 2 classes, the graph answers with 3",
    ),
    "a class twice": (changed(classes='["ant", "ant", "bee"]'), "listed twice"),
    "no classes": (changed(classes="7"), "not a list of names"),
    "no JSON": (changed(classes="[ant"), "metadata of this graph cannot be read"),
    "newer": (changed(format="99"), "newer version of restune"),
    "unknown task": (changed(task="ranking"), "does not know"),
    "another task": (changed(task="regression"), "does not have the output values"),
    "another kind": (
        changed(kind="signal", preprocess='{"kind": "signal", "mean": [], "std": []}'),
        "the metadata names series",
    ),
    "kinds that differ": (changed(kind="text"), "differ"),
    "a mean of text": (changed(preprocess=json.dumps({**PREPROCESS, "mean": ["a"] * 3})), "cannot be read"),
    "a huge crop": (changed(preprocess=json.dumps({**PREPROCESS, "crop": 10**9})), "1 to 4096 pixels"),
    "wrong calibration": (changed(calibration='{"temperature": -1}'), "cannot be read"),
    "wrong novelty": (changed(novelty='{"threshold": "high"}'), "cannot be read"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_message(case: str, export: Path, photos: Path, tmp_path: Path) -> None:
    make, message = CASES[case]
    target = tmp_path / "model.onnx"
    make(export, target)
    with pytest.raises(restune.UserError, match=message) as caught:
        restune.predict(target, photos / "0.jpg", engine="onnx")
    assert caught.value.where == str(target)
    assert caught.value.fix


def test_openvino_without_weights_or_cut(export: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(export / "model.xml", tmp_path)
    with pytest.raises(restune.UserError, match="weights of this graph are missing"):
        restune.predict(tmp_path, photos / "0.jpg")
    (tmp_path / "model.bin").write_bytes((export / "model.bin").read_bytes()[:100])
    with pytest.raises(restune.UserError, match="OpenVINO cannot open"):
        restune.predict(tmp_path, photos / "0.jpg")
    (tmp_path / "model.xml").write_text("<net>")
    with pytest.raises(restune.UserError, match=r"OpenVINO cannot open|not an export"):
        restune.predict(tmp_path / "model.xml", photos / "0.jpg")


def test_a_missing_runtime_is_named(export: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = files.find_spec
    monkeypatch.setattr(files, "find_spec", lambda name: None if name == "onnxruntime" else there(name))
    (prediction,) = restune.predict(export, photos / "0.jpg")  # the other runtime
    assert prediction.label
    with pytest.raises(restune.UserError, match="needs the package onnxruntime") as caught:
        restune.predict(export / "model.onnx", photos / "0.jpg")
    assert caught.value.fix == "pip install 'restune[export]'"


def test_the_command_line_exits_with_2(run, tmp_path: Path, photos: Path) -> None:  # type: ignore[no-untyped-def]
    foreign(tmp_path, tmp_path / "model.onnx")
    done = run("predict", tmp_path / "model.onnx", photos / "0.jpg")
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


def test_metadata_and_external_data_as_onnx_reads_them(export: Path, tmp_path: Path) -> None:
    content = (export / "model.onnx").read_bytes()
    expected = {entry.key: entry.value for entry in onnx.load(export / "model.onnx").metadata_props}
    assert metadata_of(content) == expected
    assert not has_external_data(content)
    inner = onnx.TensorProto(name="w", data_location=TensorProto.EXTERNAL)  # in the branch of a node
    branch = helper.make_graph([], "then", [], [], [inner])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=helper.make_graph([], "else", [], []))
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    assert has_external_data(model.SerializeToString())
