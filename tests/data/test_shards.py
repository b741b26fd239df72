"""WebDataset shards: the same items as class folders, told apart from them, and one message for each mistake."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

import restune
from restune.core import console
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.preload import preload
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset, shards


def jpeg(shade=0):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), (shade, 90, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path, files):
    """A tar of (name, content) pairs; a content that is text is encoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def shard(path, labels, first=0):
    """A shard of one sample a label: 0000.jpg and 0000.cls, ..."""
    files = []
    for number, label in enumerate(labels, first):
        files += [(f"{number:04d}.cls", f"{label}\n"), (f"{number:04d}.jpg", jpeg(number))]
    return write(path, files)


def summary(dataset):
    return [(item.id, dataset.classes[item.target], item.split) for item in dataset.items]


@pytest.fixture
def folder(tmp_path):
    """Three shards of four samples, labels 0, 10 and 2."""
    for number in range(3):
        shard(tmp_path / "set" / f"set-{number:03d}.tar", [10, 2, 0, 2], first=4 * number)
    return tmp_path / "set"


EXPECTED = [(f"set-00{n // 4}/{n:04d}", ["10", "2", "0", "2"][n % 4], None) for n in range(12)]


def test_a_folder_a_range_and_single_shards(folder):
    dataset = open_dataset(folder)
    assert dataset.classes == ("0", "2", "10")
    assert summary(dataset) == EXPECTED
    assert [item.location.read() for item in dataset.items] == [jpeg(number) for number in range(12)]
    for data in (
        f"{folder}/set-{{000..002}}.tar",
        f"{folder}/set-00{{2,0,1}}.tar",
        f"{folder}/set-0{{0..0}}{{2..0}}.tar",
    ):
        assert summary(open_dataset(data)) == EXPECTED
        assert open_dataset(data).fingerprint() == dataset.fingerprint()
    for number in range(3):
        part = open_dataset(folder / f"set-00{number}.tar")
        assert summary(part) == EXPECTED[4 * number : 4 * number + 4]
    for path in list(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert open_dataset(folder).fingerprint() == dataset.fingerprint()
    assert summary(open_dataset(f"{folder}/set-{{000..002}}.tar.gz")) == EXPECTED


def test_a_folder_of_one_shard(tmp_path):
    shard(tmp_path / "set" / "train" / "0.tar", [0, 1])
    (tmp_path / "set" / "classnames.txt").write_text("cat\ndog\n")
    assert summary(open_dataset(tmp_path / "set")) == [("0/0000", "cat", None), ("0/0001", "dog", None)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{9..011}.tar", ["a-009.tar", "a-010.tar", "a-011.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("a{,-x}.tgz", ["a.tgz", "a-x.tgz"]),
        ("a-{2..0}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-{0..1}.jpg", []),
        ("a-{b}.tar", []),
        ("a.tar", []),
    ],
)
def test_braces(text, names):
    assert [str(path) for path in shards.expand(text)] == names


def test_mistakes_in_a_range(folder):
    with pytest.raises(restune.UserError, match=r"2 of these 5 shards are not there: set-003\.tar, set-004\.tar"):
        open_dataset(f"{folder}/set-{{000..004}}.tar")
    os.mkfifo(folder / "set-003.tar")
    with pytest.raises(restune.UserError, match=r"1 of these 4 shards are not there: set-003\.tar"):
        open_dataset(f"{folder}/set-{{000..003}}.tar")
    with pytest.raises(restune.UserError, match="more than 100,000 shards"):
        open_dataset(f"{folder}/set-{{0..999999999999999999}}.tar")
    with pytest.raises(restune.UserError, match="more than 100,000 shards"):
        open_dataset(f"{folder}/{{0..9999}}-{{0..9999}}.tar")
    with pytest.raises(restune.UserError, match="no such data"):
        open_dataset(f"{folder}/set-{{a..c}}.tar")


