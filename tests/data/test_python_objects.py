"""Data straight from Python: frames, pairs, arrays, data sets of PyTorch and of Hugging Face."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset


def labels(dataset):
    return [dataset.classes[item.target] for item in dataset.items]


def pictures(count=6):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (8, 9, 3), dtype=np.uint8) for _ in range(count)]


class Frame:
    """What pandas' frames have, without Arrow's protocol."""

    def __init__(self, columns):
        self._columns, self.columns, self.dtypes = columns, list(columns), None

    def __dataframe__(self):
        raise NotImplementedError

    def __getitem__(self, name):
        return self._columns[name]


@pytest.mark.parametrize("make", [Frame, pa.table])
def test_a_frame_of_paths(photos, monkeypatch, make):
    monkeypatch.chdir(photos)
    names = ["red/0.jpg", "red/1.jpg", "blue/0.jpg"]
    dataset = open_dataset(make({"file": names, "label": [3, 3, 12], "note": [None, "x", "y"]}))
    assert dataset.classes == ("3", "12")
    assert [item.id for item in dataset.items] == names
    assert all(item.location.read() for item in dataset.items)
    dataset = open_dataset(make({"name": names, "label": ["a", "b", "b"]}), DataOptions(root=photos))
    assert labels(dataset) == ["a", "b", "b"]


def test_a_frame_of_texts(tmp_path, monkeypatch):
    frame = Frame({"review": [f"some words about number {n}" for n in range(6)], "stars": [1, 5] * 3})
    dataset = open_dataset(frame)
    assert (dataset.kind, dataset.source) == ("text", "Frame")
    assert [item.location.read() for item in dataset.items][1] == "some words about number 1"
    assert labels(dataset) == ["1", "5"] * 3


def test_mistakes_in_a_frame_name_the_frame():
    with pytest.raises(restune.UserError, match="multi-label") as error:
        open_dataset(Frame({"text": ["a b c", "b c d", "c d e"], "label": ["x;y", "x", "y"]}))
    assert "Frame" in str(error.value)
    assert "/tmp" not in str(error.value)
    with pytest.raises(restune.UserError, match="--label-column"):
        open_dataset(Frame({"text": ["a b c", "b c d"], "value": [1, 2]}))


def test_a_frame_with_images_in_it():
    images = pictures()
    dataset = open_dataset(Frame({"image": [Image.fromarray(one) for one in images], "label": list("abcabc")}))
    assert labels(dataset) == list("abcabc")
    assert np.array_equal(dataset.items[4].location.read(), images[4])


@pytest.mark.parametrize("form", ["array", "pillow", "tensor"])
def test_pairs_of_images(form):
    images = pictures()
    make = {
        "array": lambda one: one,
        "pillow": Image.fromarray,
        "tensor": lambda one: torch.from_numpy(one).permute(2, 0, 1),
    }
    pairs = [(make[form](one), number % 2) for number, one in enumerate(images)]
    dataset = open_dataset(pairs)
    assert (dataset.kind, dataset.classes, labels(dataset)) == ("image", ("0", "1"), ["0", "1"] * 3)
    read = np.asarray(dataset.items[3].location.read())
    assert np.array_equal(read if form != "tensor" else read.transpose(1, 2, 0), images[3])
    assert len(set(dataset.ids())) == 6
    first = dataset.fingerprint()
    assert open_dataset(pairs).fingerprint() == first
    pairs[0] = (make[form](255 - images[0]), 0)
    assert open_dataset(pairs).fingerprint() != first


def test_pairs_of_paths(photos):
    pairs = [(photos / name / f"{number}.jpg", name) for name in ("red", "blue") for number in range(3)]
    dataset = open_dataset(pairs)
    assert dataset.class_counts() == {"blue": 3, "red": 3}
    assert all(item.location.read() for item in dataset.items)
    assert len(open_dataset([(str(path), label) for path, label in pairs])) == 6
    relative = [(f"{name}/{number}", name) for name in ("red", "blue") for number in range(3)]
    assert all(item.location.read() for item in open_dataset(relative, DataOptions(root=photos)).items)


def test_pairs_of_texts():
    dataset = open_dataset([("fine", "good"), ("not a thing that I would buy", "bad"), ("fine", "good")])
    assert dataset.kind == "text"
    assert [item.location.read() for item in dataset.items] == ["fine", "not a thing that I would buy", "fine"]
    assert labels(dataset) == ["good", "bad", "good"]


def test_pairs_of_series():
    dataset = open_dataset([(np.arange(50.0), "up"), (np.arange(2 * 40.0).reshape(2, 40), "down")])
    assert dataset.kind == "signal"
    assert dataset.items[1].location.read().shape == (2, 40)


def test_two_arrays():
    dataset = open_dataset((np.stack(pictures()), np.array([10, 2] * 3)))
    assert dataset.classes == ("2", "10")
    assert open_dataset((torch.zeros(4, 30), torch.tensor([0, 1, 0, 1]))).kind == "signal"


def test_a_list_of_dicts(photos):
    rows = [{"image": "red/0.jpg", "label": "a"}, {"image": "blue/0.jpg", "label": "b"}]
    assert labels(open_dataset(rows, DataOptions(root=photos))) == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(np.zeros((4, 4)), ["a", "b"])], "multi-label"),
        ([(np.zeros((4, 4)), None)], "no label"),
        ([(np.zeros((4, 4)), 0.5)], "not a class"),
        ([np.zeros((4, 4))], "not an .input, label. pair"),
        ([], "no items"),
        (3, "type int is not read"),
        ([(object(), "a"), (object(), "b")], "not read"),
        ([(np.zeros((4, 4)), "a"), (np.zeros((4, 4)), "a")], "only one class"),
    ],
)
def test_mistakes(data, message):
    with pytest.raises(restune.UserError, match=message):
        open_dataset(data)


class Shapes(torch.utils.data.Dataset):
    """A map-style data set as torchvision's are."""

    classes = ("zebra", "ape", "never seen")

    def __init__(self, targets=None):
        self.images, self.reads = pictures(), 0
        if targets is not None:
            self.targets = targets

    def __len__(self):
        return 6

    def __getitem__(self, index):
        self.reads += 1
        if index >= 6:
            raise IndexError
        return Image.fromarray(self.images[index]), torch.tensor(index % 2)


