"""Every form of data gives the same items; every mistake in it one message."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset


def summary(dataset):
    return [(item.id, dataset.classes[item.target], item.split) for item in dataset.items]


def expected(prefix="", split=None):
    return [(f"{prefix}{name}/{number}.jpg", name, split) for name in ("blue", "red") for number in range(3)]


def tar_of(folder, path, compress=False):
    with tarfile.open(path, "w:gz" if compress else "w") as tar:
        tar.add(folder, arcname="pack/photos")
    return path


def test_folder(photos):
    dataset = open_dataset(photos)
    assert dataset.classes == ("blue", "red")
    assert summary(dataset) == expected()
    assert dataset.class_counts() == {"blue": 3, "red": 3}


def test_folder_with_splits(photos, tmp_path):
    for name in ("train", "Validation", "test"):
        shutil.copytree(photos, tmp_path / "data" / name)
    dataset = open_dataset(tmp_path / "data")
    assert dataset.splits() == {"train": 6, "val": 6, "test": 6}
    assert summary(dataset.select("val")) == expected("Validation/", "val")


def test_hidden_files_and_folders_are_neither_classes_nor_items(photos):
    plain = summary(open_dataset(photos))
    for name in (".ipynb_checkpoints", "__MACOSX", ".git"):
        (photos / name).mkdir()
        shutil.copy(photos / "red" / "0.jpg", photos / name / "0.jpg")
    (photos / "red" / ".ipynb_checkpoints").mkdir()
    shutil.copy(photos / "red" / "0.jpg", photos / "red" / ".ipynb_checkpoints" / "0-checkpoint.jpg")
    for name in ("Thumbs.db", "._0.jpg", ".DS_Store", "notes.txt"):
        (photos / "red" / name).write_bytes(b"x")
    assert summary(open_dataset(photos)) == plain


def test_a_link_back_up_does_not_go_round_for_ever(photos):
    (photos / "red" / "loop").symlink_to(photos / "red", target_is_directory=True)
    (photos / "red" / "up").symlink_to(photos, target_is_directory=True)
    assert len({item.location.path.resolve() for item in open_dataset(photos).items}) == 6


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.tgz"])
def test_tar(photos, tmp_path, name):
    path = tar_of(photos, tmp_path / name, compress=not name.endswith(".tar"))
    dataset = open_dataset(path)
    assert summary(dataset) == expected()
    for item in dataset.items:
        assert item.location.read() == (photos / item.id).read_bytes()
    assert summary(open_dataset(path)) == expected()  # from the cache folder this time


def test_links_in_a_tar(photos, tmp_path, capsys):
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        tar.add(photos, arcname="../../photos")
        for name, kind in (("photos/red/hard.jpg", tarfile.LNKTYPE), ("photos/red/soft.jpg", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "../../photos/red/0.jpg"
            tar.addfile(link)
    dataset = open_dataset(tmp_path / "data.tar")
    assert len(dataset) == 7
    hard = next(item for item in dataset.items if item.id == "red/hard.jpg")
    assert hard.location.read() == (photos / "red" / "0.jpg").read_bytes()
    assert "1 members of data.tar are links" in capsys.readouterr().err


def test_a_gzip_bomb_is_stopped(tmp_path):
    (tmp_path / "data.tgz").write_bytes(gzip.compress(bytes(40 * 2**20)))
    with pytest.raises(restune.UserError, match="expands more than"):
        open_dataset(tmp_path / "data.tgz")


def test_a_misnamed_archive(photos, tmp_path):
    assert len(open_dataset(tar_of(photos, tmp_path / "data.tar", compress=True))) == 6
    assert len(open_dataset(tar_of(photos, tmp_path / "data.tgz", compress=False))) == 6


def test_a_linked_class_is_a_class_of_its_own(photos):
    (photos / "scarlet").symlink_to(photos / "red", target_is_directory=True)
    (photos / "red" / "self.jpg").symlink_to(photos / "red" / "self.jpg")
    assert open_dataset(photos).class_counts() == {"blue": 3, "red": 4, "scarlet": 4}


def test_split_folders_beside_others(photos, tmp_path):
    for name in ("train", "val", "extra"):
        shutil.copytree(photos, tmp_path / "data" / name)
    with pytest.raises(restune.UserError, match=r"are mixed with other folders \(extra\)"):
        open_dataset(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "extra")
    shutil.rmtree(tmp_path / "data" / "val")
    assert open_dataset(tmp_path / "data").splits() == {"train": 6}


def test_a_pipe_is_no_data(tmp_path):
    import os

    for name in ("data.tar", "data.npz", "data.csv"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(restune.UserError, match="neither a folder nor a regular file"):
            open_dataset(tmp_path / name)
    with pytest.raises(restune.UserError, match="no such data"):
        open_dataset(tmp_path / ("x" * 300))
    with pytest.raises(restune.UserError, match="home folder"):
        open_dataset("~nobody-of-that-name/x")


def test_a_changed_archive_is_unpacked_anew(photos, tmp_path):
    path = tar_of(photos, tmp_path / "data.tgz", compress=True)
    assert len(open_dataset(path)) == 6
    (photos / "red" / "0.jpg").unlink()
    tar_of(photos, path, compress=True)
    assert len(open_dataset(path)) == 5


def test_a_cut_archive(photos, tmp_path):
    path = tar_of(photos, tmp_path / "data.tgz", compress=True)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(restune.UserError, match="cannot be decompressed"):
        open_dataset(path)
    path.write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(restune.UserError, match="cannot be decompressed"):
        open_dataset(path)
    path.write_bytes(b"no gzip")
    with pytest.raises(restune.UserError, match="cannot be read"):
        open_dataset(path)
    path.write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(restune.UserError, match="cannot be read"):
        open_dataset(path)


TABLE = "file,label,split,patient\n" + "".join(
    f"{name}/{number}.jpg,{name},{'train' if number else 'test'},p{number}\n"
    for name in ("blue", "red")
    for number in range(3)
)


def test_csv(photos):
    (photos / "table.csv").write_text(TABLE)
    dataset = open_dataset(photos / "table.csv", DataOptions(group_column="patient"))
    assert [(item.id, dataset.classes[item.target]) for item in dataset.items] == [(i, c) for i, c, _ in expected()]
    assert dataset.splits() == {"train": 4, "test": 2}
    assert [item.group for item in dataset.items] == ["p0", "p1", "p2"] * 2
    assert all(item.location.read() for item in dataset.items)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_and_a_byte_order_mark(photos, delimiter):
    (photos / "table.csv").write_text("\ufeff" + TABLE.replace(",", delimiter), encoding="utf-8")
    assert len(open_dataset(photos / "table.csv")) == 6


def test_tsv_without_header_in_latin1(photos):
    rows = [f"{name}/0.jpg\t{label}" for name, label in (("blue", "häuser"), ("red", "bäume"))]
    (photos / "table.tsv").write_text("\n".join(rows), encoding="latin-1")
    options = DataOptions(header=False, path_column="0", label_column="1", encoding="latin-1")
    assert open_dataset(photos / "table.tsv", options).classes == ("bäume", "häuser")
    with pytest.raises(restune.UserError, match=r"--encoding latin-1"):
        open_dataset(photos / "table.tsv", DataOptions(header=False, path_column="0", label_column="1"))


def test_labels_that_look_like_numbers_stay_what_they_are(photos):
    (photos / "table.csv").write_text("file,label\nred/0.jpg,007\nblue/0.jpg,7\n")
    assert open_dataset(photos / "table.csv").classes == ("007", "7")


def test_parquet(photos, tmp_path):
    table = pa.table({"image": ["red/0.jpg", "blue/1.jpg"], "y": [3, 1]})
    parquet.write_table(table, tmp_path / "table.parquet")
    dataset = open_dataset(tmp_path / "table.parquet", DataOptions(root=photos))
    assert dataset.classes == ("1", "3")
    assert all(item.location.read() for item in dataset.items)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,4\n", "--path-column"),
        ("file,b\nx.jpg,2\n", "--label-column"),
        ("file,label\nx.jpg,cat\n,dog\n", "row 3"),
        ("file,label\nx.jpg,cat\ny.jpg,\n", "row 3"),
        ("file,label,file\nx.jpg,cat,x\n", "twice"),
        ("file,label,split\nx.jpg,a,train\ny.jpg,b,blue\n", "'blue' is not a split"),
        ("file,label\nx.jpg,a\nx.jpg,b\n", "listed twice"),
        ("file,label\nx.jpg,a,b\n", "cannot be read"),
        ("", "empty"),
        ("file,label\n", "no items"),
    ],
)
def test_mistakes_in_a_table(tmp_path, content, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(restune.UserError, match=message):
        open_dataset(tmp_path / "table.csv")


def test_a_column_that_is_not_there(tmp_path):
    (tmp_path / "table.csv").write_text("file,label\nx.jpg,a\n")
    with pytest.raises(restune.UserError, match="Did you mean 'label'"):
        open_dataset(tmp_path / "table.csv", DataOptions(label_column="labels"))


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y")])
@pytest.mark.parametrize("labels", [np.array([5, 3, 5]), np.array(["b", "a", "b"]), np.array([[5], [3], [5]])])
def test_npz(tmp_path, names, labels):
    images = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    np.savez(tmp_path / "data.npz", **dict(zip(names, (images, labels), strict=True)))
    dataset = open_dataset(tmp_path / "data.npz")
    assert [item.target for item in dataset.items] == [1, 0, 1]
    assert dataset.classes == (("3", "5") if labels.dtype.kind == "i" else ("a", "b"))
    assert np.array_equal(dataset.items[2].location.read(), images[2])


def test_npz_of_another_type_keeps_its_grey_levels(tmp_path, capsys):
    levels = np.arange(2 * 4 * 4).reshape(2, 4, 4)
    for dtype in (np.uint16, np.float32, np.float64):
        np.savez(tmp_path / "data.npz", x=levels.astype(dtype), y=np.array([b"a", b"b"]))
        dataset = open_dataset(tmp_path / "data.npz")
        assert np.array_equal(dataset.items[1].location.read(), levels[1])
        assert dataset.classes == ("a", "b")
        assert "taken as grey levels" in capsys.readouterr().err


def test_npz_mistakes(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros((2, 4, 4)), labels=np.array([{}, []], dtype=object))
    with pytest.raises(restune.UserError, match="pickled objects"):
        open_dataset(path)
    np.savez(path, images=np.zeros((2, 4, 4)), labels=np.array([0.5, 1.0]))
    with pytest.raises(restune.UserError, match="floats"):
        open_dataset(path)
    np.savez(path, images=np.zeros((2, 4, 4)), labels=np.arange(3))
    with pytest.raises(restune.UserError, match="2 images and labels"):
        open_dataset(path)
    np.savez(path, pictures=np.zeros((2, 4, 4)))
    with pytest.raises(restune.UserError, match="pictures"):
        open_dataset(path)
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(restune.UserError, match="cannot be read"):
        open_dataset(path)


def test_real_mnist(real_data):
    dataset = open_dataset(real_data / "mnist" / "test_0.npz")
    assert len(dataset) == 10_000
    assert dataset.classes == tuple("0123456789")
    assert dataset.class_counts()["1"] == 1135  # published with the set


def test_real_cifar10(real_data):
    dataset = open_dataset(real_data / "cifar10-jpeg" / "test.tar.gz")
    assert len(dataset) == 10_000
    assert set(dataset.class_counts().values()) == {1000}
    assert Image.open(io.BytesIO(dataset.items[0].location.read())).size == (32, 32)


def test_real_untidy_folder(real_data):
    dataset = open_dataset(real_data / "hymenoptera")
    assert dataset.classes == ("ants", "bees")
    assert sum(dataset.splits().values()) == 398


def test_mistyped_empty_flat_and_single(photos, tmp_path):
    with pytest.raises(restune.UserError, match="Did you mean 'photos'"):
        open_dataset(tmp_path / "photso")
    with pytest.raises(restune.UserError, match="Did you mean 'digits'"):
        open_dataset("digit")
    (tmp_path / "empty").mkdir()
    with pytest.raises(restune.UserError, match="no images"):
        open_dataset(tmp_path / "empty")
    with pytest.raises(restune.UserError, match="outside any class folder"):
        open_dataset(photos / "red")
    shutil.rmtree(photos / "blue")
    with pytest.raises(restune.UserError, match="only one class"):
        open_dataset(photos)
    (tmp_path / "model.docx").write_bytes(b"")
    with pytest.raises(restune.UserError, match=r"\.docx"):
        open_dataset(tmp_path / "model.docx")


def test_classes_are_matched_by_name_never_shifted(photos):
    dataset = open_dataset(photos)
    turned = dataset.with_classes(("red", "blue"))
    assert [turned.classes[item.target] for item in turned.items] == [name for _, name, _ in expected()]
    with pytest.raises(restune.UserError, match="'red' that the model does not know"):
        dataset.with_classes(("blue", "green"))
    with pytest.raises(restune.UserError, match="'green' with no items"):
        dataset.with_classes(("blue", "green", "red"))
    assert len(dataset.with_classes(("blue", "green", "red"), allow_missing=True)) == 6


def test_the_fingerprint_follows_content_labels_and_order(photos):
    dataset = open_dataset(photos)
    first = dataset.fingerprint()
    assert open_dataset(photos).fingerprint() == first
    assert dataset.with_classes(("red", "blue")).fingerprint() != first
    (photos / "red" / "0.jpg").write_bytes(b"something else")
    assert open_dataset(photos).fingerprint() != first


def test_a_run_among_the_data_is_not_data(photos):
    expected = open_dataset(photos)
    for run in (photos / "run", photos / "runs" / "train-001"):
        (run / "checkpoints" / "epoch-001").mkdir(parents=True)
        (run / "recipe.yaml").write_text("epochs: 1")
        (run / "split.csv").write_text("item,split,reason")
        (run / "checkpoints" / "epoch-001" / "network.safetensors").write_bytes(b"x")
    found = open_dataset(photos)
    assert found.classes == expected.classes
    assert found.fingerprint() == expected.fingerprint()
    assert not found.not_taken
