"""embed: labelled data or whatever predict takes, as a file for other programs."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import restune
from restune.data.preprocess.text import TextPreprocess
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo


@pytest.fixture
def model(randomize):
    network = randomize(restune.create_model("resnet8", num_classes=2))
    info = BundleInfo(spec=network.spec, classes=("blue", "red"), preprocess=restune.ImagePreprocess(crop=32))
    return Model(module=network, info=info, source="test")


def by_hand(model, paths):
    """The network's own penultimate features, image by image."""
    samples = torch.stack([model.preprocess.apply(path.read_bytes()) for path in paths])
    with torch.inference_mode():
        return model.module.embed(model.preprocess.normalize(samples)).numpy()


def test_inputs_without_labels(model, photos, capsys):
    paths = sorted(photos.glob("*/*.jpg"))
    expected = by_hand(model, paths)
    (photos / "list.csv").write_text("file\n" + "".join(f"{path.relative_to(photos)}\n" for path in paths))
    for given in (paths, [str(path) for path in paths], str(photos / "*" / "*.jpg"), photos / "list.csv"):
        made = restune.embed(model, given)
        assert made.ids == tuple(map(str, paths))
        assert np.allclose(made.features, expected, atol=1e-5)
        assert made.labels.tolist() == [-1] * 6
        assert made.classes == ()
    assert "embedding 6 inputs without labels" in capsys.readouterr().err
    arrays = [np.array(Image.open(path)) for path in paths]
    assert np.allclose(restune.embed(model, arrays).features, expected, atol=1e-5)
    flat = restune.embed(model, photos / "red")
    assert flat.ids == tuple(str(path) for path in sorted((photos / "red").glob("*.jpg")))


def test_labelled_data_keeps_its_labels(model, photos):
    made = restune.embed(model, photos)
    assert made.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert made.classes == ("blue", "red")
    assert made.ids[0] == "blue/0.jpg"


def test_what_is_neither_data_nor_input_is_refused_as_data_is(model, photos, tmp_path):
    with pytest.raises(restune.UserError, match="there is no such data"):
        restune.embed(model, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(restune.UserError, match="no images here"):
        restune.embed(model, tmp_path / "empty")
    (photos / "t.csv").write_text("file,kind\nred/0.jpg,a\nblue/0.jpg,b\n")
    with pytest.raises(restune.UserError, match="there is no column 'colour'"):
        restune.embed(model, photos / "t.csv", data_options=restune.DataOptions(label_column="colour"))
    with pytest.raises(restune.UserError, match="no item of this data could be read"):
        restune.embed(model, [tmp_path / "gone.jpg", tmp_path / "gone too.jpg"])


def test_a_text_is_embedded(randomize):
    network = randomize(restune.create_model("textresnet", num_classes=2))
    info = BundleInfo(spec=network.spec, classes=("neg", "pos"), preprocess=TextPreprocess())
    reader = Model(module=network.eval(), info=info, source="test")
    one, two = restune.embed(reader, ["a film to remember", "one to forget"]).features
    assert np.allclose(reader.embed(["one to forget"]), two, atol=1e-5)
    assert not np.allclose(one, two)
    assert np.array_equal(restune.embed(reader, "a film to remember").features[0], one)


@pytest.mark.parametrize("labelled", [True, False])
def test_files_for_other_programs(model, photos, tmp_path, labelled):
    given = photos if labelled else sorted(photos.glob("*/*.jpg"))
    made = restune.embed(model, given, out=tmp_path / "f.npz")
    saved = np.load(tmp_path / "f.npz", allow_pickle=False)
    assert np.array_equal(saved["features"], made.features)
    assert saved["labels"].tolist() == made.labels.tolist()
    assert tuple(saved["classes"]) == made.classes
    restune.embed(model, given, out=tmp_path / "f.csv")
    restune.embed(model, given, out=tmp_path / "f.parquet")
    rows = list(csv.DictReader((tmp_path / "f.csv").open()))
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    names = [f"feature_{place}" for place in range(64)]
    assert list(rows[0]) == table.column_names == ["id", "label", *names]
    from_csv = np.array([[row[name] for name in names] for row in rows], np.float32)
    assert np.array_equal(from_csv, made.features), "written with all digits"
    assert np.array_equal(np.column_stack([table[name].to_numpy() for name in names]), made.features)
    labels = ["blue"] * 3 + ["red"] * 3 if labelled else [None] * 6
    assert table["label"].to_pylist() == labels
    assert [row["label"] or None for row in rows] == labels
    assert [row["id"] for row in rows] == table["id"].to_pylist() == list(made.ids)


def test_a_name_that_no_file_can_have_is_refused_before_anything_is_computed(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "features", lambda *_a, **_k: pytest.fail("computed first"))
    with pytest.raises(restune.UserError, match=r"saved as \.npz, \.csv, \.parquet"):
        restune.embed(model, photos, out=tmp_path / "f.txt")