def test_a_data_set_of_pytorch():
    data = Shapes()
    dataset = open_dataset(data)
    assert dataset.classes == ("zebra", "ape")  # in its own order
    assert labels(dataset) == ["zebra", "ape"] * 3
    assert np.array_equal(dataset.items[5].location.read(), data.images[5])
    again = pickle.loads(pickle.dumps(dataset.items[5].location))
    assert np.array_equal(again.read(), data.images[5])


def test_targets_are_used_where_they_are_true():
    data = Shapes(targets=[0, 1] * 3)
    open_dataset(data)
    assert data.reads < 6
    assert labels(open_dataset(Shapes(targets=[1, 0] * 3))) == ["zebra", "ape"] * 3  # of something else


def test_a_data_set_that_fails_is_unreadable_there():
    class Broken(Shapes):
        def __getitem__(self, index):
            if index == 4 and self.reads > 10:
                raise RuntimeError("disk gone")
            return super().__getitem__(index)

    data = Broken(targets=[0, 1] * 3)
    dataset = open_dataset(data)
    data.reads = 20
    with pytest.raises(ValueError, match="disk gone"):
        dataset.items[4].location.read()


class Label:
    """A ClassLabel of Hugging Face."""

    names = ("tench", "10", "ant")


class Hub:
    """What Hugging Face's data sets have."""

    def __init__(self, rows, features):
        self.rows, self.features, self.column_names = rows, features, list(features)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]


def hub(images, first=0):
    rows = [{"image": Image.fromarray(one), "label": (first + n) % 3} for n, one in enumerate(images)]
    return Hub(rows, {"image": object(), "label": Label()})


def test_a_data_set_of_hugging_face():
    images = pictures()
    dataset = open_dataset(hub(images))
    assert dataset.classes == ("tench", "10", "ant")
    assert labels(dataset) == ["tench", "10", "ant"] * 2
    assert np.array_equal(dataset.items[1].location.read(), images[1])
    texts = Hub([{"text": f"number {n}", "label": n % 2} for n in range(4)], {"text": object(), "label": object()})
    assert (open_dataset(texts).kind, labels(open_dataset(texts))) == ("text", ["0", "1", "0", "1"])
    unlabelled = Hub([{"image": Image.new("RGB", (4, 4)), "label": -1}] * 3, {"image": object(), "label": Label()})
    with pytest.raises(restune.UserError, match="-1 does not name a class"):
        open_dataset(unlabelled)


def test_splits_of_hugging_face():
    dataset = open_dataset({"train": hub(pictures()), "validation": hub(pictures(3), 1)})
    assert dataset.splits() == {"train": 6, "val": 3}
    assert dataset.classes == ("tench", "10", "ant")
    assert labels(dataset.select("val")) == ["10", "ant", "tench"]


def test_training_on_pairs(tmp_path):
    pairs = [(np.full((16, 16, 3), 40 + n + 150 * (n % 2), np.uint8), "ab"[n % 2]) for n in range(20)]
    options = {"model": "resnet8", "image_size": 16, "epochs": 1, "device": "cpu", "batch_size": 8}
    run = restune.train(pairs, out=tmp_path / "run", **options)
    assert run.result["classes"] == ["a", "b"]
    assert "list of (input, label) pairs" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert restune.evaluate(run.out, pairs, split="all", device="cpu").n == 20
