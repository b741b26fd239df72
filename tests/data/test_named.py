"""Named data sets: every one is read from a tiny copy of its layout on disk, without the network and without pickle."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import json
import pickle
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

from restune.core.errors import UserError
from restune.data.dataset import DataOptions
from restune.data.sources import named, open_dataset

DIGITS = tuple("0123456789")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(6, 8, 3)).save(path)
    return path


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def matlab(path, **arrays):
    """Write a .mat file and return its checksum, which torchvision's readers ask for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, arrays)
    return hashlib.md5(path.read_bytes()).hexdigest()


# Each maker writes a set as it lies on disk under `root`, and returns what is to be read from it: for each split the
# class and the content of each item, an array or the path of a file.


def make_cifar10(root, monkeypatch):
    folder = root / "cifar-10-batches-bin"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    text(folder / "batches.meta.txt", *classes, "")
    expected = {"train": [], "test": []}
    for label, file in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]):
        image = pixels(32, 32, 3)
        (folder / f"{file}.bin").write_bytes(bytes([label]) + image.transpose(2, 0, 1).tobytes())
        expected["train"].append((classes[label], image))
    images = pixels(2, 32, 32, 3)
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip((9, 0), images, strict=True)]
    (folder / "test_batch.bin").write_bytes(b"".join(records))
    expected["test"] = [("truck", images[0]), ("airplane", images[1])]
    return expected


def make_cifar100(root, monkeypatch):
    folder = root / "cifar-100-binary"
    text(folder / "coarse_label_names.txt", *[f"coarse{number}" for number in range(20)])
    text(folder / "fine_label_names.txt", *[f"fine{number}" for number in range(100)])
    expected = {}
    for split, coarse, fine in (("train", 3, 99), ("test", 7, 42)):
        image = pixels(32, 32, 3)
        (folder / f"{split}.bin").write_bytes(bytes([coarse, fine]) + image.transpose(2, 0, 1).tobytes())
        expected[split] = [(f"fine{fine}", image)]
    return expected


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def make_idx(kind, classes):
    def make(root, monkeypatch):
        expected = {}
        for split, prefix, labels in (("train", "train", (3, 9, 0)), ("test", "t10k", (1, 2))):
            images = pixels(len(labels), 28, 28)
            write_idx(root / kind / "raw" / f"{prefix}-images-idx3-ubyte", images)
            write_idx(root / kind / "raw" / f"{prefix}-labels-idx1-ubyte", np.array(labels, np.uint8))
            expected[split] = [(classes[label], image) for label, image in zip(labels, images, strict=True)]
        return expected

    return make


def make_flowers102(root, monkeypatch):
    folder = root / "flowers-102"
    photos = {number: photo(folder / "jpg" / f"image_{number:05d}.jpg") for number in range(1, 7)}
    labels = matlab(folder / "imagelabels.mat", labels=np.array([[77, 1, 102, 1, 2, 102]], np.uint8))
    sets = {"trnid": [[6, 2]], "valid": [[1, 5]], "tstid": [[3, 4]]}
    setid = matlab(folder / "setid.mat", **{key: np.array(value, np.uint16) for key, value in sets.items()})
    files = {"image": ("", ""), "label": ("imagelabels.mat", labels), "setid": ("setid.mat", setid)}
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", files)
    return {
        "train": [("blackberry lily", photos[6]), ("pink primrose", photos[2])],
        "val": [("passion flower", photos[1]), ("hard-leaved pocket orchid", photos[5])],
        "test": [("blackberry lily", photos[3]), ("pink primrose", photos[4])],
    }


def make_food101(root, monkeypatch):
    folder = root / "food-101"
    names = {"train": {"pho": ["pho/7", "pho/3"], "apple_pie": ["apple_pie/5"]}}
    names["test"] = {"apple_pie": ["apple_pie/1"], "pho": ["pho/2"]}
    expected = {}
    for split, listed in names.items():
        text(folder / "meta" / f"{split}.json", json.dumps(listed))
        expected[split] = [
            (name, photo(folder / "images" / f"{file}.jpg")) for name, files in listed.items() for file in files
        ]
    return expected


