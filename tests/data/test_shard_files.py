"""WebDataset shards as files: hostile, damaged and huge ones, and the stored index that is read in their place."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

import restune
from restune.core import console
from restune.data.sources import open_dataset

sys.path.insert(0, str(Path(__file__).parents[1]))
from tar_files import jpeg, shard, summary, three_shards, write


@pytest.fixture
def folder(tmp_path):
    return three_shards(tmp_path / "set")


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
