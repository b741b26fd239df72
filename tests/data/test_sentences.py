"""Texts in every form give the same items; every mistake in one is one message with its line."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

import restune
from restune.data.dataset import DataOptions
from restune.data.encodings import find_encoding
from restune.data.sources import open_dataset
from restune.data.sources.sentences import group_duplicates
from restune.data.splits import split_dataset

CHINESE = "这部电影的故事非常感人，演员的表演也很出色。"
WORSE = "情节拖沓，台词生硬，看到一半我就睡着了。"
LINES = "".join(f"{label} a text of number {number}\n" for number in range(4) for label in ("pos", "neg"))


def opened(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_dataset(path, DataOptions(**options))


def rows(dataset):
    return [(dataset.classes[item.target], item.location.read()) for item in dataset.items]


def test_real_lines(real_data, capsys):
    train = open_dataset(real_data / "text" / "TREC.train.all")
    test = open_dataset(real_data / "text" / "TREC.test.all")
    assert (train.kind, len(train), len(test)) == ("text", 5452, 500)
    assert train.classes == test.classes == tuple("012345")
    assert train.class_counts() == {"0": 1162, "1": 1250, "2": 86, "3": 1223, "4": 835, "5": 896}  # Li & Roth 2002
    assert rows(train)[1] == ("1", "What films featured the character Popeye Doyle ?")
    assert sum("ð" in text for _, text in rows(train)) == 1
    assert "TREC.train.all is not UTF-8 and is read as cp1252" in capsys.readouterr().err
    reviews = open_dataset(real_data / "text" / "rt-polarity.all")
    assert reviews.class_counts() == {"0": 5331, "1": 5331}  # Pang & Lee 2005
    assert any("naïve" in text for _, text in rows(reviews))


def test_a_real_table_without_header_and_with_quotes_that_quote_nothing(real_data, capsys):
    path = real_data / "text" / "sms.tsv"
    dataset = open_dataset(path)
    assert dataset.class_counts() == {"ham": 4827, "spam": 747}  # Almeida et al. 2011
    assert "has no header" in capsys.readouterr().err
    lines = [tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert rows(dataset) == lines
    assert rows(open_dataset(path, DataOptions(header=False))) == lines
    options = DataOptions(header=False, label_column="0", text_column="1", kind="text")
    assert rows(open_dataset(path, options)) == lines


def test_real_duplicates_stay_on_one_side(real_data):
    dataset = group_duplicates(open_dataset(real_data / "text" / "sms.tsv"))
    splits = split_dataset(dataset, val=0.2, test=None, unreadable={}, seed=0)
    train, val = ({item.location.read() for item in side.items} for side in (splits.train, splits.val))
    assert not train & val
    assert len(splits.train) + len(splits.val) == 5574
    assert abs(len(splits.val) - 5574 / 5) < 60


@pytest.mark.parametrize("name", ["data.txt", "data.all", "data.data", "data"])
def test_lines(tmp_path, name):
    dataset = opened(tmp_path / name, LINES.replace("\n", "\r\n"))
    assert (dataset.kind, dataset.classes) == ("text", ("neg", "pos"))
    assert rows(dataset)[:2] == [("pos", "a text of number 0"), ("neg", "a text of number 0")]
    assert [item.id for item in dataset.items][:2] == ["1", "2"]


def test_labels_before_a_tab_may_have_spaces(tmp_path):
    lines = "".join(f"{label}\ttext number {n}\n" for n in range(4) for label in ("very good", "bad"))
    assert opened(tmp_path / "data.txt", lines).classes == ("bad", "very good")


def test_only_a_line_feed_ends_a_line(tmp_path):
    mark = "\u2028\u0085\x0b\x1c"
    assert len(opened(tmp_path / "data.txt", LINES.replace("number", f"nu{mark}mber"))) == 8


def test_prose_and_garbage_are_no_lines_of_texts(tmp_path):
    prose = "It was the best of times,\nit was the worst of times,\nthe age of wisdom,\nand of foolishness\n"
    for content in (prose.encode(), bytes(range(256)) * 20, b"", b"\n\n", b"\0" * 100, LINES.encode() + b"\0" * 9):
        with pytest.raises(restune.UserError):
            opened(tmp_path / "data.txt", content)
    with pytest.raises(restune.UserError, match="different words"):
        opened(tmp_path / "data.txt", prose, kind="text")
    with pytest.raises(restune.UserError, match=r"no label\n.*line 9"):
        opened(tmp_path / "data.txt", LINES + " no label here\n", kind="text")


@pytest.mark.parametrize("form", [".csv", ".tsv", ".parquet"])
def test_a_table(tmp_path, form):
    columns = {
        "id": ["1", "2", "3"],
        "review": ['He said "no",\nand left', CHINESE, "plain"],
        "label": ["b", "a", "b"],
        "split": ["train", "test", "train"],
        "writer": ["x", "y", "x"],
    }
    path = tmp_path / f"table{form}"
    if form == ".parquet":
        parquet.write_table(pa.table(columns), path)
    else:
        quoted = [
            [f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row] for row in zip(*columns.values(), strict=True)
        ]
        lines = [list(columns), *quoted]
        path.write_text("\n".join(("\t" if form == ".tsv" else ",").join(line) for line in lines))
    dataset = open_dataset(path, DataOptions(group_column="writer"))
    assert dataset.kind == "text"
    assert rows(dataset) == [("b", 'He said "no",\nand left'), ("a", CHINESE), ("b", "plain")]
    assert [item.split for item in dataset.items] == ["train", "test", "train"]
    assert [item.group for item in dataset.items] == ["x", "y", "x"]
    assert [item.location.read() for item in open_dataset(path, DataOptions(text_column="writer")).items] == [*"xyx"]


def test_a_column_is_recognised_by_what_stands_in_it(tmp_path):
    text = "label,remark\n" + "".join(f"{n % 2},this is a long remark of number {n}\n" for n in range(9))
    assert rows(opened(tmp_path / "table.csv", text))[3] == ("1", "this is a long remark of number 3")


def test_pictures_with_captions_stay_pictures(tmp_path):
    text = "image,caption,label\n" + "".join(f"{n}.jpg,a long caption of a picture {n},{n % 2}\n" for n in range(9))
    assert opened(tmp_path / "table.csv", text).kind == "image"
    assert opened(tmp_path / "table.csv", text, text_column="caption", kind="text").kind == "text"


def test_one_long_text(tmp_path):
    long = "long " * 2_000_000
    dataset = opened(tmp_path / "table.csv", f"text,label\n{long},a\nshort,b\n")
    assert rows(dataset) == [("a", long), ("b", "short")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "latin-1"])
@pytest.mark.parametrize("form", ["table.csv", "lines.txt"])
def test_encodings_are_found(tmp_path, encoding, form):
    texts = ["déjà vu à Genève", "naïveté"] if encoding == "latin-1" else [CHINESE, WORSE]
    head, mark = ("label,text\n", ",") if form == "table.csv" else ("", " ")
    content = head + "".join(
        f"{label}{mark}{text}\n" for _ in range(3) for label, text in zip("ab", texts, strict=True)
    )
    dataset = opened(tmp_path / form, content.encode(encoding))
    assert rows(dataset)[:2] == list(zip("ab", texts, strict=True))
    if encoding != "utf-8-sig":
        assert rows(opened(tmp_path / form, content.encode(encoding), encoding=encoding)) == rows(dataset)


def test_chinese_column_names(tmp_path, capsys):
    content = "标签,文本\n" + f"好,{CHINESE}\n差,{WORSE}\n" * 2
    for encoding in ("gb18030", "utf-8"):
        assert rows(opened(tmp_path / "table.csv", content.encode(encoding)))[:2] == [("好", CHINESE), ("差", WORSE)]
        assert ("table.csv is not UTF-8 and is read as gb18030" in capsys.readouterr().err) == (encoding == "gb18030")
    with pytest.raises(restune.UserError, match="looks like paths or texts; the columns are '甲', '乙'"):
        opened(tmp_path / "table.csv", "甲,乙\n人,好\n天,差\n天,好\n".encode("gb18030"))
    series = "标签,0,1\n好,1,2\n差,3,4\n".encode("gb18030")
    assert sorted(opened(tmp_path / "table.csv", series).classes) == sorted("好差")
    images = "path,标签\na.jpg,好的\nb.jpg,差的\n".encode("gb18030")
    assert opened(tmp_path / "table.csv", images).classes == ("好的", "差的")
    assert capsys.readouterr().err.count("read as gb18030") == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_left_unread_does_not_end_the_process(tmp_path, encoding):
    """Arrow's thread that reads ahead must not be in Python when Python ends (exit code 134), nor wait for it."""
    lines = (f"a text of number {number},{number % 2}\n" for number in range(200_000))
    (tmp_path / "table.csv").write_text("text,label\n" + "".join(lines), encoding=encoding)
    script = (
        "import sys; from pathlib import Path; from restune.data.dataset import DataOptions\n"
        "from restune.data.sources.readers import TextTable\n"
        "table = TextTable(Path(sys.argv[1]), DataOptions(), sys.argv[2])\n"
        "left = table.batches([0]); next(left)"
    )
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "table.csv", encoding], timeout=240, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("form", ["table.csv", "lines.txt"])
def test_bytes_that_the_encoding_does_not_have_are_named_by_line(tmp_path, form):
    content = ("label,text\n" if form == "table.csv" else "").encode() + LINES.encode() + b"pos caf\xe9 au lait\n"
    line = content.count(b"\n")
    with pytest.raises(restune.UserError, match=rf"0xe9 is not valid utf-8 here\n.*{form}, line {line}"):
        opened(
            tmp_path / form,
            content,
            encoding="utf-8",
            kind="text",
            **({"text_column": "text"} if "csv" in form else {}),
        )
    with pytest.raises(restune.UserError, match="no encoding 'hex'"):
        opened(tmp_path / form, content, encoding="hex", kind="text")
    with pytest.raises(restune.UserError, match="no encoding 'klingon'"):
        opened(tmp_path / form, content, encoding="klingon", kind="text")