def test_forms_of_labels(tmp_path):
    """A name or an index, in .cls or under any of three keys; captions are no labels; .cls goes before .json."""
    files = [
        ("a.jpg", jpeg()), ("a.cls", " cat \n"), ("a.json", '{"label": "wrong"}'), ("a.txt", "a dog"),
        ("b.json", '{"caption": "x", "label": null, "class": "dog"}'), ("b.PNG", jpeg()),
        ("c.webp", jpeg()), ("c.json", '{"cls": "7"}'),
        ("deep/c.jpeg", jpeg()), ("deep/c.json", '{"label": 7}'), ("deep/c.mask.png", b"a part, and no image"),
    ]  # fmt: skip
    dataset = open_dataset(write(tmp_path / "s.tar", files))
    assert dataset.classes == ("7", "cat", "dog")
    assert summary(dataset) == [
        ("s/a", "cat", None),
        ("s/b", "dog", None),
        ("s/c", "7", None),
        ("s/deep/c", "7", None),
    ]


def test_the_order_of_files_in_a_shard_does_not_matter(tmp_path):
    """WebDataset wants a sample's files side by side; sorted by suffix they are not."""
    pictures = [(f"{number}.jpg", jpeg(number)) for number in range(4)]
    labels = [(f"{number}.cls", str(number % 2)) for number in range(4)]
    for files in (pictures + labels, labels + pictures):
        dataset = open_dataset(write(tmp_path / "s.tar", files))
        assert summary(dataset) == [(f"s/{number}", str(number % 2), None) for number in range(4)]


NAMES = {
    "classes.txt": "zebra\nant\ncow\r\n\n",
    "classnames.txt": "\ufeffzebra\nant\ncow",
    "classes.json": '["zebra", "ant", "cow"]',
    "classes.json ": '{"2": "cow", "0": "zebra", "1": "ant"}',
    "classes.json  ": '{"cow": 2, "zebra": 0, "ant": 1}',
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes(tmp_path, name):
    path = shard(tmp_path / "s.tar", [2, 0, 2])
    (tmp_path / name.strip()).write_text(NAMES[name], encoding="utf-8", newline="")
    dataset = open_dataset(path)
    assert dataset.classes == ("zebra", "cow")  # in the file's order, and only those with samples
    assert [label for _, label, _ in summary(dataset)] == ["cow", "zebra", "cow"]
    for side in ("train", "test"):
        shard(tmp_path / side / "0.tar", [2, 0])
    path.unlink()
    assert summary(open_dataset(tmp_path)) == [
        ("test/0/0000", "cow", "test"),
        ("test/0/0001", "zebra", "test"),
        ("train/0/0000", "cow", "train"),
        ("train/0/0001", "zebra", "train"),
    ]
    named = open_dataset(shard(tmp_path / "t.tar", ["cow", "zebra"]))
    assert named.classes == ("zebra", "cow")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classes.txt", "a\nb\n", "names 2 classes and none for the label 2"),
        ("classes.txt", "a\n\nb\n", "a class has no name"),
        ("classes.txt", "", "a class has no name"),
        ("classes.txt", "a\nb\na\n", "the class 'a' occurs twice"),
        ("classes.txt", b"\xff\xfe\n", "cannot be read"),
        ("classes.json", "[", "cannot be read"),
        ("classes.json", "[" * 100_000, "cannot be read"),
        ("classes.json", "[[0, 1]]", "neither a list of names"),
        ("classes.json", '{"a": 0, "b": 0}', "two classes have the same index"),
        ("classes.json", '{"a": -1, "b": 0}', "below 0"),
        ("classes.json", '{"one": "a", "two": "b"}', "cannot be read"),
    ],
)
def test_mistakes_in_names_of_classes(tmp_path, name, content, message):
    path = shard(tmp_path / "s.tar", [2, 0])
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(restune.UserError, match=message):
        open_dataset(path)


