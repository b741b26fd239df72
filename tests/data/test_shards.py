"""WebDataset shards: labels, class names and splits; told apart from class folders, and the same items as they give."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
import torch

import restune
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.preload import preload
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset, shards

sys.path.insert(0, str(Path(__file__).parents[1]))
from tar_files import jpeg, shard, summary, three_shards, write


@pytest.fixture
def folder(tmp_path):
    return three_shards(tmp_path / "set")


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