def test_a_byte_order_mark_is_no_promise(tmp_path):
    content = (LINES * 2).encode("utf-16") + b"\0"
    with pytest.raises(restune.UserError, match="0x00 is not valid utf-16 here"):
        opened(tmp_path / "lines.txt", content)


def test_the_encoding_that_is_found():
    assert find_encoding([CHINESE.encode("gb18030")[:5], CHINESE.encode("gb18030")[5:]]) == "gb18030"
    assert find_encoding(["Stra\xdfe".encode("latin-1")]) == "cp1252"  # ß and e are one character in gb18030
    assert find_encoding([b"\x81\xff\xff"]) == "latin-1"
    assert find_encoding([b""]) == find_encoding([b"plain"]) == "utf-8"
    assert find_encoding([CHINESE.encode()[:-1]]) != "utf-8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na b,x\nc d,\n", r"row 3"),
        ("text,label,text\na,x,b\n", "twice"),
        ("text,label\na,x,b\n", "cannot be read"),
        ("text,kind\na,x\n", "--label-column"),
        ("text,label\n", "no items"),
        ("text,label,split\na,x,train\nb,y,blue\n", "'blue' is not a split"),
        ('text,label\n"a,x\nb,y\n', "cannot be read|no items|no label"),
        ("", "empty"),
        ("label\na\nb\n", "--path-column"),
    ],
)
def test_mistakes_in_a_table(tmp_path, content, message):
    with pytest.raises(restune.UserError, match=message):
        opened(tmp_path / "table.csv", content)