def make_oxford_iiit_pet(root, monkeypatch):
    folder = root / "oxford-iiit-pet"
    text(folder / "annotations" / "trainval.txt", "american_bulldog_10 2 2 1", "Abyssinian_100 1 1 1")
    text(folder / "annotations" / "test.txt", "Abyssinian_2 1 1 1", "american_bulldog_3 2 2 1")
    photos = {name: photo(folder / "images" / f"{name}.jpg") for name in ("american_bulldog_10", "Abyssinian_100")}
    photos |= {name: photo(folder / "images" / f"{name}.jpg") for name in ("american_bulldog_3", "Abyssinian_2")}
    return {
        "train": [("American Bulldog", photos["american_bulldog_10"]), ("Abyssinian", photos["Abyssinian_100"])],
        "test": [("Abyssinian", photos["Abyssinian_2"]), ("American Bulldog", photos["american_bulldog_3"])],
    }


def make_dtd(root, monkeypatch):
    folder = root / "dtd" / "dtd"
    expected = {}
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        names = [f"zigzagged/zigzagged_{number}.jpg", f"banded/banded_{number}.jpg"]
        text(folder / "labels" / f"{split}1.txt", *names)
        text(folder / "labels" / f"{split}2.txt", "banded/another_partition.jpg")
        expected[split] = [(name.split("/")[0], photo(folder / "images" / name)) for name in names]
    return expected


def make_eurosat(root, monkeypatch):
    folder = root / "eurosat" / "2750"
    names = ("AnnualCrop/AnnualCrop_1.jpg", "Forest/Forest_1.jpg", "SeaLake/SeaLake_1.jpg")
    return {None: [(name.split("/")[0], photo(folder / name)) for name in names]}


def make_stl10(root, monkeypatch):
    folder = root / "stl10_binary"
    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    text(folder / "class_names.txt", *classes)
    expected = {}
    for split, labels in (("train", (10, 1)), ("test", (5, 2))):
        images = pixels(2, 96, 96, 3)
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(labels))
        expected[split] = [(classes[label - 1], image) for label, image in zip(labels, images, strict=True)]
    return expected


