"""Lines as fastText has them: one label is read, several are refused, and what is odd is said."""

from __future__ import annotations

import pytest

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset


def opened(path, *lines, repeat=10, end="\n", **options):
    path.write_bytes((end.join(lines * repeat) + end).encode())
    return open_dataset(path, DataOptions(**options))


def rows(dataset):
    return [(dataset.classes[item.target], item.location.read()) for item in dataset.items]


@pytest.mark.parametrize("name", ["cooking.train", "data.txt", "data"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_label_is_read_without_its_mark(tmp_path, name, end):
    lines = (
        "__label__food-safety is this egg still good ?",
        "__label__baking\tmy cake , and its top",
        "how to fry __label__pan",
    )
    dataset = opened(tmp_path / name, *lines, end=end)
    assert dataset.classes == ("baking", "food-safety", "pan")
    assert rows(dataset)[:3] == [
        ("food-safety", "is this egg still good ?"),
        ("baking", "my cake , and its top"),
        ("pan", "how to fry"),
    ]
    assert dataset.reading == "30 texts, one per line after its __label__ label (3 classes)"


def test_many_classes_are_recognised(tmp_path):
    lines = [f"__label__class-{number // 2} some words of line {number}" for number in range(300)]
    assert len(opened(tmp_path / "data.txt", *lines, repeat=1).classes) == 150


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("__label__knives __label__steel which one is sharp", "__label__knives, __label__steel"),
        ("__label__knives, __label__steel which one is sharp", "__label__knives, __label__steel"),
        ("__label__a,__label__b,__label__c which one is sharp", "__label__a, __label__b, __label__c"),
        ("__label__knives which one is sharp __label__steel", "__label__knives, __label__steel"),
        ("__label__knives\t__label__steel\twhich one", "__label__knives, __label__steel"),
    ],
)
@pytest.mark.parametrize("kind", [None, "text"])
def test_several_labels_are_refused(tmp_path, line, seen, kind):
    lines = ["__label__knives a text with one label", "__label__steel another text"] * 20
    with pytest.raises(restune.UserError) as caught:
        opened(tmp_path / "data.txt", *lines, line, repeat=1, kind=kind)
    assert caught.value.what == f"1 of 41 texts have several labels; line 41 has {seen.count('__label__')}: {seen}"
    assert "one label" in caught.value.fix


def test_several_labels_in_a_table_are_refused(tmp_path):
    with pytest.raises(restune.UserError, match=r"several labels, such as '__label__a __label__b'.*\n.*column 'label'"):
        opened(
            tmp_path / "table.csv", "text,label", "some words,__label__a", "more words,__label__a __label__b", repeat=1
        )


def test_a_line_without_a_label_is_named(tmp_path):
    lines = [f"__label__{'ab'[number % 2]} a text" for number in range(20)]
    with pytest.raises(restune.UserError, match=r"no label\n.*line 21\n.*__label__NAME"):
        opened(tmp_path / "data.txt", *lines, "no label here", repeat=1)


@pytest.mark.parametrize("mark", ["", "__label__"])
def test_lines_with_a_label_only_are_said(tmp_path, capsys, mark):
    lines = [f"{mark}{'ab'[number % 2]} a text of words" for number in range(20)]
    dataset = opened(tmp_path / "data.txt", *lines, f"{mark}a", "", f"{mark}b ", repeat=1, end="\r\n")
    assert rows(dataset)[-2:] == [("a", ""), ("b", "")]
    assert "data.txt: 2 texts are empty (lines 21, 23)" in capsys.readouterr().err