def test_a_text_may_be_missing(tmp_path, capsys):
    assert rows(opened(tmp_path / "table.csv", "text,label\n,x\nwords,y\n")) == [("x", ""), ("y", "words")]
    assert "1 texts are empty" in capsys.readouterr().err


def test_a_column_that_is_not_there(tmp_path):
    with pytest.raises(restune.UserError, match="Did you mean 'remark'"):
        opened(tmp_path / "table.csv", "remark,label\na b,x\n", text_column="remarks")


def test_folders_of_texts(tmp_path):
    for split, name, text in (("train", "good", CHINESE), ("train", "bad", WORSE), ("test", "bad", WORSE)):
        (tmp_path / split / name).mkdir(parents=True)
        (tmp_path / split / name / "1.txt").write_bytes(text.encode("gb18030"))
    dataset = open_dataset(tmp_path)
    assert (dataset.kind, dataset.classes) == ("text", ("bad", "good"))
    assert dataset.splits() == {"train": 2, "test": 1}
    groups = {item.id: item.group for item in group_duplicates(dataset).items}
    assert groups["test/bad/1.txt"] == groups["train/bad/1.txt"] is not None
    assert groups["train/good/1.txt"] is None
    with pytest.raises(restune.UserError, match="no images"):
        open_dataset(tmp_path, DataOptions(kind="image"))


def test_equal_texts_are_one_group_and_take_theirs_along(tmp_path, capsys):
    text = "text,label,writer\nSame  text,a,p\nsame TEXT ,b,q\nother,a,q\nalone,b,r\nother,a,s\n"
    dataset = group_duplicates(opened(tmp_path / "table.csv", text, group_column="writer"))
    groups = [item.group for item in dataset.items]
    assert groups[0] == groups[1] == groups[2] == groups[4]
    assert groups[3] == "r"
    assert "4 items repeat the text of another (2 texts)" in capsys.readouterr().err
    assert [item.group for item in group_duplicates(dataset).items] == groups
    plain = group_duplicates(opened(tmp_path / "table.csv", "text,label\none,a\ntwo,b\n"))
    assert [item.group for item in plain.items] == [None, None]


def test_a_place_travels_and_its_signature_follows_the_text(tmp_path):
    dataset = opened(tmp_path / "data.txt", LINES)
    one, other = dataset.items[0].location, dataset.items[2].location
    assert pickle.loads(pickle.dumps(other)).read() == "a text of number 1"
    assert one.signature() != other.signature()
    first = dataset.fingerprint()
    assert opened(tmp_path / "data.txt", LINES.replace("number 3", "number 4")).fingerprint() != first
