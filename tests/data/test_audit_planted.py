"""restune check on real data: planted faults are found, the faults that the sets are known for are named."""

from __future__ import annotations

import importlib.util
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import pytest

import restune

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "check_planted.py"


@pytest.fixture(scope="module")
def planted():
    specification = importlib.util.spec_from_file_location("check_planted", BENCHMARK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def shares_found(planted, photos, items, folder):
    faults = planted.plant(photos, folder / "data", items, seed=1)
    restune.check(folder / "data", out=folder / "out", labels=False)
    return planted.found(folder / "out", faults)


@pytest.mark.slow
def test_faults_planted_among_cifar_images(planted, real_data, tmp_path):
    with tarfile.open(real_data / "cifar10-jpeg" / "test.tar.gz") as archive:
        archive.extractall(tmp_path / "cifar", filter="data")
    shares = shares_found(planted, tmp_path / "cifar", 10_000, tmp_path)
    assert (shares["exact"], shares["corrupt"]) == (1.0, 1.0)
    assert shares["near"] >= 0.97
    assert shares["others"] < 100, "the set has about 50 real copies; see ciFAIR (Barz and Denzler 2020)"


@pytest.mark.slow
def test_faults_planted_among_photos_of_hands(planted, real_data, tmp_path):
    shares = shares_found(planted, real_data / "sign-digits" / "Dataset", 2000, tmp_path)
    assert (shares["exact"], shares["corrupt"]) == (1.0, 1.0)
    assert shares["near"] >= 0.97
    assert shares["others"] <= 2, "successive photos of one hand are not copies"


@pytest.mark.slow
def test_the_placeholder_among_photos_of_insects_is_named(real_data, tmp_path):
    report = restune.check(real_data / "hymenoptera", out=tmp_path / "out", labels=False)
    placeholder = {one.finding for one in report.findings if one.item == "train/ants/imageNotFound.gif"}
    assert {"odd-format", "flat"} <= placeholder
    assert "leak" not in report.counts


def test_the_leaked_questions_are_named(real_data, tmp_path):
    text = real_data / "text"
    report = restune.check(text / "TREC.train.all", test=text / "TREC.test.all", out=tmp_path / "out", labels=False)
    equal = [one for one in report.findings if one.finding == "leak" and one.score == 1]
    assert len(equal) == 11, "ten, and one that differs in case"
    questions = {line.split(" ", 1)[1] for line in (text / "TREC.train.all").read_text("latin-1").splitlines()}
    tested = [line.split(" ", 1)[1] for line in (text / "TREC.test.all").read_text("latin-1").splitlines()]
    leaked = [number for number, question in enumerate(tested, 1) if question in questions]
    assert len(leaked) == 10
    assert {f"test:{number:03d}" for number in leaked} <= {one.item for one in equal}


@pytest.mark.slow
def test_re_encoded_videos_are_found(real_data, tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    source = real_data / "video" / "lung"
    rows = (real_data / "video" / "lung.csv").read_text().splitlines()
    files = sorted(path for path in source.rglob("*") if path.suffix == ".mp4")[:3]
    assert len(rows) > 3
    for number, path in enumerate(files):
        label = tmp_path / "data" / ("a" if number % 2 else "b")
        label.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, label / f"{number}.mp4")
    shutil.copyfile(files[0], tmp_path / "data" / "b" / "same.mp4")
    with av.open(str(files[1])) as read, av.open(str(tmp_path / "data" / "a" / "small.mp4"), "w") as written:
        stream = written.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for number, frame in enumerate(read.decode(video=0)):
            small = frame.reformat(160, 128, "yuv420p")
            small.pts, small.time_base = number, Fraction(1, 25)
            for packet in stream.encode(small):
                written.mux(packet)
        for packet in stream.encode():
            written.mux(packet)
    report = restune.check(tmp_path / "data", out=tmp_path / "out", labels=False)
    named = {(one.finding, one.item) for one in report.findings if "duplicate" in one.finding}
    assert ("duplicate", "b/same.mp4") in named
    assert {("near-duplicate", "a/1.mp4"), ("near-duplicate", "a/small.mp4")} & named