def test_labels_that_the_names_of_classes_lack(tmp_path):
    path = shard(tmp_path / "s.tar", ["cow", "cat"])
    (tmp_path / "classes.txt").write_text("cow\ndog\n")
    with pytest.raises(restune.UserError, match="none for the label cat"):
        open_dataset(path)
    for name, text in (("train", "cat\ndog\n"), ("test", "dog\ncat\n")):
        shard(tmp_path / "set" / name / "0.tar", [0, 1])
        (tmp_path / "set" / name / "classes.txt").write_text(text)
    with pytest.raises(restune.UserError, match="two files name different classes"):
        open_dataset(tmp_path / "set")


@pytest.mark.parametrize(
    "pattern", ["set-{side}-{n:02d}.tar", "{side}{n}.tar", "{side}/{n}.tar", "test_rig.{side}_of_x-{n}.tar"]
)
def test_sides(tmp_path, pattern):
    for side in ("train", "Validation", "test"):
        for number in range(2):
            shard(tmp_path / "set" / pattern.format(side=side, n=number), [0, 1])
    dataset = open_dataset(tmp_path / "set")
    assert dataset.splits() == {"train": 4, "val": 4, "test": 4}
    for item in dataset.items:
        assert {"train": "train", "val": "Validation", "test": "test"}[item.split] in item.id
    alone = pattern.replace("{side}", "test").replace("{n:02d}", "{00..01}").replace("{n}", "{0..1}")
    one = open_dataset(f"{tmp_path}/set/{alone}")
    assert one.splits() == {}  # named by itself, it is what is asked for
    assert len(one) == 4


def test_sides_beside_others(tmp_path):
    for name in ("x-train-0.tar", "x-test-0.tar", "x-extra-0.tar"):
        shard(tmp_path / name, [0, 1])
    with pytest.raises(restune.UserError, match=r"are mixed with others \(x-extra-0\)"):
        open_dataset(tmp_path)
    crash = [shard(tmp_path / "crash" / f"crash-test-{number}.tar", [0, 1]) for number in range(2)]
    assert len(crash) == 2
    assert open_dataset(tmp_path / "crash").splits() == {}


def test_what_is_left_out_is_said_with_its_reason(tmp_path, capsys):
    good = [("g0.jpg", jpeg()), ("g0.cls", "0"), ("g1.jpg", jpeg()), ("g1.cls", "1")]
    bad = [
        ("n0.jpg", jpeg()), ("n1.jpg", jpeg()), ("n1.cls", "-1"), ("n2.jpg", jpeg()), ("n2.json", "[3]"),
        ("several.jpg", jpeg()), ("several.png", jpeg()), ("several.cls", "1"),
        ("lone.cls", "1"), ("dotted.name.jpg", jpeg()), ("dotted.name.cls", "1"),
        ("l0.jpg", jpeg()), ("l0.json", '{"label": [1, 2]}'), ("l1.jpg", jpeg()), ("l1.json", '{"label": true}'),
        ("l2.jpg", jpeg()), ("l2.cls", "x" * 300), ("l3.jpg", jpeg()), ("l3.cls", "two\nlines"),
        ("j.jpg", jpeg()), ("j.json", "{"), ("u.jpg", jpeg()), ("u.cls", b"\xff\xfe"),
        ("big.jpg", jpeg()), ("big.cls", b" " * (2**20 + 1)),
    ]  # fmt: skip
    dataset = open_dataset(write(tmp_path / "s.tar", good + bad))
    assert [item.id for item in dataset.items] == ["s/g0", "s/g1"]
    said = capsys.readouterr().err
    for reason in (
        "3 have no label",
        "1 have several images, such as s/several",
        "2 have no image KEY.jpg",
        "4 have a label that is not a class index or name, such as s/l0",
        "1 have a .json file that cannot be parsed, such as s/j",
        "1 have a label file that is not UTF-8 text, such as s/u",
        "1 have a label file of more than 1 MiB, such as s/big",
    ):
        assert f"warning: samples are skipped: {reason}" in said
    assert said.count("warning") == 7


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.jpg", b"x"), ("a.cls", "")], "1 have no label"),
        ([("a.jpg", b"x"), ("a.json", '{"caption": "x"}')], "1 have no label"),
        ([("a.jpg", b"x"), ("a.cls", "0"), ("a.cls", "1")], "occurs twice in this shard"),
        ([("a.jpg", b"x"), ("a.cls", "0"), ("./a.jpg", b"y")], "occurs twice in this shard"),
        ([("a.jpg", b"x"), ("a.cls", "0")], "only one class"),
        ([("a.txt", b"x"), ("b.txt", "0")], "no images"),
    ],
)
def test_shards_that_cannot_be_used(tmp_path, files, message):
    with pytest.raises(restune.UserError, match=message):
        open_dataset(write(tmp_path / "s.tar", files))


