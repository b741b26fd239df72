"""Tables as people's programs write them: quotes, escapes, blanks, separators, headers, names of columns."""

from __future__ import annotations

import pytest

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset


def opened(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_dataset(path, DataOptions(**options))


def rows(dataset):
    texts = [item.location.read() if dataset.kind == "text" else item.id for item in dataset.items]
    return [(text, dataset.classes[item.target]) for text, item in zip(texts, dataset.items, strict=True)]


def test_line_ends_in_quotes_of_a_large_table_of_paths(photos):
    count = 60_000  # 20 MiB, of which a block is read at a time
    written = '"a note\nover lines' + ", and more of it\n" * 18 + '"'
    lines = [f"photo{n}.jpg,{written},{'xy'[n % 2]}" for n in range(count)]
    dataset = opened(photos / "t.csv", "\r\n".join(["path,note,label", *lines]))
    assert len(dataset) == count
    assert dataset.class_counts() == {"x": count // 2, "y": count // 2}


def test_line_ends_that_come_late(photos):
    plain = "".join(f"a{n}.jpg,,{n % 2}\n" for n in range(200_000))
    dataset = opened(photos / "t.csv", f'path,note,label\n{plain}b.jpg,"two\nlines",1\n')
    assert len(dataset) == 200_001


def test_quotes_behind_backslashes(tmp_path):
    content = "text,label\n" + "".join(f'"he said \\"no, {n}\\" and went",{"ab"[n % 2]}\n' for n in range(6))
    dataset = opened(tmp_path / "t.csv", content)
    assert rows(dataset)[1] == ('he said "no, 1" and went', "b")


def test_separators_behind_backslashes(tmp_path):
    content = "text,label\n" + "".join(f"one\\, two and number {n},{'ab'[n % 2]}\n" for n in range(6))
    assert rows(opened(tmp_path / "t.csv", content))[0] == ("one, two and number 0", "a")


def test_backslashes_of_windows_are_no_escapes(photos):
    dataset = opened(photos / "t.csv", 'path,label\n"red\\0.jpg","a"\n"blue\\1.jpg","b"\n')
    assert [item.id for item in dataset.items] == ["red\\0.jpg", "blue\\1.jpg"]


@pytest.mark.parametrize(
    "content",
    [
        "label, path\na, red/0.jpg\nb, blue/0.jpg\n",
        ' "label" , "path"\n "a", "red/0.jpg"\n "b", "blue/0.jpg"\n',
        "\ufefflabel ;path\na ;red/0.jpg\nb ;blue/0.jpg\n",
        "label\tpath\na\tred/0.jpg\nb\tblue/0.jpg\n",
        '"label"\t"path"\n"a"\t"red/0.jpg"\n"b"\t"blue/0.jpg"\n',
    ],
)
def test_blanks_and_separators(photos, content):
    dataset = opened(photos / "t.csv", content)
    assert rows(dataset) == [("red/0.jpg", "a"), ("blue/0.jpg", "b")]
    assert all(item.location.read() for item in dataset.items)


def test_commas_in_texts_are_no_separators(tmp_path):
    content = "label;text, as it was written, here\n" + "".join(
        f"{'ab'[n % 2]};well, this{', too,' * (n % 2)} is {n}\n" for n in range(6)
    )
    dataset = opened(tmp_path / "t.csv", content, text_column="text, as it was written, here")
    assert rows(dataset)[1] == ("well, this, too, is 1", "b")


@pytest.mark.parametrize(
    "label", ["labels", "tags", "target", "category", "class_name", "Class Name", "className", "age"]
)
@pytest.mark.parametrize("path", ["filename", "image_path", "img", "Image Path", "url", "imageFile"])
def test_usual_names_of_columns(photos, label, path):
    dataset = opened(photos / "t.csv", f"n,{path},{label}\n1,red/0.jpg,a\n2,blue/0.jpg,b\n")
    assert rows(dataset) == [("red/0.jpg", "a"), ("blue/0.jpg", "b")]


def test_no_header_is_seen_and_said(photos, capsys):
    dataset = opened(photos / "t.csv", "red/0.jpg,a\nred/1.jpg,a\nblue/0.jpg,b\n")
    assert rows(dataset) == [("red/0.jpg", "a"), ("red/1.jpg", "a"), ("blue/0.jpg", "b")]
    assert "--no-header" in capsys.readouterr().err
    dataset = opened(photos / "u.csv", "b0,a\nb1,a\nb2,b\nb3,b\n", root=photos / "blue")
    assert [item.id for item in dataset.items] == ["b0", "b1", "b2", "b3"]


def test_no_header_named_finds_its_columns(photos):
    dataset = opened(photos / "t.csv", "7,a,red/0.jpg\n8,a,red/1.jpg\n9,b,blue/0.jpg\n", header=False)
    assert rows(dataset)[2] == ("blue/0.jpg", "b")


def test_a_header_that_looks_like_numbers_names_the_option(tmp_path):
    with pytest.raises(restune.UserError, match="--no-header"):
        opened(tmp_path / "t.csv", "17,3.5\n18,2.5\n")


def test_an_item_listed_twice_names_both_rows_and_labels(photos):
    with pytest.raises(restune.UserError, match="listed twice, as 'a' and as 'b'") as error:
        opened(photos / "t.csv", "path,label\nred/0.jpg,a\nblue/0.jpg,b\nred/0.jpg,b\n")
    assert "rows 2 and 4: red/0.jpg" in str(error.value)


def test_a_split_that_is_not_there_says_what_is(photos):
    with pytest.raises(restune.UserError) as error:
        open_dataset(photos).select("test")
    assert "no named splits" not in str(error.value)
    assert "--split all" in str(error.value)
    dataset = opened(photos / "t.csv", "path,label,split\nred/0.jpg,a,train\nblue/0.jpg,b,val\n")
    with pytest.raises(restune.UserError, match=r"train \(1 items\), val \(1 items\)"):
        dataset.select("test")
