"""--exclude check.csv and --decisions decisions.csv: what a run trains on, what it records, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest

import restune
from restune.core.errors import UserError
from restune.data.decisions import read_decisions
from restune.data.items import targets_of
from restune.data.sources import open_dataset

FINDINGS = "item,finding,severity,score,suggestion\n"


@pytest.fixture
def decide(tmp_path):
    """Write decisions.csv from ``item,decision,label`` lines."""

    def write(*lines, name="decisions.csv"):
        path = tmp_path / name
        path.write_text("\n".join(["item,decision,label", *lines, ""]))
        return path

    return write


def split_rows(run):
    with (run.out / "split.csv").open(newline="") as file:
        return {row["item"]: (row["split"], row["reason"]) for row in csv.DictReader(file)}


def labels(dataset):
    classes = [dataset.classes[target] for target in targets_of(dataset.items)]
    return dict(zip(dataset.ids(), classes, strict=True))


@pytest.mark.parametrize("form", ["folder", "table"])
def test_labels_and_items_are_as_decided(form, noise, tmp_path, decide):
    rows = [f"{path.relative_to(noise)},{path.parent.name}" for path in sorted(noise.glob("*/*.png"))]
    table = noise / "labels.csv"
    if form == "table":
        table.write_text("\n".join(["path,label", *rows]))
    data = noise if form == "folder" else table
    before = labels(open_dataset(data))
    file = decide("bright/000.png,relabel,dark", "dark/003.png,drop,", "dark/004.png,keep,")
    dataset = open_dataset(data, restune.DataOptions(decisions=file))
    wanted = {**before, "bright/000.png": "dark"}
    del wanted["dark/003.png"]
    assert labels(dataset) == wanted
    assert dataset.left_out == {"dark/003.png": "dropped by decisions.csv"}
    assert dataset.notes == {"bright/000.png": "relabelled by decisions.csv: was 'bright'"}


def test_check_csv_drops_what_it_suggests_to_drop_and_nothing_else(noise, tmp_path, decide):
    (tmp_path / "check.csv").write_text(
        FINDINGS
        + "bright/001.png,duplicate,warning,1,drop: same pixels as bright/000.png\n"
        + "bright/002.png,label-error,serious,0.9,relabel: dark\n"
        + "bright/003.png,leak,serious,1,group: same photo as dark/001.png\n"
        + "bright/*.heic,not-taken,warning,0.1,drop: not read\n"
        + "bright/005.png,duplicate,warning,1,drop: same pixels as bright/004.png\n"
        + "bright/006.png,duplicate,warning,1,drop: same pixels as bright/004.png\n"
        + ",imbalance,warning,0.9,drop: nothing\n"
    )
    kept = decide("bright/005.png,keep,", "bright/006.png,relabel,dark")
    dataset = open_dataset(noise, restune.DataOptions(exclude=tmp_path / "check.csv", decisions=kept))
    assert dataset.left_out == {"bright/001.png": "dropped by check.csv: duplicate"}
    assert labels(dataset)["bright/006.png"] == "dark"
    assert len(dataset) == 39


def test_a_run_trains_on_what_was_decided_and_records_it(begin, noise, decide):
    lines = [f"bright/{number:03d}.png,relabel,dark" for number in range(4)]
    file = decide(*lines, "dark/000.png,drop,", "dark/001.png,drop,")
    run = begin(epochs=1, data_options=restune.DataOptions(decisions=file), val=0.25)
    rows = split_rows(run)
    assert rows["dark/000.png"] == ("left out", "dropped by decisions.csv")
    assert rows["bright/000.png"][1] == "relabelled by decisions.csv: was 'bright'"
    assert sum(run.result["items"].values()) == 38
    assert run.result["left_out"] == 2
    record = json.loads((run.out / "split.json").read_text())
    learned = {
        name: record["classes"][target]
        for split in record["splits"].values()
        for name, target in zip(split["ids"], split["targets"], strict=True)
    }
    assert sorted(learned.values()).count("dark") == 22
    assert learned["bright/003.png"] == "dark"


def test_resume_takes_the_same_file_and_refuses_a_changed_one(cut, begin, decide, tmp_path, noise):
    file = decide("dark/000.png,drop,", "bright/000.png,relabel,dark")
    options = restune.DataOptions(decisions=file)
    whole = begin(out="whole", epochs=3, val=0.25, data_options=options)
    cut(6, epochs=3, val=0.25, data_options=options)
    content = file.read_text()
    decide("dark/000.png,drop,", "dark/001.png,drop,")
    for named in ({}, {"data": noise, "data_options": options}, {"accept_changes": True}):
        with pytest.raises(UserError, match="--decisions changed since this run began"):
            restune.train(resume=True, out=tmp_path / "run", **named)
    with pytest.raises(UserError, match="--decisions changed"):  # the data alone would be read without decisions
        restune.train(noise, resume=True, out=tmp_path / "run")
    file.write_text(content)
    resumed = restune.train(resume=True, out=tmp_path / "run")
    assert (resumed.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()


def test_other_validation_data_keeps_its_items(begin, noise, write_noise, tmp_path, decide):
    val = write_noise(tmp_path / "val", bright=(120, 6), dark=(0, 6))
    run = begin(epochs=1, val=val, data_options=restune.DataOptions(decisions=decide("dark/000.png,drop,")))
    assert run.result["items"] == {"train": 39, "val": 12}


def test_a_class_without_items_left_is_no_class(write_noise, tmp_path, decide):
    data = write_noise(tmp_path / "three", cat=(0, 6), Cat=(60, 2), dog=(120, 6))
    file = decide("Cat/000.png,relabel,cat", "Cat/001.png,relabel,cat")
    dataset = open_dataset(data, restune.DataOptions(decisions=file))
    assert dataset.class_counts() == {"cat": 8, "dog": 6}


def test_what_is_wrong_with_a_table_is_said_before_any_work(run, noise, tmp_path, decide):
    cases = {
        ("file,decision\nx,drop\n", "this is not a table of decisions"),
        ("item,decision,label\na,delete,\n", "unknown decision 'delete'"),
        ("item,decision,label\na,relabel,\n", "a relabelled item needs a label"),
        ("item,decision,label\na,drop,\na,keep,\n", "two different decisions on a"),
        ("item,decision,label\na,b,drop,\n", "this row has 4 fields, not 3"),
    }
    for content, message in cases:
        (tmp_path / "wrong.csv").write_text(content)
        done = run("train", noise, "--decisions", tmp_path / "wrong.csv", "--out", tmp_path / "never")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert run("train", noise, "--exclude", tmp_path / "wrong.csv").returncode == 2
    assert "there is no such file" in run("train", noise, "--exclude", tmp_path / "missing.csv").stderr
    assert not (tmp_path / "never").exists()


def test_unknown_items_and_labels(noise, decide, capsys):
    open_dataset(noise, restune.DataOptions(decisions=decide("bright/999.png,drop,", "dark/000.png,keep,")))
    assert "1 of the 2 items in decisions.csv are not in the data: bright/999.png" in capsys.readouterr().err
    with pytest.raises(UserError, match="'drak' is not a class of the data") as error:
        open_dataset(noise, restune.DataOptions(decisions=decide("dark/000.png,relabel,drak")))
    assert "Did you mean 'dark'?" in str(error.value)
    everything = [f"{path.parent.name}/{path.name},drop," for path in noise.glob("*/*.png")]
    with pytest.raises(UserError, match="all items of the data are left out"):
        open_dataset(noise, restune.DataOptions(decisions=decide(*everything)))


def test_evaluate_obeys_them_too(run, begin, noise, decide):
    made = begin(epochs=1)
    done = run("evaluate", made.out, noise, "--split", "all", "--decisions", decide("dark/000.png,drop,"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["n"] == 39


def test_a_runs_own_data_is_scored_by_the_labels_that_it_learned(begin, noise, decide, capsys):
    """Half of the bright images are called dark: by these labels, and by those of the folders, scores differ."""
    names = [f"bright/{number:03d}.png" for number in range(0, 20, 2)]
    file = decide(*(f"{name},relabel,dark" for name in names), "dark/000.png,drop,")
    made = begin(epochs=1, val=0.25, data_options=restune.DataOptions(decisions=file))
    split = json.loads((made.out / "split.json").read_text())["splits"]["val"]
    expected = dict(zip(split["ids"], split["targets"], strict=True))
    assert any(expected[name] for name in names if name in expected), "some relabelled item is held out"
    scored = restune.evaluate(made.out, noise)
    assert dict(zip(scored.ids, scored.targets.tolist(), strict=True)) == expected
    assert scored.accuracy == made.result["val"]["accuracy"]
    capsys.readouterr()
    file.write_text(file.read_text() + "dark/001.png,keep,\n")
    by_folder = restune.evaluate(made.out, noise)
    assert "which is gone or has changed" in capsys.readouterr().err
    assert not any(by_folder.targets[by_folder.ids.index(name)] for name in names if name in expected)
    named = restune.evaluate(made.out, noise, data_options=restune.DataOptions(decisions=file))
    assert named.targets.tolist() == scored.targets.tolist()


def test_a_spreadsheets_file_is_read(tmp_path):
    (tmp_path / "decisions.csv").write_bytes("\ufeffitem,decision,label\r\na,Drop,\r\nb,relabel, cat \r\n".encode())
    made = read_decisions(tmp_path / "decisions.csv")
    assert (list(made.dropped), dict(made.relabelled)) == (["a"], {"b": "cat"})