def test_two_tars_without_labels(photos, tmp_path):
    for name in ("a.tar", "b.tar"):
        files = [(path.relative_to(photos).as_posix(), path.read_bytes()) for path in photos.rglob("*.jpg")]
        write(tmp_path / "set" / name, files)
    with pytest.raises(restune.UserError, match=r"12 have no label[\s\S]*class folders is given by itself"):
        open_dataset(tmp_path / "set")


def test_class_folders_stay_class_folders(photos, tmp_path):
    """Whatever lies about an image, such as its camera's settings, is no label; and an archive beside is nothing."""
    expected = summary(open_dataset(photos))
    for name, content in (("meta", '{"camera": "x"}'), ("list", "[1]"), ("broken", "{")):
        (photos / "red" / "0.json").write_text(content)
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            tar.add(photos, arcname="pack")
        assert summary(open_dataset(tmp_path / f"{name}.tar")) == expected
    shard(photos / "old.tar", ["ox", "cow"])
    assert summary(open_dataset(photos)) == expected
    (tmp_path / "single").mkdir()
    shutil.copy(tmp_path / "meta.tar", tmp_path / "single")
    assert summary(open_dataset(tmp_path / "single")) == expected


def test_labels_beside_images_win_over_folders(tmp_path):
    files = [("x/a.jpg", jpeg()), ("x/a.cls", "0"), ("y/b.jpg", jpeg()), ("y/b.cls", "1")]
    assert summary(open_dataset(write(tmp_path / "s.tar", files))) == [("s/x/a", "0", None), ("s/y/b", "1", None)]
    files = [("x/a.jpg", jpeg()), ("x/a.json", '{"label": 0}'), ("y/b.jpg", jpeg()), ("y/b.json", '{"label": 1}')]
    assert summary(open_dataset(write(tmp_path / "s.tar", files))) == [("s/x/a", "0", None), ("s/y/b", "1", None)]


def test_hostile_names(tmp_path, capsys):
    files = []
    for number, name in enumerate(("/etc/a", "../../b", "./c", "//d", "x\nwith,\"'<b>", "\udcff")):
        files += [(f"{name}.cls", str(number % 2)), (f"{name}.jpg", jpeg(number))]
    files += [("__MACOSX/._c.jpg", b"x"), (".hidden/e.jpg", b"x"), (".jpg", b"x"), ("model.pkl", b"cos\nsystem\n.")]
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", errors="surrogateescape") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content if isinstance(content, bytes) else content.encode()))
    before = sorted(tmp_path.rglob("*"))
    dataset = open_dataset(path)
    ids = [item.id for item in dataset.items]
    assert ids == ["s/etc/a", "s/b", "s/c", "s/d", "s/x\nwith,\"'<b>", "s/\ufffd"]
    assert [item.location.read() for item in dataset.items] == [jpeg(number) for number in range(6)]
    assert sorted(tmp_path.rglob("*")) == before  # nothing was extracted
    # hidden files are no samples that lack something, and what is no sample is said
    assert capsys.readouterr().err == "1 file not read: 1 .pkl in .\n"


