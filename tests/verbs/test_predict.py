"""predict, from Python: every kind of input, in order, broken ones in their place."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import restune
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.inference.model import Model
from restune.verbs.predict import stream_predictions
from restune.weights.bundle import BundleInfo, write_bundle


@pytest.fixture
def model(tmp_path, randomize):
    network = randomize(restune.create_model("resnet8", num_classes=4))
    info = BundleInfo(spec=network.spec, classes=tuple("abcd"), preprocess=restune.ImagePreprocess(crop=32))
    write_bundle(tmp_path / "model.safetensors", network.state_dict(), info)
    return restune.load(tmp_path / "model.safetensors")


@pytest.fixture
def by_hand(model):
    def probabilities(image):
        x = torch.from_numpy(np.array(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)))
        x = x.permute(2, 0, 1).unsqueeze(0) / 255
        mean, std = torch.tensor(model.preprocess.mean), torch.tensor(model.preprocess.std)
        x = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        with torch.inference_mode():
            return model.module(x).softmax(1)[0]

    return probabilities


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def assert_same(found, expected):
    """The same answers up to float32's rounding, which differs with an item's place in a batch and the batch's size."""
    for one, other in zip(found, expected, strict=True):
        assert [name for name, _ in one.top] == [name for name, _ in other.top]
        assert [share for _, share in one.top] == pytest.approx([share for _, share in other.top], abs=1e-5)


def test_every_kind_of_input_gives_the_same(model, by_hand, image, tmp_path):
    path = tmp_path / "image.png"
    image.save(path)
    array = np.array(image)
    expected = by_hand(image)
    predictions = model.predict([path, str(path), path.read_bytes(), array, image, torch.from_numpy(array)], topk=2)
    assert len(predictions) == 6
    for prediction in predictions:
        assert prediction.label == model.classes[int(expected.argmax())]
        assert prediction.probability == pytest.approx(expected.max().item(), abs=1e-5)
        assert [label for label, _ in prediction.top] == [model.classes[i] for i in expected.topk(2).indices]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "HSV", "La", "RGBa", "YCbCr"])
def test_pil_images_of_any_mode(model, image, mode):
    steps = {"I;16": ("L",), "La": ("LA",), "RGBa": ("RGBA",)}.get(mode, ())
    converted = image
    for step in (*steps, mode):
        converted = converted.convert(step)
    assert model.predict(converted)[0].label in "abcd"


def test_a_pil_image_of_floats_is_what_an_array_of_floats_is(model, image):
    floats = np.array(image.convert("L"), dtype=np.float32) / 255
    assert model.predict(Image.fromarray(floats))[0].top == model.predict(floats)[0].top
    with pytest.raises(restune.UserError, match="floats run from 0 to 1"):
        model.predict(Image.fromarray(255 * floats))


