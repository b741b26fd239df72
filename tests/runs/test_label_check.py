"""Planted label errors are found in images, texts and series, by features without weights and by a run's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import restune
from restune.core.errors import UserError
from restune.data.audit.findings import Finding
from restune.data.sources import open_dataset
from restune.runs.label_check import check_labels

pytest.importorskip("cleanlab", reason="cleanlab is not installed")


@pytest.fixture
def striped(tmp_path):
    """Sixty images of stripes across and sixty along, four of them labelled wrongly; and one of neither."""
    random = np.random.default_rng(0)
    wrong = {"along/003.png", "along/041.png", "across/017.png", "across/050.png"}
    for name in ("along", "across"):
        (tmp_path / "striped" / name).mkdir(parents=True)
        for number in range(60):
            is_along = (name == "along") != (f"{name}/{number:03d}.png" in wrong)
            wave = 100 * np.sin(np.arange(32) * random.uniform(0.8, 1.6) + random.uniform(0, 6))
            pixels = (
                128 + np.broadcast_to(wave[:, None] if is_along else wave, (32, 32)) + random.normal(0, 8, (32, 32))
            )
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                tmp_path / "striped" / name / f"{number:03d}.png"
            )
    return tmp_path / "striped", wrong


def errors(found):
    return {one.item: one.suggestion for one in found.findings if one.finding == "label-error"}


def test_images_without_weights(striped, capsys):
    folder, wrong = striped
    found = check_labels(open_dataset(folder))
    assert wrong <= set(errors(found))
    assert len(errors(found)) <= len(wrong) + 2
    assert errors(found)["along/003.png"] == "relabel: across"
    assert 0.9 < found.judge.accuracy <= 1 - len(wrong) / 120 + 1e-9
    assert "that it has not seen" in capsys.readouterr().err
    assert found.suspicion["along/003.png"] > 0.95 > found.suspicion["along/004.png"]


def test_images_by_a_run(striped, tmp_path):
    folder, wrong = striped
    run = restune.train(folder, model="resnet8", image_size=32, epochs=4, out=tmp_path / "run", threads=1, lr=0.05)
    found = check_labels(open_dataset(folder), model=run.out)
    assert found.judge.features == "embeddings of resnet8"
    assert len(set(errors(found)) & wrong) >= 3
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"word {n},c{n % 2}\n" for n in range(40)))
    with pytest.raises(UserError, match="the model takes images, the data is texts"):
        check_labels(open_dataset(tmp_path / "texts.csv"), model=run.out)


def test_texts(tmp_path):
    random = np.random.default_rng(0)
    words = {"sea": ["wave", "ship", "salt", "tide", "sail"], "land": ["hill", "road", "field", "barn", "plough"]}
    rows = []
    for number in range(120):
        label = ("sea", "land")[number % 2]
        text = " ".join(random.choice(words[label], 5))
        rows.append(f"{text},{('land', 'sea')[number % 2] if number in (10, 51) else label}")
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    dataset = open_dataset(tmp_path / "texts.csv")
    ids = list(dataset.ids())
    assert errors(check_labels(dataset)) == {ids[10]: "relabel: sea", ids[51]: "relabel: land"}


def test_series_and_the_odd_one_out(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for number in range(100):
        steps = np.arange(60) * (0.3 if number % 2 else 1.1)
        values = np.sin(steps + random.uniform(0, 6)) + 0.1 * random.normal(size=60)
        if number == 30:
            values = np.where(np.arange(60) == 20, 40.0, 0.0)
        label = 1 - number % 2 if number in (7, 44) else number % 2
        rows.append("\t".join([str(label), *(f"{value:.4f}" for value in values)]))
    (tmp_path / "series.tsv").write_text("\n".join(rows) + "\n")
    dataset = open_dataset(tmp_path / "series.tsv")
    ids = list(dataset.ids())
    found = check_labels(dataset)
    assert {ids[7], ids[44]} <= set(errors(found)) <= {ids[7], ids[44], ids[30]}
    assert [one.item for one in found.findings if one.finding == "outlier"][:1] == [ids[30]]


def test_few_items_and_a_missing_library_leave_the_rest(striped, write_noise, tmp_path, capsys, monkeypatch):
    few = check_labels(open_dataset(write_noise(tmp_path / "few", a=(0, 8), b=(120, 8))))
    assert (few.findings, few.judge) == ((), None)
    monkeypatch.setitem(__import__("sys").modules, "cleanlab", None)
    assert check_labels(open_dataset(striped[0])).judge is None
    assert "pip install 'restune[check]'" in capsys.readouterr().err


def test_a_wrong_copy_is_judged_without_its_right_original(striped):
    folder, _ = striped
    random = np.random.default_rng(1)
    names = []
    for number in range(30):  # the same stripes along, thirty times, under the wrong label
        source = np.asarray(Image.open(folder / "along" / "000.png"))
        noisy = (source + random.normal(0, 2, source.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "across" / f"copy-{number:02d}.png")
        names.append(f"across/copy-{number:02d}.png")
    copies = [Finding(name, "near-duplicate", "warning", 1.0, "drop: a copy", ("along/000.png",)) for name in names]
    alone = check_labels(open_dataset(folder)).suspicion
    together = check_labels(open_dataset(folder), copies=copies).suspicion
    assert min(together[name] for name in names) > 0.9 > max(alone[name] for name in names)