def test_links_and_special_files(tmp_path, capsys):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, content in (("a.jpg", jpeg(1)), ("a.cls", b"0"), ("b.cls", b"1"), ("c.cls", b"1"), ("d.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, kind, target in (
            ("b.jpg", tarfile.LNKTYPE, "a.jpg"),
            ("c.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("d.jpg", tarfile.FIFOTYPE, ""),
            ("e.jpg", tarfile.LNKTYPE, "nowhere.jpg"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            tar.addfile(link)
    dataset = open_dataset(tmp_path / "s.tar")
    assert summary(dataset) == [("s/a", "0", None), ("s/b", "1", None)]
    assert dataset.items[1].location.read() == jpeg(1)
    said = capsys.readouterr().err
    assert "3 members of s.tar are links or special files and are left out" in said
    assert "2 have no image" in said


def test_a_cut_shard(tmp_path, capsys):
    path = shard(tmp_path / "s.tar", [0, 1, 0])
    content = path.read_bytes()
    end = 3 * 2 * 512 + 3 * 512 + sum(-(-len(jpeg(number)) // 512) * 512 for number in range(3))
    assert content[end:].strip(b"\0") == b""
    assert len(open_dataset(path)) == 3
    for cut in (end - 1, end - 512, end + 100 - len(jpeg(2)), 700):
        path.write_bytes(content[:cut])
        with pytest.raises(restune.UserError, match="cannot be read"):
            open_dataset(path)
    header = content.index(b"0002.jpg")
    path.write_bytes(content[: header + 100])
    with pytest.raises(restune.UserError, match=f"header at byte {header} is damaged or cut"):
        open_dataset(path)
    damaged = bytearray(content)
    damaged[header] = 0xFF
    path.write_bytes(damaged)
    with pytest.raises(restune.UserError, match=f"header at byte {header} is damaged or cut"):
        open_dataset(path)
    path.write_bytes(content[:end])
    assert "no end mark" not in capsys.readouterr().err
    assert len(open_dataset(path)) == 3
    assert "s.tar has no end mark" in capsys.readouterr().err
    path.write_bytes(b"")
    with pytest.raises(restune.UserError, match="cannot be read"):
        open_dataset(path)


def test_a_negative_size_does_not_go_round_for_ever(tmp_path):
    path = shard(tmp_path / "s.tar", [0, 1])
    content = bytearray(path.read_bytes())
    start = content.index(b"0001.cls")
    content[start + 124 : start + 136] = (-512).to_bytes(12, "big", signed=True)  # back to this header
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    path.write_bytes(content)
    with pytest.raises(restune.UserError, match="cannot be read"):
        open_dataset(path)


def test_only_headers_and_labels_are_read(tmp_path):
    """An image of 3 GiB costs nothing to index; reading it is refused."""
    with (tmp_path / "s.tar").open("wb") as file:
        for name, size in (("a.jpg", 3 * 2**30), ("a.cls", 1), ("b.jpg", 3 * 2**30), ("b.cls", 1)):
            member = tarfile.TarInfo(name)
            member.size = size
            file.write(member.tobuf())
            start = file.tell()
            if size == 1:
                file.write(name[:1].encode())
            file.seek(start + -(-size // 512) * 512)  # a hole
        file.write(bytes(1024))
    dataset = open_dataset(tmp_path / "s.tar")
    assert dataset.classes == ("a", "b")
    with pytest.raises(ValueError, match="larger than"):
        dataset.items[0].location.read()


def test_a_sparse_file_is_no_image(tmp_path):
    """Its bytes do not stand in the tar as they are."""
    path = write(tmp_path / "s.tar", [("a.jpg", jpeg()), ("a.cls", "0"), ("b.jpg", jpeg()), ("b.cls", "1")])
    content = bytearray(path.read_bytes())
    start = content.index(b"b.jpg")
    content[start + 156] = ord("S")
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    path.write_bytes(content)
    with pytest.raises(restune.UserError, match="only one class"):
        open_dataset(path)


@pytest.fixture
def pair(photos, tmp_path):
    """The same files as class folders and, in the same order, as three shards with named classes."""
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    for number in range(3):
        files = []
        for name in names[2 * number : 2 * number + 2]:
            key = name.replace("/", "-").removesuffix(".jpg")
            files += [(f"{key}.jpg", (photos / name).read_bytes()), (f"{key}.cls", str(int(name.startswith("red"))))]
        write(tmp_path / "set" / f"photos-{number}.tar", files)
    (tmp_path / "set" / "classes.txt").write_text("blue\nred\n")
    return open_dataset(photos), open_dataset(tmp_path / "set")


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_are_those_of_class_folders(pair, in_memory):
    preprocess, augment = ImagePreprocess(crop=16, resize=18), Augment(crop_scale=(0.3, 1.0), flip=True)
    made = []
    for dataset in pair:
        preloaded = preload(dataset.items, preprocess, store_size=None, as_seen=False, in_memory=in_memory)
        assert not preloaded.unreadable
        batches = TrainingBatches(
            items=dataset.items,
            classes=2,
            preprocess=preprocess,
            augment=augment,
            batch_size=3,
            seed=1,
            preloaded=preloaded,
            workers=2,
        )
        made.append([(batch.samples, batch.targets) for batch in batches.epoch(0, 0)])
    assert len(made[0]) == len(made[1]) == 2
    for (images, targets), (other_images, other_targets) in zip(*made, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(targets, other_targets)
    assert pair[0].classes == pair[1].classes


def test_a_network_trained_and_scored_on_shards_is_that_of_class_folders(pair, tmp_path):
    settings = {"spec.width": 4, "spec.depths": [1], "schedule.warmup_epochs": 0, "min_class_items": 1}
    options = {"model": "resnet8", "epochs": 1, "batch_size": 2, "image_size": 16, "threads": 1, "set": settings}
    weights, scores = [], []
    for number, data in enumerate((pair[0].source, pair[1].source)):
        run = restune.train(data, out=tmp_path / f"run-{number}", **options)
        scored = restune.evaluate(run.model, data, split="all")
        weights.append(run.model.module.state_dict())
        scores.append((scored.n, scored.classes, scored.confusion.tolist()))
    assert scores[0] == scores[1]
    assert scores[0][:2] == (6, ("blue", "red"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_what_webdataset_would_read(folder):
    """WebDataset's rule for keys: up to the first dot of the file's name, its folder included."""
    for name, key in (("a/b.c/d.e.jpg", ("a/b.c/d", "e.jpg")), ("d.JPG", ("d", "jpg")), ("d", ("d", ""))):
        assert shards._split(name) == key


def test_labels_in_json_may_be_anything_readable(tmp_path):
    files = []
    for number, label in enumerate(["0", 1, " 1 ", "01"]):
        files += [(f"{number}.jpg", jpeg()), (f"{number}.json", json.dumps({"label": label}))]
    assert [label for _, label, _ in summary(open_dataset(write(tmp_path / "s.tar", files)))] == ["0", "1", "1", "1"]


def test_an_index_is_stored_and_read_instead_of_the_shards(folder, monkeypatch, capsys):
    write(folder / "set-003.tar", [("zz.jpg", jpeg()), ("notes.txt", "x"), ("0100.jpg", jpeg()), ("0100.cls", "2")])
    before = open_dataset(folder)
    said = capsys.readouterr().err
    assert "samples are skipped: 1 have no label" in said
    assert len(list((Path(os.environ["RESTUNE_CACHE"]) / "shards").iterdir())) == 4
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        again = open_dataset(folder)
    assert list(again.items) == list(before.items)
    assert (again.classes, again.not_taken) == (before.classes, before.not_taken)
    assert capsys.readouterr().err == said


def test_an_index_is_made_again_for_a_changed_shard_or_a_damaged_file(folder):
    before = summary(open_dataset(folder))
    for path in (Path(os.environ["RESTUNE_CACHE"]) / "shards").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    assert summary(open_dataset(folder)) == before
    shard(folder / "set-001.tar", [10, 10, 10, 10], first=4)
    assert [label for name, label, _ in summary(open_dataset(folder)) if "set-001" in name] == ["10"] * 4


def test_shards_are_read_without_a_cache_folder(folder, monkeypatch, capsys, tmp_path):
    before = summary(open_dataset(folder))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(console, "_warned", set())
    assert summary(open_dataset(folder)) == before
    assert capsys.readouterr().err.count("the index of shards cannot be stored") == 1
