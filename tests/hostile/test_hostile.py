"""Every hostile file is used, or listed with its reason: no traceback, no hang, no code that runs, bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hostile_files.archives import archives
from hostile_files.generate import generate
from hostile_files.images import one_bit_png
from hostile_files.parts import encoded, photo
from hostile_files.recipes import recipes
from hostile_files.tables import tables
from PIL import Image

import restune
from restune.data.dataset import DataOptions, Dataset, FileLocation, Item
from restune.data.decode import MAX_PIXELS, DecodeError, decode_image
from restune.data.preload import preload
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset
from restune.data.splits import Splits, read_splits, write_splits
from restune.data.string_array import StringArray

HERE = Path(__file__).parent
GIB = 2**30
SECONDS = 20
"""Processor time that a file takes at most."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="FIFOs, /dev and /proc are used")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("hostile") / "files"
    made.mkdir()
    cases = generate(made)
    assert len(cases) >= 500
    return made


@pytest.fixture(scope="module")
def swept(folder, tmp_path_factory):
    """What became of each file, from one process that read them all."""
    environment = {**os.environ, "RESTUNE_CACHE": str(tmp_path_factory.mktemp("cache")), "PYTHONWARNINGS": "ignore"}
    environment.pop("RESTUNE_MAX_PIXELS", None)
    command = [sys.executable, str(HERE / "sweep.py"), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=600, check=False, errors="replace"
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"the process ended with {done.returncode} at {lines[-1:]}: {done.stderr[-2000:]}"
    return lines


@pytest.fixture(scope="module")
def outcomes(swept):
    return [line for line in swept if "outcome" in line]


def test_every_file_is_used_or_refused_with_a_reason(outcomes, folder):
    listed = json.loads((folder / "cases.json").read_text())
    assert [case["path"] for case in listed] == [case["path"] for case in outcomes]
    counts = Counter(case["family"] for case in outcomes)
    least = {"image": 300, "table": 60, "array": 50, "archive": 60, "weights": 150, "recipe": 60}
    assert all(counts[family] >= number for family, number in least.items()), counts
    crashed = [f"{case['path']}\n{case['reason']}" for case in outcomes if case["outcome"] == "crashed"]
    assert not crashed, "\n\n".join(crashed[:5])
    assert all(case["reason"] for case in outcomes if case["outcome"] == "refused")
    if os.geteuid() == 0:
        print("running as root, which reads everything: unreadable permissions are simulated in a test of their own")


def test_what_is_whole_is_used_and_what_lies_is_refused(outcomes):
    wrong = [
        f"{case['path']} was {case['outcome']}: {case['reason'][:200]}"
        for case in outcomes
        if case["expected"] != "either" and case["outcome"] != case["expected"]
    ]
    assert not wrong, "\n".join(wrong)


def test_none_takes_long(outcomes):
    slow = {case["path"]: round(case["seconds"], 1) for case in outcomes if case["seconds"] > SECONDS}
    assert not slow


def test_none_takes_a_gigabyte(swept):
    grown = [line for line in swept if line.get("grown", 0) > GIB]
    assert not grown, f"memory grew by {grown[0]['grown'] / GIB:.2f} GiB at {grown[0].get('path', 'the whole folder')}"
    assert max(line.get("grown", 0) for line in swept) > 0.3 * GIB  # the images at the limit were indeed decoded


def test_no_code_runs(outcomes, folder):
    code = [case for case in outcomes if case["kind"].startswith("code")]
    assert len(code) >= 15
    assert all(case["outcome"] == "refused" for case in code)
    assert not (folder / "code ran").exists()


def test_evaluate_and_predict_list_the_same_images(swept, outcomes):
    whole = swept[-1]["whole"]
    images = {case["path"].removeprefix("image/"): case for case in outcomes if case["family"] == "image"}
    assert set(images) | {"plain/0.jpg", "plain/1.jpg"} == set(whole["items"])  # none is silently missing
    seen = {name for name in images if "sparse" not in name and "limit" not in name}
    refused = {name for name in seen if images[name]["outcome"] == "refused"}
    assert set(whole["skipped"]) == set(whole["unread"]) == refused
    assert whole["scored"] == len(seen) + 2 - len(refused)


def test_the_command_line_says_one_thing_and_exits_with_2(folder, tmp_path):
    hostile = folder / "image" / "hostile"
    model = folder / "weights" / "bundle.safetensors"
    names = [b"new\nline.jpg", b"\xff.jpg", "🐝🌻.jpg".encode(), b"pipe.jpg", b"self.jpg", b"bomb.png", b"--help.jpg"]
    listed = b"\n".join(os.fsencode(hostile) + b"/" + name for name in names if b"\n" not in name)
    command = [sys.executable, "-m", "restune"]
    done = subprocess.run([*command, "predict", model, "-", "--json"], input=listed, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert b"3 of 6 inputs could not be read" in done.stderr
    predictions = json.loads(done.stdout.splitlines()[-1])["predictions"]
    assert [("label" in prediction) for prediction in predictions] == [True, True, False, False, False, True]
    data, recipe = str(folder / "table" / "whole.parquet"), str(folder / "recipe" / "billion laughs.yaml")
    mistakes = {
        ("evaluate", str(folder / "weights" / "code 2.pth"), data): "refused",
        ("train", data, "--recipe", recipe): "at most 10,000 values",
    }
    for arguments, message in mistakes.items():
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (folder / "code ran").exists()


def test_the_generator_makes_the_same_files_again(folder, tmp_path):
    def sample():
        random = np.random.default_rng(7)
        made = [*tables(random), *recipes(random), *archives(random)]
        return [entry for entry in made if "tgz" not in entry[1] and "gzip" not in entry[1]]  # gzip writes the time

    assert sample() == sample()


def test_permissions(tmp_path, monkeypatch):
    path = tmp_path / "locked.jpg"
    Image.new("RGB", (4, 4)).save(path)

    def refuse(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    item = Item(id="locked", location=FileLocation(path), target=0)
    preloaded = preload([item], ImagePreprocess(crop=4), store_size=None, as_seen=True)
    assert preloaded.unreadable == {"locked": "Permission denied"}


def test_a_limit_that_is_none_is_one_message(monkeypatch):
    for value in ("many", "0", "-5", "1e6", str(2 * MAX_PIXELS + 1), "²"):
        monkeypatch.setenv("RESTUNE_MAX_PIXELS", value)
        with pytest.raises(restune.UserError, match="not a valid limit of pixels") as caught:
            decode_image(one_bit_png(8, 8))
        assert caught.value.where == "RESTUNE_MAX_PIXELS"


def test_the_limit_is_what_is_set_and_the_message_says_how(monkeypatch):
    monkeypatch.setenv("RESTUNE_MAX_PIXELS", "64")
    assert decode_image(one_bit_png(8, 8)).shape == (3, 8, 8)
    with pytest.raises(DecodeError, match=r"9x8 is too many pixels \(the limit is 64; RESTUNE_MAX_PIXELS sets another"):
        decode_image(one_bit_png(9, 8))
    webp = encoded(Image.new("RGB", (8, 8)), "WEBP")
    with pytest.raises(DecodeError, match="half of 64 for WEBP"):
        decode_image(webp)


def test_no_program_is_started_for_postscript(monkeypatch):
    def start(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    buffer_of_eps = encoded(Image.new("RGB", (8, 8)), "EPS")
    with pytest.raises(DecodeError, match="PostScript"):
        decode_image(buffer_of_eps)


def test_strips_are_the_whole_image(monkeypatch):
    random = np.random.default_rng(0)
    pictures = {"P": photo(random, 50, 40).quantize(9), "RGBA": photo(random, 50, 40).convert("RGBA")}
    pictures["RGBA"].putalpha(pictures["P"].convert("L"))
    pictures["I;16"] = Image.fromarray(random.integers(0, 65536, (40, 50), dtype=np.uint16))
    for image in pictures.values():
        content = encoded(image, "PNG")
        whole = decode_image(content)
        monkeypatch.setattr("restune.data.pixels._STRIP", 50 * 7)
        assert bool((decode_image(content) == whole).all())
        monkeypatch.undo()


def test_links_that_lead_everywhere_end(tmp_path):
    folders = [tmp_path / "data" / f"{number:02d}" for number in range(14)]
    for folder in folders:
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "1.png")
    for folder in folders:
        for other in folders:
            (folder / f"to {other.name}").symlink_to(other, target_is_directory=True)
    with pytest.raises(restune.UserError, match="links lead to this folder"):
        open_dataset(tmp_path / "data")


def test_folders_a_thousand_deep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(name).mkdir()
        Image.new("RGB", (4, 4)).save(f"{name}/1.png")
    os.chdir("a")
    for _ in range(1050):
        Path("d").mkdir()
        os.chdir("d")
    Image.new("RGB", (4, 4)).save("deep.png")
    os.chdir(tmp_path)
    try:
        assert len(open_dataset(tmp_path)) == 3
    finally:
        subprocess.run(["rm", "-r", "a"], check=True)  # shutil.rmtree recurses


def test_split_csv_keeps_every_name(tmp_path):
    names = ["new\nline", "return\rhere", "\udcff", 'quo"ted', "a,b", " ", "\u2028", "plain"]
    items = [Item(id=name, location=FileLocation(tmp_path), target=0) for name in names]
    data = Dataset(items=tuple(items), classes=("a",), source="test")
    made = Splits(train=replace(data, items=tuple(items[:-1])), val=None, test=None, left_out={"\udcfe": "bro\rken"})
    write_splits(tmp_path / "split.csv", made)
    again = read_splits(tmp_path / "split.csv", data, None, None)
    assert [item.id for item in again.train.items] == names[:-1]
    assert again.left_out == made.left_out


def test_a_tables_rows_are_the_items_they_were(tmp_path):
    lines = [("é.jpg", "b", "train", "g1"), ("2.jpg", "a", "", "")]
    lines += [("3.jpg", "c", "TEST", "g1"), ("4.jpg", "a", "valid", "")]
    path = tmp_path / "table.csv"
    path.write_text("".join(",".join(line) + "\n" for line in [("file", "label", "split", "patient"), *lines]))
    dataset = open_dataset(path, DataOptions(group_column="patient"))
    sides = ["train", None, "test", "val"]
    expected = [
        Item(name, FileLocation(tmp_path / name), "abc".index(label), side, group)
        for (name, label, _, group), side in zip(lines, sides, strict=True)
    ]
    listed = replace(dataset, items=tuple(expected))
    assert list(dataset.items) == expected
    assert dataset.items[-1] == expected[-1]
    assert tuple(dataset.items[1:3]) == tuple(expected[1:3])
    assert dataset.splits() == listed.splits() == {"train": 1, "val": 1, "test": 1}
    assert dataset.class_counts() == listed.class_counts()
    assert dataset.fingerprint() == listed.fingerprint()
    assert list(dataset.select("test").items) == list(listed.select("test").items)
    turned = [data.with_classes(("c", "x", "b", "a"), allow_missing=True) for data in (dataset, listed)]
    assert list(turned[0].items) == list(turned[1].items)
    assert list(turned[0].select("val").items) == list(turned[1].select("val").items)
    assert turned[0].select("val").class_counts() == {"c": 0, "x": 0, "b": 0, "a": 1}
    with pytest.raises(restune.UserError, match="no 'val' split"):
        dataset.select("train").select("val")


def test_texts():
    texts = StringArray()
    texts.extend(pa.array(["skipped", "é", "", "🐝"]).slice(1))
    texts.extend(pa.array([], pa.string()))
    assert [texts[place] for place in range(len(texts))] == ["é", "", "🐝"]
    texts.extend(pa.array(["last"]))
    assert list(texts.picked([3, 0])) == ["last", "é"]


ROWS = 10_000_000
READ = """
import json, sys, time
from sweep import peak
from restune.data.sources import open_dataset
import pyarrow.csv
before, started = peak(), time.perf_counter()
dataset = open_dataset(sys.argv[1])
held = dataset.with_classes(("b", "a"))
test = held.select("test")
print(json.dumps({"rows": len(dataset), "test": len(test), "last": test.items[-1].id, "target": test.items[-1].target,
                  "grown": peak() - before, "seconds": time.perf_counter() - started}))
"""


@pytest.mark.slow
def test_ten_million_rows_in_bounded_memory(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w") as file:
        file.write("file,label,split,remark\n")
        for start in range(0, ROWS, 100_000):
            file.write(
                "".join(
                    f"images/{number:08d}.jpg,{'ab'[number % 2]},{'test' if number % 10 == 9 else 'train'},no remark\n"
                    for number in range(start, start + 100_000)
                )
            )
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, cwd=HERE, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    print(seen)
    assert (seen["rows"], seen["test"], seen["last"]) == (ROWS, ROWS // 10, "images/09999999.jpg")
    assert seen["target"] == 0
    assert seen["grown"] < GIB


READ_IMAGES = """
import sys
from pathlib import Path
from sweep import PREPROCESS, FileLocation, Item, peak
import restune.data.decode
from restune.data.loader import read_batches
before = peak()
items = [Item(str(number), FileLocation(Path(sys.argv[1])), 0) for number in range(int(sys.argv[2]))]
batches = list(read_batches(items, PREPROCESS, batch_size=1, workers=2))
assert not any(batch.failures for batch in batches), batches
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["PNG", "JPEG", "progressive", "WEBP", "TIFF", "JPEG2000", "AVIF"])
def test_the_largest_image_of_each_form_in_bounded_memory(tmp_path, form):
    """Two at a time; an uncompressed file alone, since two of 256 MiB are read at once."""
    pixels = MAX_PIXELS // (2 if form in ("WEBP", "JPEG2000", "AVIF") else 1)
    image = Image.new("RGB", (int(pixels**0.5), int(pixels**0.5)), (10, 200, 90))
    path = tmp_path / "large"
    try:
        image.save(path, "JPEG" if form == "progressive" else form, progressive=form == "progressive")
    except (KeyError, OSError) as error:
        pytest.skip(f"Pillow writes no {form} here: {error}")
    copies = "1" if form == "TIFF" else "2"
    command = [sys.executable, "-c", READ_IMAGES, str(path), copies]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    print(form, int(done.stdout) / GIB)
    assert int(done.stdout) < GIB