def test_a_pil_image_is_turned_upright_as_its_file_is(model, image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    from_file, from_pil = model.predict([tmp_path / "turned.png", Image.open(tmp_path / "turned.png")])
    assert_same([from_file], [from_pil])


def test_a_loaded_model_takes_other_preprocessing_but_no_weights(model, image):
    assert restune.predict(model, image, image_size=16)[0].top != restune.predict(model, image)[0].top
    with pytest.raises(restune.UserError, match="has its weights"):
        restune.predict(model, image, weights="resnet8.pth")
    with pytest.raises(restune.UserError, match="different class names"):
        model.with_classes(["a", "a", "b", "c"])


def test_one_input_is_not_a_list(model, image, tmp_path):
    image.save(tmp_path / "image.png")
    for one in (image, np.array(image), tmp_path / "image.png", str(tmp_path / "image.png")):
        assert len(model.predict(one)) == 1
    assert len(model.predict(np.stack([np.array(image)] * 3))) == 3
    assert model.predict([]) == []


def test_a_broken_input_raises_in_python_and_is_reported_by_the_verb(model, image, tmp_path):
    image.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n")
    image.save(tmp_path / "c.png")
    with pytest.raises(restune.UserError, match="cannot be read"):
        model.predict([tmp_path / "a.png", tmp_path / "b.png"])
    found = restune.predict(model, [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "gone.png", tmp_path / "c.png"])
    assert [prediction.error is None for prediction in found] == [True, False, False, True]
    assert found[2].error == f"there is no such file: {tmp_path / 'gone.png'}"
    assert_same([found[0]], [found[3]])
    with pytest.raises(restune.UserError, match="cannot be a int"):
        model.predict([3])


def test_errors_are_reported_in_place_where_that_is_asked_for(model, image, tmp_path):
    image.save(tmp_path / "a.png")
    good, missing = model.predict([tmp_path / "a.png", tmp_path / "gone.png"], errors="report")
    assert good.top == model.predict(tmp_path / "a.png")[0].top
    assert (missing.label, missing.error) == (None, f"there is no such file: {tmp_path / 'gone.png'}")
    with pytest.raises(restune.UserError, match="unknown value 'ignore'"):
        model.predict([tmp_path / "a.png"], errors="ignore")


def test_a_stream_takes_inputs_as_it_goes(model, image, tmp_path):
    """From a list without an end; memory holds a few batches of it."""
    image.save(tmp_path / "a.png")
    taken = itertools.count()

    def inputs():
        while True:
            next(taken)
            yield tmp_path / "a.png"

    stream = stream_predictions(model, inputs(), batch_size=4, workers=2)
    assert stream.classes == model.classes
    first = list(itertools.islice(stream.predictions, 12))
    assert len(first) == 12
    assert_same(first, [first[0]] * 12)
    assert next(taken) <= 4 * (3 + 2 + 2)
    stream.predictions.close()


def test_a_table_of_paths_is_its_rows(model, photos, capsys):
    """With or without labels, header and class folders; files are relative to the table, or to the root named."""
    names = ["red/0.jpg", "blue/1.jpg", "red/gone.jpg", "red/0.jpg"]
    forms = {
        "named.csv": "number,file,label\n" + "".join(f"{n},{name},x\n" for n, name in enumerate(names)),
        "bare.csv": "\n".join(names) + "\n",
        "tabs.TSV": "id\twhere it is\n" + "".join(f"{n}\t{name}\n" for n, name in enumerate(names)),
    }
    expected = restune.predict(model, [photos / name for name in names])
    assert [prediction.error is None for prediction in expected] == [True, True, False, True]
    for name, content in forms.items():
        (photos / name).write_text(content)
        assert restune.predict(model, photos / name) == expected, name
    table = pyarrow.table({"path": [*names, None], "n": [1, 2, 3, 4, 5]})
    pyarrow.parquet.write_table(table, photos / "rows.parquet")
    *found, last = restune.predict(model, str(photos / "rows.parquet"))
    assert found == expected
    assert (last.input, last.error) == (f"{photos / 'rows.parquet'} row 5", "this row has no path")
    (photos.parent / "elsewhere.csv").write_text("a,b\nred/0.jpg,blue/1.jpg\n")
    options = restune.DataOptions(root=photos, path_column="b")
    (one,) = restune.predict(model, photos.parent / "elsewhere.csv", data_options=options)
    assert (one.input, one.label) == (expected[1].input, expected[1].label)


def test_a_table_that_cannot_be_read_is_reported_in_its_place(model, image, tmp_path):
    image.save(tmp_path / "a.png")
    for name, content in (("empty.csv", b""), ("bad.parquet", b"PAR1"), ("none.csv", b"a,b\n1,2\n")):
        (tmp_path / name).write_bytes(content)
    found = restune.predict(model, [tmp_path / "empty.csv", tmp_path / "bad.parquet", tmp_path / "none.csv",
                                    tmp_path / "a.png"])  # fmt: skip
    assert [prediction.error is None for prediction in found] == [False, False, False, True]
    assert "this table is empty" in found[0].error
    assert "--path-column" in found[2].error


def test_folders_and_patterns(model, photos):
    assert [p.input for p in restune.predict(model, photos)] == [str(p) for p in sorted(photos.glob("*/*.jpg"))]
    assert len(restune.predict(model, [str(photos / "red" / "*.jpg"), photos / "blue" / "0.jpg"])) == 4
    (photos / "green").mkdir()
    found = restune.predict(model, [str(photos / "*.png"), photos / "green", "", photos / "red" / "0.jpg"])
    assert [prediction.error for prediction in found] == [
        "no file matches this pattern",
        "there are no images in this folder",
        "an empty name",
        None,
    ]


def test_a_file_whose_name_looks_like_a_pattern(model, image, tmp_path):
    image.save(tmp_path / "a[1].png")
    assert restune.predict(model, tmp_path / "a[1].png")[0].error is None


def test_embed_is_what_the_head_reads(model, image):
    features = model.embed([image, image])
    assert features.shape == (2, 64)
    assert features.dtype == np.float32
    logits = torch.from_numpy(features) @ model.module.fc.weight.T + model.module.fc.bias
    assert logits.softmax(1).max(1).values[0].item() == pytest.approx(model.predict(image)[0].probability, abs=1e-5)


def test_grey_and_many_channel_models(tmp_path):
    for channels, array in ((1, np.zeros((32, 32), np.uint8)), (5, np.zeros((32, 32, 5), np.uint8))):
        network = restune.create_model("resnet8", in_channels=channels)
        preprocess = restune.ImagePreprocess(crop=32).with_channels(channels)
        info = BundleInfo(spec=network.spec, classes=tuple("0123456789"), preprocess=preprocess)
        write_bundle(tmp_path / "model.safetensors", network.state_dict(), info)
        assert len(restune.load(tmp_path / "model.safetensors").predict(array)) == 1


@pytest.fixture
def reader(randomize):
    network = randomize(restune.create_model("textresnet", num_classes=2))
    info = BundleInfo(spec=network.spec, classes=("neg", "pos"), preprocess=TextPreprocess())
    return Model(module=network.eval(), info=info, source="test")


def test_texts_in_arrays_and_series(reader):
    texts = ["a", "他/她说得对"]
    expected = [prediction.top for prediction in reader.predict(texts)]
    for given in (np.array(texts), np.array(texts, object), tuple(texts)):
        assert [prediction.top for prediction in reader.predict(given)] == expected
        assert [prediction.top for prediction in restune.predict(reader, given)] == expected
    for wrong in (np.zeros(3), [np.zeros(3)], [3], torch.zeros(3), Image.new("L", (4, 4))):
        with pytest.raises(restune.UserError, match=r"cannot be a [\s\S]*a str, which is a text"):
            reader.predict(wrong)


def test_paths_in_arrays(model, image, tmp_path):
    image.save(tmp_path / "image.png")
    paths = np.array([str(tmp_path / "image.png")] * 2)
    assert len(model.predict(paths)) == len(restune.predict(model, paths)) == 2
    assert len(restune.predict(model, torch.from_numpy(np.array(image)))) == 1


def test_a_text_is_neither_a_pattern_nor_a_home(reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.txt").write_text("one")
    (tmp_path / "texts").mkdir()
    texts = [
        "",
        "**/*",
        "*",
        "~nobody hi",
        "~nobody",
        "[x",
        "and/or",
        "他/她",
        "a\0b",
        "x" * 5000,
        "see one.txt or go.",
    ]
    found = restune.predict(reader, texts)
    assert [prediction.input for prediction in found] == texts
    assert [prediction.error for prediction in found] == [None] * len(found)
    names = ["questoins.csv", "texts/gone", "gone.TXT", "~nobody/x.txt", Path("gone"), "\ud83d", "texts"]
    found = restune.predict(reader, names)
    assert [prediction.error is None for prediction in found] == [False] * len(names)
    assert [prediction.error for prediction in found][:5] == [f"there is no such file: {name}" for name in names[:5]]


def test_files_of_many_texts_are_their_rows(reader, tmp_path, capsys):
    lines = "".join(f"{label} text {number}\n" for number in range(20) for label in ("pos", "neg"))
    (tmp_path / "lines.all").write_text(lines)
    found = restune.predict(reader, str(tmp_path / "lines.all"))
    assert_same(found[:2], reader.predict(["text 0", "text 0"]))
    assert len(found) == 40
    assert found[2].input == f"{tmp_path / 'lines.all'} 03"
    (tmp_path / "poem.txt").write_text("I go\nI come\nAnd see\nAnd leave\n" * 10)
    assert len(restune.predict(reader, tmp_path / "poem.txt")) == 1
    assert "poem.txt is one text of many lines" in capsys.readouterr().err
    (tmp_path / "bad.csv").write_text("text,text\na,b\n")
    (bad,) = restune.predict(reader, [tmp_path / "bad.csv"])
    assert "the column 'text' occurs twice" in bad.error


def test_tables_of_texts_need_no_labels(reader, tmp_path):
    texts = ["a good film", "", 'bad, very "bad"', "two\nlines"]
    expected = [prediction.top for prediction in reader.predict(texts)]
    rows = "".join('{},"{}",{}\n'.format(row, text.replace('"', '""'), row % 2) for row, text in enumerate(texts))
    (tmp_path / "labelled.csv").write_text("id,review,label\n" + rows)
    (tmp_path / "plain.csv").write_text("id,review,kind\n" + rows)
    for name in ("plain.csv", "labelled.csv"):
        found = restune.predict(reader, tmp_path / name)
        assert [prediction.top for prediction in found] == expected
        assert [prediction.input for prediction in found] == [f"{tmp_path / name} {row}" for row in range(2, 6)]


@pytest.fixture
def sensor(randomize):
    """A network of series of one channel or of two, as asked for."""

    def made(channels):
        network = randomize(restune.create_model("resnet1d_ts", num_classes=2, in_channels=channels))
        info = BundleInfo(spec=network.spec, classes=("off", "on"), preprocess=SignalPreprocess(channels=channels))
        return Model(module=network.eval(), info=info, source="test")

    return made


SERIES = np.random.default_rng(2).normal(size=(6, 2, 30)).round(3)


def same_tops(model, table, series):
    found = restune.predict(model, table)
    assert [prediction.error for prediction in found] == [None] * len(series)
    expected = model.predict([one.astype(np.float32) for one in series])
    assert [prediction.top for prediction in found] == [prediction.top for prediction in expected]


@pytest.mark.parametrize("columns", ["", "label", "off,on"])
def test_tables_of_a_series_per_row_need_no_labels(sensor, tmp_path, columns):
    """Nor are labels read as values, be they in one column or in one per class."""
    series = SERIES[:, 0].copy()
    if columns != "off,on":
        series[:, :2] = np.stack([np.arange(6) % 2, 1 - np.arange(6) % 2], axis=1)  # as one column per class is
    labels = {"": [], "label": ["on"], "off,on": ["0", "1"]}[columns]
    head = [f"t{step}" for step in range(30)] + ([columns] if columns else [])
    rows = [",".join([*map(str, one), *labels]) for one in series]
    (tmp_path / "table.csv").write_text("\n".join([",".join(head), *rows]) + "\n")
    same_tops(sensor(1), tmp_path / "table.csv", series)


@pytest.mark.parametrize("label", ["", ",label"])
def test_tables_of_a_row_per_time_step_need_no_labels(sensor, tmp_path, label):
    rows = [
        f"r{number},{step},{x},{y}" + (",on" if label else "")
        for number, one in enumerate(SERIES)
        for step, (x, y) in enumerate(one.T)
    ]
    (tmp_path / "table.csv").write_text("\n".join([f"recording,step,x,y{label}", *rows]) + "\n")
    same_tops(sensor(2), tmp_path / "table.csv", SERIES)
    found = restune.predict(sensor(2), tmp_path / "table.csv")
    assert [prediction.input for prediction in found][:2] == [f"{tmp_path / 'table.csv'} r{row}" for row in range(2)]
