"""restune predict EXPORT: the model's own answers, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import restune
from restune.exported.files import is_export
from restune.inference.prediction import Prediction

ENGINES = ("onnx", "openvino")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; the last line says what of torch was imported."""
    code = (
        "import sys; from restune.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: code = done.code\n"
        "print([name for name in ('torch', 'scipy', 'pyarrow', 'onnx') if name in sys.modules], code or 0)"
    )
    words = [sys.executable, "-c", code, "predict", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def assert_same(found: Prediction, expected: Prediction, tolerance: float = 1e-4) -> None:
    """The same answer up to rounding; labels by name."""
    assert found.input == expected.input
    assert found.error == expected.error
    assert (found.label, found.abstained, found.novel) == (expected.label, expected.abstained, expected.novel)
    assert found.prediction_set == expected.prediction_set
    assert [name for name, _ in found.top] == [name for name, _ in expected.top]
    for (_, one), (_, other) in zip(found.top, expected.top, strict=True):
        assert one == pytest.approx(other, abs=tolerance)
    if expected.novelty is not None:
        assert found.novelty == pytest.approx(expected.novelty, abs=10 * tolerance)


def odd_images(folder: Path) -> list[Path]:
    """Images of every mode, orientation and size that decoding treats in a way of its own."""
    random = np.random.default_rng(1)

    def smooth(width: int, height: int, channels: int) -> Image.Image:
        values = random.integers(0, 256, (6, 8, channels), dtype=np.uint8)
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        return Image.fromarray(values.squeeze()).convert(mode).resize((width, height), Image.Resampling.BICUBIC)

    colours = smooth(61, 47, 3)
    pictures = {
        "grey.png": smooth(40, 33, 1),
        "clear.png": smooth(50, 64, 4),
        "palette.png": colours.quantize(16),
        "palette.gif": colours.quantize(16),
        "ink.jpg": colours.convert("CMYK"),
        "one.png": smooth(1, 1, 3),
        "strip.png": smooth(900, 3, 3),
        "large.png": smooth(1709, 1301, 3),
        "lossy.webp": colours,
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    Image.fromarray(random.integers(0, 65536, (30, 44), dtype=np.uint16)).save(folder / "deep.png")
    for orientation in (3, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        colours.save(folder / f"turned-{orientation}.jpg", exif=exif)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("engine", ENGINES)
def test_odd_images_have_the_models_answers(saved: Path, export: Path, tmp_path: Path, engine: str) -> None:
    paths = odd_images(tmp_path)
    assert len(paths) == 12
    options = {"threshold": 0.5, "coverage": 0.9}
    expected = restune.predict(saved, paths, **options)
    found = restune.predict(export, paths, engine=engine, batch_size=3, **options)
    assert len(found) == len(expected) == 12
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    assert len({prediction.top[0][0] for prediction in expected}) > 1, "the answers differ between images"


def test_nothing_of_torch_is_imported(export: Path, photos: Path) -> None:
    done = command(export, photos / "0.jpg", "--json")
    *_, answer, imported = done.stdout.splitlines()
    assert imported == "[] 0", done.stderr
    (prediction,) = json.loads(answer)["predictions"]
    (expected,) = restune.predict(export, photos / "0.jpg")
    assert prediction == expected.to_dict()
    assert prediction["novelty"] >= 0
    assert "ONNX Runtime" in done.stderr


def test_folders_patterns_and_unreadable_inputs_as_with_the_model(saved: Path, export: Path, photos: Path) -> None:
    (photos / "empty").mkdir(exist_ok=True)
    inputs = [photos, f"{photos}/*.jpg", f"{photos}/*.gif", photos / "missing.jpg", photos / "empty", ""]
    (photos / "empty" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    expected, found = restune.predict(saved, inputs), restune.predict(export, inputs)
    assert [one.input for one in found] == [other.input for other in expected]
    assert [one.error for one in found] == [other.error for other in expected]
    assert sum(one.error is not None for one in found) >= 4
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_the_table_is_the_models(run, saved: Path, export: Path, photos: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = [photos / "0.jpg", photos / "1.jpg", "--csv", "--topk", "2", "--coverage", "0.9"]
    from_model, from_export = run("predict", saved, *arguments), run("predict", export, *arguments)
    assert from_model.returncode == from_export.returncode == 0
    ours, theirs = ([line.split(",") for line in done.stdout.splitlines()] for done in (from_export, from_model))
    assert ours[0] == theirs[0]
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert [cell for cell in one if not cell.startswith("0.")] == [c for c in other if not c.startswith("0.")]


def test_a_file_of_predictions(export: Path, photos: Path, tmp_path: Path) -> None:
    from restune.verbs.predict import predict_to_file

    images = sorted(photos.glob("*.jpg"))
    written = predict_to_file(export, images, tmp_path / "out.csv")
    assert written is not None
    assert (written.inputs, written.failed) == (len(images), 0)
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == [one.label for one in restune.predict(export, images)]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"views": "five-crop"}, "--views"),
        ({"explain": "out"}, "--explain"),
        ({"image_size": 64}, "--image-size"),
        ({"weights": "resnet18:v1"}, "--weights"),
        ({"device": "cuda"}, "--device"),
    ],
)
def test_what_needs_the_model_is_refused(export: Path, photos: Path, options: dict[str, object], where: str) -> None:
    with pytest.raises(restune.UserError, match="needs the model itself") as caught:
        restune.predict(export, photos / "0.jpg", **options)
    assert caught.value.where == where


def test_which_folders_and_files_are_exports(export: Path, saved: Path, tmp_path: Path) -> None:
    assert is_export(export)
    assert is_export(export / "model.onnx")
    assert is_export(str(export / "model.xml"))
    assert not is_export(saved.parent)
    assert not is_export(saved)
    assert not is_export("resnet18")
    for name in ("run", "timm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(b"")
    (tmp_path / "run" / "model.safetensors").write_bytes(saved.read_bytes())
    (tmp_path / "timm" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert not is_export(tmp_path / "run")
    assert is_export(tmp_path / "timm")


def test_the_engine_of_the_file_that_is_there(export: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((export / "model.onnx").read_bytes())
    with pytest.raises(restune.UserError, match="no graph for OpenVINO"):
        restune.predict(tmp_path, photos / "0.jpg", engine="openvino")
    (prediction,) = restune.predict(tmp_path, photos / "0.jpg")
    assert prediction.label
