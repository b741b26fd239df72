"""Data sets by name: scikit-learn's digits, and torchvision's image data sets under the data root."""

from __future__ import annotations

import http.client
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import cache_folder, cannot_write
from restune.data.dataset import ArrayLocation, DataOptions, Dataset, FileLocation, Item
from restune.data.sources.folder import open_folder

_DIGITS = tuple("0123456789")
_IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}

# of the network, the disk and the unpackers; torchvision raises RuntimeError for a wrong checksum
_FAILURES = (
    OSError,
    RuntimeError,
    EOFError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)

_Content = tuple[list[Item], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Part:
    """A file to download, and the path below the set's folder that exists once it is unpacked."""

    provides: str
    md5: str
    url: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]


def open_named(name: str, options: DataOptions) -> Dataset:
    """Open the data set `name`, one of `NAMES`; download the files that are not under the data root yet.

    Item ids are ``name/row``, ``name/split/row`` or the path below the set's folder. No pickle is ever read, so
    CIFAR comes from its binary edition. Raises UserError when the download fails or the files are damaged.
    """
    if name == "digits":
        items, classes = _read_digits()
        return Dataset(items=tuple(items), classes=classes, source=name)
    root = (options.data_root or cache_folder() / "data").expanduser()
    below, read = _SETS[name]
    folder = root / below
    parts = [_Part(*line.split()[1:]) for line in _PARTS.splitlines() if line.split()[:1] == [name]]
    for part in parts:
        if not (folder / part.provides).exists():
            _bring(part, name, folder)
    try:
        items, classes = read(root)
    except UserError:
        raise
    except Exception as error:  # third-party readers raise arbitrary exceptions on a damaged file
        files = ", ".join(part.provides for part in parts)
        raise UserError(
            f"the files of {name} cannot be read: {error}",
            where=str(folder),
            fix=f"they are damaged or incomplete: delete {files} there and run again to get them anew",
        ) from error
    return Dataset(items=tuple(items), classes=classes, source=f"{name} ({folder})")


def _bring(part: _Part, name: str, folder: Path) -> None:
    """Download and unpack one part atomically. An archive that is in `folder` already is used."""
    from torchvision.datasets.utils import download_url, extract_archive

    target = folder / part.provides
    archive = folder / part.file_name
    note(f"{name}: {'unpacking' if archive.exists() else 'downloading'} {part.file_name} in {folder}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as staging:
            if archive == target:
                download_url(part.url, staging, md5=part.md5)
            else:
                download_url(part.url, folder, md5=part.md5)
                extract_archive(archive, staging)
            (Path(staging) / part.provides).replace(target)
    except _FAILURES as error:
        unpacked = "" if archive == target else f", where it will be unpacked to {part.provides}"
        fix = f"check the network; without one, get {part.file_name} in another way and put it at {archive}{unpacked}"
        pickled = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}.get(name)
        if pickled and (folder / pickled).exists():
            fix += f" ({pickled} beside it is the pickled edition, which is never loaded: get the binary one)"
        raise UserError(
            f"cannot get {part.file_name} of {name} (md5 {part.md5}): {getattr(error, 'reason', error)}",
            where=part.url,
            fix=fix,
        ) from error


def _read_digits() -> _Content:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16 * 255).round().astype(np.uint8)  # greys from 0 to 16
    items = [
        Item(
            id=f"digits/{row:04d}",
            location=ArrayLocation(images, row),
            target=int(target),
            split="test" if row % 5 == 0 else "train",
        )
        for row, target in enumerate(digits.target)
    ]
    return items, _DIGITS