def make_svhn(root, monkeypatch):
    splits, expected = {}, {}
    for split, labels in (("train", (10, 1, 9)), ("test", (2, 10))):
        images = pixels(len(labels), 32, 32, 3)
        file = f"{split}_32x32.mat"
        checksum = matlab(root / file, X=images.transpose(1, 2, 3, 0), y=np.array(labels, np.uint8)[:, None])
        splits[split] = ["", file, checksum]
        expected[split] = [(str(label % 10), image) for label, image in zip(labels, images, strict=True)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", splits)
    return expected


def make_gtsrb(root, monkeypatch):
    folder = root / "gtsrb" / "GTSRB"
    names = ("00000/00000_00000.ppm", "00000/00001_00000.ppm", "00000/00001_00001.ppm", "00001/00000_00000.ppm")
    train = [(str(int(name[:5])), photo(folder / "Training" / name)) for name in names]
    test = [(label, photo(folder / "Final_Test" / "Images" / f"{row:05d}.ppm")) for row, label in enumerate("10")]
    lines = (f"{path.name};8;6;0;0;8;6;{label}" for label, path in test)
    text(root / "gtsrb" / "GT-final_test.csv", "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *lines)
    return {"train": train, "test": test}


def make_imagenette(root, monkeypatch):
    names = {"n01440764": "tench", "n03417042": "garbage truck", "n03888257": "parachute"}
    return {
        split: [(name, photo(root / "imagenette2" / split / wnid / f"{wnid}_1.JPEG")) for wnid, name in names.items()]
        for split in ("train", "val")
    }


KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MAKERS = {
    "cifar10": make_cifar10,
    "cifar100": make_cifar100,
    "mnist": make_idx("MNIST", DIGITS),
    "fashionmnist": make_idx("FashionMNIST", CLOTHES),
    "kmnist": make_idx("KMNIST", KUZUSHIJI),
    "flowers102": make_flowers102,
    "food101": make_food101,
    "oxford_iiit_pet": make_oxford_iiit_pet,
    "dtd": make_dtd,
    "eurosat": make_eurosat,
    "stl10": make_stl10,
    "svhn": make_svhn,
    "gtsrb": make_gtsrb,
    "imagenette": make_imagenette,
}


def test_every_name_is_covered():
    assert set(named.NAMES) == {"digits", *MAKERS}
    assert len(named.NAMES) == 15


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_read_from_disk(name, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was loaded")

    for loader in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, loader, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    expected = MAKERS[name](tmp_path, monkeypatch)
    dataset = open_dataset(name, DataOptions(data_root=tmp_path))  # which also checks that no id comes twice
    assert dataset.source.startswith(f"{name} (")
    assert {item.split for item in dataset.items} == set(expected)
    for split, listed in expected.items():
        items = [item for item in dataset.items if item.split == split]
        assert [dataset.classes[item.target] for item in items] == [label for label, _ in listed]
        for item, (_, content) in zip(items, listed, strict=True):
            if isinstance(content, Path):
                assert item.location.read() == content.read_bytes()
                assert content.as_posix().endswith(item.id)
            else:
                assert np.array_equal(item.location.read(), content)
                assert item.id.startswith(f"{name}/{split}/")


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_rows_are_compact_and_the_fingerprint_repeats(name, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    dataset = named.open_named(name, DataOptions(data_root=tmp_path))
    assert dataset.fingerprint() == named.open_named(name, DataOptions(data_root=tmp_path)).fingerprint()
    for item in dataset.items:
        content = item.location.read()
        assert isinstance(content, bytes) or (content.dtype == np.uint8 and content.flags.c_contiguous)


def test_digits():
    dataset = open_dataset("digits")
    digits = load_digits()
    assert dataset.classes == DIGITS
    assert [item.id for item in dataset.items] == [f"digits/{row:04d}" for row in range(1797)]
    assert [item.target for item in dataset.items] == digits.target.tolist()
    assert dataset.splits() == {"train": 1437, "test": 360}
    assert all((item.split == "test") == (row % 5 == 0) for row, item in enumerate(dataset.items))
    image = dataset.items[7].location.read()
    assert image.dtype == np.uint8
    assert image.shape == (8, 8)
    assert np.array_equal(image, np.round(digits.images[7] / 16 * 255))


def test_frames_of_one_drive_are_a_group(tmp_path, monkeypatch):
    make_gtsrb(tmp_path, monkeypatch)
    dataset = named.open_named("gtsrb", DataOptions(data_root=tmp_path))
    groups = [item.group for item in dataset.items if item.split == "train"]
    assert len(set(groups)) == 3
    assert groups[1] == groups[2]
    assert len(dataset.classes) == 43


def test_the_default_root_is_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "cache"))
    make_eurosat(tmp_path / "cache" / "data", monkeypatch)
    assert len(open_dataset("eurosat")) == 3


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_without_network_the_message_says_what_to_put_where(name, tmp_path):
    with pytest.raises(UserError) as caught:
        named.open_named(name, DataOptions(data_root=tmp_path))
    parts = [line.split() for line in named._PARTS.splitlines() if line.startswith(f"{name} ")]
    _, provides, md5, address = parts[0]
    file = address.rsplit("/", 1)[1]
    assert file in caught.value.what
    assert md5 in caught.value.what
    assert "Name or service not known" in caught.value.what
    assert caught.value.where == address
    assert f"put it at {tmp_path}" in caught.value.fix
    assert file in caught.value.fix
    assert provides in caught.value.fix
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")] == []


def test_addresses_and_checksums_are_torchvisions():
    parts = [line.split() for line in named._PARTS.splitlines() if line]
    assert {part[0] for part in parts} == set(MAKERS)
    for name, _, md5, address in parts:
        if name.startswith("cifar"):  # torchvision has the pickled edition
            continue
        module = {"fashionmnist": "mnist", "kmnist": "mnist"}.get(name, name)
        source = inspect.getsource(getattr(torchvision.datasets, module))
        assert md5 in source
        assert address.split("/", 3)[2] in source  # the server
        assert address.rsplit("/", 1)[1] in source


def test_plain_files_are_downloaded_into_place(tmp_path, monkeypatch):
    expected = make_svhn(tmp_path / "server", monkeypatch)
    served = {path.name: path.read_bytes() for path in (tmp_path / "server").iterdir()}

    class Response(io.BytesIO):
        def __init__(self, request):
            self.url = request.full_url
            super().__init__(served[self.url.rsplit("/", 1)[1]])
            self.length = len(self.getvalue())

    monkeypatch.setattr(urllib.request, "urlopen", Response)
    table = named._PARTS
    for checksum, file in (("e26dedcc434d2e4c54c9b2d4a06d8373", "train"), ("eb5a983be6a315427106f1b164d9cef3", "test")):
        table = table.replace(checksum, hashlib.md5(served[f"{file}_32x32.mat"]).hexdigest())
    monkeypatch.setattr(named, "_PARTS", table)
    dataset = named.open_named("svhn", DataOptions(data_root=tmp_path / "root"))
    assert dataset.splits() == {split: len(listed) for split, listed in expected.items()}
    assert {path.name for path in (tmp_path / "root").iterdir()} == {"train_32x32.mat", "test_32x32.mat"}


def test_a_download_with_a_wrong_checksum_is_not_kept(tmp_path, monkeypatch):
    class Response(io.BytesIO):
        length = 4

        def __init__(self, request):
            self.url = request.full_url
            super().__init__(b"page")

    monkeypatch.setattr(urllib.request, "urlopen", Response)
    with pytest.raises(UserError, match="corrupted"):
        named.open_named("svhn", DataOptions(data_root=tmp_path))
    assert list(tmp_path.iterdir()) == []


def put_archive(folder, monkeypatch, *, damaged=False):
    """A tar of CIFAR-10 where a user without network would put it."""
    make_cifar10(folder / "made", monkeypatch)
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "made" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    if damaged:
        archive.write_bytes(archive.read_bytes()[:-200])
    checksum = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(named, "_PARTS", named._PARTS.replace("c32a1d4ab5d03f1284b67883e8d87530", checksum))


def test_an_archive_put_there_by_hand_is_unpacked(tmp_path, monkeypatch):
    put_archive(tmp_path, monkeypatch)
    assert named.open_named("cifar10", DataOptions(data_root=tmp_path)).splits() == {"train": 5, "test": 2}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"made", "cifar-10-binary.tar.gz", "cifar-10-batches-bin"}


def test_a_damaged_archive_leaves_nothing_half_unpacked(tmp_path, monkeypatch):
    put_archive(tmp_path, monkeypatch, damaged=True)
    with pytest.raises(UserError, match="cifar-10-binary"):
        named.open_named("cifar10", DataOptions(data_root=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"made", "cifar-10-binary.tar.gz"}


def test_compressed_idx_files_put_there_by_hand_are_unpacked(tmp_path, monkeypatch):
    expected = MAKERS["kmnist"](tmp_path, monkeypatch)
    table = named._PARTS
    for path in list((tmp_path / "KMNIST" / "raw").iterdir()):
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        line = next(line for line in table.splitlines() if line.startswith("kmnist") and path.name in line)
        checksum = hashlib.md5(packed.read_bytes()).hexdigest()
        table = table.replace(line, line.replace(line.split()[2], checksum))
    monkeypatch.setattr(named, "_PARTS", table)
    dataset = named.open_named("kmnist", DataOptions(data_root=tmp_path))
    assert dataset.splits() == {split: len(listed) for split, listed in expected.items()}


def test_the_pickled_edition_is_not_read_and_the_message_says_so(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
    with pytest.raises(UserError, match="pickled edition"):
        named.open_named("cifar10", DataOptions(data_root=tmp_path))


@pytest.mark.parametrize(
    ("name", "file", "change"),
    [
        ("cifar10", "cifar-10-batches-bin/data_batch_3.bin", lambda content: content[:-1]),
        ("cifar10", "cifar-10-batches-bin/data_batch_3.bin", lambda content: content[:0]),
        ("cifar10", "cifar-10-batches-bin/data_batch_3.bin", lambda content: bytes([10]) + content[1:]),
        ("stl10", "stl10_binary/train_y.bin", lambda content: content[:-1]),
        ("stl10", "stl10_binary/train_y.bin", lambda content: bytes([0]) + content[1:]),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte", lambda content: content[:-1]),
        ("mnist", "MNIST/raw/train-labels-idx1-ubyte", lambda content: content[:0]),
        ("svhn", "train_32x32.mat", lambda content: content[:-1]),
        ("flowers102", "flowers-102/setid.mat", lambda content: content[:-1]),
        ("food101", "food-101/meta/test.json", lambda content: content[:-5]),
        ("oxford_iiit_pet", "oxford-iiit-pet/annotations/test.txt", lambda content: content[:14]),
        ("gtsrb", "gtsrb/GT-final_test.csv", lambda content: content.replace(b"ClassId", b"Class")),
    ],
)
def test_damaged_files_are_a_users_error(name, file, change, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    path = tmp_path / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"the files of {name} cannot be read") as caught:
        named.open_named(name, DataOptions(data_root=tmp_path))
    assert "run again" in caught.value.fix


def test_a_root_that_cannot_be_made_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        named.open_named("mnist", DataOptions(data_root=tmp_path / "file"))
