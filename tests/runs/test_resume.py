"""--resume needs no more than the run's folder, lengthens runs, and a start that fails leaves nothing behind."""

from __future__ import annotations

import json
import math

import pytest

import restune
from restune.data.sources import open_dataset
from restune.runs.record import RunRecord, read_run_record
from restune.training.recipe import read_recipe
from restune.training.thawing import Phases, plan_phases


def files(run):
    return [(run.out / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl")]


def rates(folder):
    return [json.loads(line)["lr"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def cosine(share, peak=0.05):
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def test_the_folder_alone_is_enough(begin, cut, tmp_path, monkeypatch):
    whole = begin(out="whole", epochs=3, seed=4, lr=0.02, val=0.25)
    cut(6, epochs=3, seed=4, lr=0.02, val=0.25)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resumed = restune.train(resume=True, out=tmp_path / "run")
    assert resumed.result["resumed_from_step"] == 6
    assert files(resumed) == files(whole)


def test_how_a_table_is_read_is_part_of_it(run, cut, noise, tmp_path):
    rows = [f"{path.relative_to(noise)},{path.parent.name}" for path in sorted(noise.glob("*/*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["where,shade", *rows]))
    options = restune.DataOptions(path_column="where", label_column="shade", root=noise)
    cut(6, data=tmp_path / "labels.csv", data_options=options, epochs=3)
    assert read_run_record(tmp_path / "run").options == options
    done = run("train", "--resume", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    command = next(line.split() for line in done.stdout.splitlines() if "restune evaluate" in line)
    assert command[2:4] == [str(tmp_path / "run"), str(tmp_path / "labels.csv")]
    assert command[command.index("--label-column") :][:2] == ["--label-column", "shade"]
    assert run(*command[1:]).returncode == 0


def test_without_data_there_must_be_a_run(run, begin, tmp_path):
    done = run("train")
    assert done.returncode == 2
    assert "DATA is missing" in done.stderr
    done = run("train", "--resume", "--out", tmp_path / "nothing")
    assert "does not contain a run to resume" in done.stderr
    assert not (tmp_path / "nothing").exists()
    begin(epochs=1)
    done = run("finetune", "--resume", "--out", tmp_path / "run")
    assert "begun by train, not by finetune" in done.stderr
    assert f"restune train --resume --out {tmp_path / 'run'}" in done.stderr


def test_data_from_python_must_be_passed_again(cut, noise, tmp_path):
    cut(3, data=open_dataset(noise), epochs=2)
    with pytest.raises(restune.UserError, match="given from Python"):
        restune.train(resume=True, out=tmp_path / "run")


def test_a_run_without_record_names_its_data_in_the_recipe(cut, tmp_path):
    cut(3, epochs=2)
    (tmp_path / "run" / "run.json").unlink()
    assert restune.train(resume=True, out=tmp_path / "run").result["epochs"] == 2


def test_a_damaged_record_is_named(tmp_path):
    RunRecord(verb="train", data="x").write(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(restune.UserError, match="this record of a run cannot be read"):
        read_run_record(tmp_path)


@pytest.mark.parametrize("mistake", [{"model": "resnet19"}, {"val": 1.0}, {"set": {"min_class_items": 50}}])
def test_a_failed_start_leaves_no_folder(begin, tmp_path, mistake):
    with pytest.raises(restune.UserError):
        begin(out="new/run", **mistake)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(restune.UserError):
        begin(out="mine", **mistake)
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_run_that_began_stays(cut, tmp_path):
    cut(0, out="new/run", epochs=1)
    assert (tmp_path / "new" / "run" / "recipe.yaml").exists()


def test_a_finished_run_goes_on_and_says_what_that_means(begin, tmp_path, capsys):
    short = begin(epochs=4)
    capsys.readouterr()
    longer = restune.train(resume=True, out=short.out, epochs=7)
    said = capsys.readouterr().err
    assert "4 epochs are trained on a schedule of 4 epochs; from step 17 on the run follows the cosine" in said
    assert "not the same as 7 epochs at once" in said
    steps = 4  # per epoch
    before = [cosine((steps * epoch - 1) / (steps * 4)) for epoch in (1, 2, 3, 4)]  # at the last step's beginning
    after = [cosine((steps * epoch - 1) / (steps * 7)) for epoch in (5, 6, 7)]
    assert rates(short.out) == pytest.approx([*before, *after], abs=1e-9)
    assert longer.result["epochs"] == 7
    assert longer.result["lengthened"] == [{"epochs": 4, "until_step": 16}]
    assert json.loads((short.out / "result-4-epochs.json").read_text())["epochs"] == 4
    assert "Lengthened: up to step 16 on a schedule of 4 epochs" in (short.out / "report.html").read_text()
    again = restune.train(resume=True, out=short.out)
    assert again.result == longer.result, "it is finished"


def test_the_recipe_of_a_lengthened_run_repeats_it(begin, cut, noise, tmp_path):
    more = {"early_stopping.patience": 1, "early_stopping.min_delta": 0.9, "ema.decay": 0.9}
    first = begin(epochs=4, set=more)
    assert first.result["epochs"] < 4, "early stopping ended it"
    longer = restune.train(resume=True, out=first.out, epochs=6)
    assert longer.result["epochs"] > first.result["epochs"]
    repeated = restune.train(noise, out=tmp_path / "repeated", recipe=first.out / "recipe.yaml")
    assert files(repeated) == files(longer)
    at_once = begin(out="at-once", epochs=6, set=more)
    assert files(at_once) != files(longer)


def test_an_interrupted_run_gets_more_epochs(cut, noise, tmp_path):
    cut(6, epochs=3)
    longer = restune.train(resume=True, out=tmp_path / "run", epochs=5)
    assert longer.result["lengthened"] == [{"epochs": 3, "until_step": 6}]
    steps = 4  # per epoch
    after = [cosine((steps * epoch - 1) / (steps * 5)) for epoch in (2, 3, 4, 5)]
    assert rates(tmp_path / "run") == pytest.approx([cosine((steps - 1) / (steps * 3)), *after], abs=1e-9)
    repeated = restune.train(noise, out=tmp_path / "repeated", recipe=tmp_path / "run" / "recipe.yaml")
    assert files(repeated) == files(longer)


def test_a_run_by_epochs_goes_on_by_the_clock_and_back(begin, step_clock):
    short = begin(epochs=2)
    timed = restune.train(resume=True, out=short.out, time="17s")
    assert timed.result["epochs"] > 2
    assert read_recipe(short.out / "recipe.yaml").time == 17
    longer = restune.train(resume=True, out=short.out, epochs=timed.result["epochs"] + 2)
    assert longer.result["epochs"] == timed.result["epochs"] + 2
    assert [set(length) for length in longer.result["lengthened"]] == [{"epochs", "until_step"}, {"time", "until_step"}]


def test_what_cannot_be_lengthened(begin, noise, tmp_path):
    run = begin(epochs=2)
    for options, message in (
        ({"epochs": 1}, "epochs 2 -> 1"),
        ({"lr": 0.9}, "the recipe differs"),
    ):
        with pytest.raises(restune.UserError, match=message):
            restune.train(resume=True, out=run.out, **options)
    head = restune.finetune(noise, weights=run.out, freeze="all", out=tmp_path / "head")
    with pytest.raises(restune.UserError, match="nothing to train longer"):
        restune.finetune(resume=True, out=head.out, time="1m")
    for path in (run.out / "checkpoints").rglob("manifest.json"):
        path.unlink()
    with pytest.raises(restune.UserError, match="does not have a valid checkpoint"):
        restune.train(resume=True, out=run.out, epochs=5)


def test_gradual_unfreezing_stays_where_it_was_planned():
    phases = Phases(plan_phases("auto", 4), 12)
    assert [phases.at(epoch / 36, stretch=3.0) for epoch in range(36)] == [0, 1, 2, *[3] * 33]
    assert phases.span(1, stretch=3.0) == pytest.approx((1 / 36, 2 / 36))
    assert phases.span(3, stretch=3.0) == pytest.approx((3 / 36, 1))


def test_a_finetuned_run_with_gradual_unfreezing_goes_on(begin, noise, tmp_path):
    pretrained = begin(out="pretrained", epochs=1, set={"spec.depths": [1, 1]}).out
    options = {"freeze": "auto", "batch_size": 8, "set": {"head": "sgd", "early_stopping.patience": None}}
    run = restune.finetune(noise, weights=pretrained, epochs=4, out=tmp_path / "tuned", **options)
    longer = restune.finetune(resume=True, out=run.out, epochs=8)
    assert longer.result["epochs"] in (run.result["epochs"], 8)
    with pytest.raises(restune.UserError, match="cannot go on by time"):
        restune.finetune(resume=True, out=run.out, time="1h")