def _read_cifar(
    root: Path, *, name: str, folder: str, train: tuple[str, ...], test: str, classes: str, labels: int
) -> _Content:
    """Read records of `labels` label bytes (the last is used) and 3072 image bytes, channels first."""
    items: list[Item] = []
    for split, files in (("train", train), ("test", (test,))):
        records = np.concatenate([_records(root / folder / file, labels + 3072) for file in files])
        images = records[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        items += _array_items(name, split, images, records[:, labels - 1])
    return _checked(items, _lines(root / folder / classes))


def _read_stl10(root: Path) -> _Content:
    """Read column-major images, channels first, with labels from 1; skip the unlabelled images."""
    folder = root / "stl10_binary"
    items: list[Item] = []
    for split in ("train", "test"):
        images = _records(folder / f"{split}_X.bin", 3 * 96 * 96).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        labels = _records(folder / f"{split}_y.bin", 1)[:, 0].astype(int) - 1
        items += _array_items("stl10", split, images, labels)
    return _checked(items, _lines(folder / "class_names.txt"))


def _read_idx(root: Path, *, reader: str) -> _Content:
    # only the file readers: the class itself would load a pickled copy left there by an old torchvision
    from torchvision.datasets import mnist

    folder = root / reader / "raw"
    items: list[Item] = []
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = mnist.read_image_file(str(folder / f"{prefix}-images-idx3-ubyte")).numpy()
        labels = mnist.read_label_file(str(folder / f"{prefix}-labels-idx1-ubyte")).numpy()
        items += _array_items(reader.lower(), split, images, labels)
    return _checked(items, tuple(name.split(" - ")[0] for name in getattr(mnist, reader).classes))  # "0 - zero"


def _read_svhn(root: Path) -> _Content:
    from torchvision.datasets import SVHN

    items: list[Item] = []
    for split in ("train", "test"):
        content = SVHN(root, split=split)
        items += _array_items("svhn", split, content.data.transpose(0, 2, 3, 1), content.labels)
    return _checked(items, _DIGITS)


def _read_files(root: Path, *, reader: str, folder: str, splits: str, samples: str = "_image_files") -> _Content:
    """List image files and labels with torchvision's class `reader`: its `samples` or equivalent attributes."""
    from torchvision import datasets

    items: list[Item] = []
    names: set[tuple[str, ...]] = set()
    for split in splits.split():
        content = getattr(datasets, reader)(root, split=split)
        listed = getattr(content, samples)
        pairs = listed if samples == "_samples" else zip(listed, content._labels, strict=True)
        names.add(tuple(getattr(content, "classes", map(str, range(43)))))  # only the traffic signs have no names
        for path, target in pairs:
            name = Path(path).relative_to(root / folder).as_posix()
            ours = "train" if split == "trainval" else split
            items.append(Item(id=name, location=FileLocation(Path(path)), target=target, split=ours))
    if len(names) != 1:
        raise ValueError("the splits have different classes")
    return _checked(items, names.pop())


def _read_gtsrb(root: Path) -> _Content:
    items, classes = _read_files(root, reader="GTSRB", folder="gtsrb", splits="train test", samples="_samples")
    # a training file is class/track_frame.ppm: 30 nearly equal frames of one drive past a sign
    tracks = [replace(item, group=item.id.rsplit("_", 1)[0]) if item.split == "train" else item for item in items]
    return tracks, classes


def _read_eurosat(root: Path) -> _Content:
    content = open_folder(root / "eurosat" / "2750")
    return list(content.items), content.classes


def _read_imagenette(root: Path) -> _Content:
    content = open_folder(root / "imagenette2")
    return list(content.items), tuple(_IMAGENETTE[name] for name in content.classes)


def _array_items(name: str, split: str, images: NDArray[Any], labels: NDArray[Any]) -> list[Item]:
    if len(images) != len(labels):
        raise ValueError(f"{split} has {len(images)} images and {len(labels)} labels")
    images = np.ascontiguousarray(images)
    return [
        Item(id=f"{name}/{split}/{row:05d}", location=ArrayLocation(images, row), target=target, split=split)
        for row, target in enumerate(labels.tolist())
    ]


def _records(path: Path, size: int) -> NDArray[np.uint8]:
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % size:
        raise ValueError(f"{path.name} has {len(content)} bytes, not a multiple of {size}")
    return content.reshape(-1, size)


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _checked(items: list[Item], classes: tuple[str, ...]) -> _Content:
    wrong = next((item for item in items if not 0 <= item.target < len(classes)), None)
    if wrong:
        raise ValueError(f"{wrong.id} has the label {wrong.target}, but there are {len(classes)} classes")
    return items, classes


_SETS: dict[str, tuple[str, Callable[[Path], _Content]]] = {  # folder below the data root, reader
    "cifar10": (
        "",
        partial(
            _read_cifar,
            name="cifar10",
            folder="cifar-10-batches-bin",
            train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            test="test_batch.bin",
            classes="batches.meta.txt",
            labels=1,
        ),
    ),
    "cifar100": (
        "",
        partial(
            _read_cifar,
            name="cifar100",
            folder="cifar-100-binary",
            train=("train.bin",),
            test="test.bin",
            classes="fine_label_names.txt",
            labels=2,  # the coarse one first
        ),
    ),
    "mnist": ("MNIST/raw", partial(_read_idx, reader="MNIST")),
    "fashionmnist": ("FashionMNIST/raw", partial(_read_idx, reader="FashionMNIST")),
    "kmnist": ("KMNIST/raw", partial(_read_idx, reader="KMNIST")),
    "flowers102": (
        "flowers-102",
        partial(_read_files, reader="Flowers102", folder="flowers-102", splits="train val test"),
    ),
    "food101": ("", partial(_read_files, reader="Food101", folder="food-101", splits="train test")),
    "oxford_iiit_pet": (
        "oxford-iiit-pet",
        partial(
            _read_files,
            reader="OxfordIIITPet",
            folder="oxford-iiit-pet",
            splits="trainval test",
            samples="_images",
        ),
    ),
    "dtd": ("dtd", partial(_read_files, reader="DTD", folder="dtd/dtd", splits="train val test")),
    "eurosat": ("eurosat", _read_eurosat),
    "stl10": ("", _read_stl10),
    "svhn": ("", _read_svhn),
    "gtsrb": ("gtsrb", _read_gtsrb),
    "imagenette": ("", _read_imagenette),
}
NAMES: tuple[str, ...] = ("digits", *_SETS)

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_KMNIST = "http://codh.rois.ac.jp/kmnist/dataset/kmnist"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
_EUROSAT = "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd"
_GTSRB = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"

# data set, path after unpacking, md5, URL: as in torchvision, except CIFAR's binary edition
_PARTS = f"""
cifar10 cifar-10-batches-bin c32a1d4ab5d03f1284b67883e8d87530 https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz
cifar100 cifar-100-binary 03b5dce01913d631647c71ecec9e9cb8 https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz
mnist train-images-idx3-ubyte f68b3c2dcbeaaa9fbdd348bbdeb94873 {_MNIST}/train-images-idx3-ubyte.gz
mnist train-labels-idx1-ubyte d53e105ee54ea40749a09fcbcd1e9432 {_MNIST}/train-labels-idx1-ubyte.gz
mnist t10k-images-idx3-ubyte 9fb629c4189551a2d022fa330f9573f3 {_MNIST}/t10k-images-idx3-ubyte.gz
mnist t10k-labels-idx1-ubyte ec29112dd5afa0611ce80d1b7f02629c {_MNIST}/t10k-labels-idx1-ubyte.gz
fashionmnist train-images-idx3-ubyte 8d4fb7e6c68d591d4c3dfef9ec88bf0d {_FASHION}/train-images-idx3-ubyte.gz
fashionmnist train-labels-idx1-ubyte 25c81989df183df01b3e8a0aad5dffbe {_FASHION}/train-labels-idx1-ubyte.gz
fashionmnist t10k-images-idx3-ubyte bef4ecab320f06d8554ea6380940ec79 {_FASHION}/t10k-images-idx3-ubyte.gz
fashionmnist t10k-labels-idx1-ubyte bb300cfdad3c16e7a12a480ee83cd310 {_FASHION}/t10k-labels-idx1-ubyte.gz
kmnist train-images-idx3-ubyte bdb82020997e1d708af4cf47b453dcf7 {_KMNIST}/train-images-idx3-ubyte.gz
kmnist train-labels-idx1-ubyte e144d726b3acfaa3e44228e80efcd344 {_KMNIST}/train-labels-idx1-ubyte.gz
kmnist t10k-images-idx3-ubyte 5c965bf0a639b31b8f53240b1b52f4d7 {_KMNIST}/t10k-images-idx3-ubyte.gz
kmnist t10k-labels-idx1-ubyte 7320c461ea6c1c855c0b718fb2a4b134 {_KMNIST}/t10k-labels-idx1-ubyte.gz
flowers102 jpg 52808999861908f626f3c1f4e79d11fa {_OXFORD}/flowers/102/102flowers.tgz
flowers102 imagelabels.mat e0620be6f572b9609742df49c70aed4d {_OXFORD}/flowers/102/imagelabels.mat
flowers102 setid.mat a5357ecc9cb78c4bef273ce3793fc85c {_OXFORD}/flowers/102/setid.mat
food101 food-101 85eeb15f3717b99a5da872d97d918f87 http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz
oxford_iiit_pet images 5c4f3ee8e5d25df40f4fd59a7f44e54c {_OXFORD}/pets/data/images.tar.gz
oxford_iiit_pet annotations 95a8c909bbe2e81eed6a22bccdf3f68f {_OXFORD}/pets/data/annotations.tar.gz
dtd dtd fff73e5086ae6bdbea199a49dfb8a4c1 {_OXFORD}/dtd/download/dtd-r1.0.1.tar.gz
eurosat 2750 c8fa014336c82ac7804f0398fcb19387 {_EUROSAT}/EuroSAT.zip
stl10 stl10_binary 91f7769df0f17e558f3565bffb0c7dfb http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz
svhn train_32x32.mat e26dedcc434d2e4c54c9b2d4a06d8373 http://ufldl.stanford.edu/housenumbers/train_32x32.mat
svhn test_32x32.mat eb5a983be6a315427106f1b164d9cef3 http://ufldl.stanford.edu/housenumbers/test_32x32.mat
gtsrb GTSRB/Training 513f3c79a4c5141765e10e952eaa2478 {_GTSRB}/GTSRB-Training_fixed.zip
gtsrb GTSRB/Final_Test c7e4e6327067d32654124b0fe9e82185 {_GTSRB}/GTSRB_Final_Test_Images.zip
gtsrb GT-final_test.csv fe31e9c9270bbcd7b84b7f21a9d9d9e5 {_GTSRB}/GTSRB_Final_Test_GT.zip
imagenette imagenette2 fe2fc210e6bb7c5664d602c3cd71e612 https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz
"""
