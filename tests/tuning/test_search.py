"""Studies: spaces are checked, trials read no test item, the best settings are found and used."""

from __future__ import annotations

import json

import numpy as np
import pytest

import restune
from restune.core.errors import UserError
from restune.data.items import FileLocation
from restune.training.recipe import Recipe
from restune.tuning.space import Choice, Range, default_space, read_space

SMALL = {"model": "resnet8", "image_size": 16, "batch_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, write_noise):
    return write_noise(tmp_path_factory.mktemp("shapes"), (16, 16), bright=(60, 30), dark=(30, 30))


@pytest.fixture(scope="module")
def pretrained(shapes, tmp_path_factory):
    return restune.train(shapes, out=tmp_path_factory.mktemp("pretrained") / "run", epochs=1, **SMALL).out


def test_a_space_is_read_and_checked_against_the_recipe(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "optimizer.lr: {low: 1.0e-3, high: 1, log: true}\naugment.policy: [none, trivial]\nepochs: {low: 1, high: 3}\n"
    )
    assert read_space(path, Recipe()) == {
        "optimizer.lr": Range(low=1e-3, high=1, log=True),
        "augment.policy": Choice(("none", "trivial")),
        "epochs": Range(low=1, high=3),
    }
    mistakes = {
        "optimzer.lr: [1]": "Did you mean 'optimizer.lr'",
        "optimizer.lr: {low: 0, high: 1, log: true}": "begins above 0",
        "optimizer.lr: {low: 2, high: 1}": "low must be below high",
        "optimizer.lr: {low: 0.1, high: 1000}": "optimizer.lr",
        "augment.policy: [none, wild]": "augment.policy",
        "optimizer.lr: 3": "neither a range nor a list",
        "seed: [1, 2]": "the same in all trials",
        "- 1": "maps settings",
        "a: !!python/object/apply:os.getcwd []": "YAML",
    }
    for text, message in mistakes.items():
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            read_space(path, Recipe())
        assert message in str(caught.value), text
        assert str(path) in str(caught.value)
    for verb in ("train", "finetune"):
        for freeze in ("all", "none"):
            base = Recipe(freeze=freeze, weights="x" if verb == "finetune" else None)
            for key, dimension in default_space(base, verb, ["a", "b"], 32).items():
                for value in dimension.ends:
                    base.changed({key: value})


def test_the_best_settings_are_found_and_no_trial_reads_a_test_item(shapes, tmp_path, monkeypatch):
    """A learning rate of nothing learns nothing: the other one wins. Test items are read when the data is opened, and
    by the final run; no trial comes near them."""
    reads, phase = {"opened": set(), "trials": set(), "final": set()}, ["opened"]
    read = FileLocation.read
    monkeypatch.setattr(FileLocation, "read", lambda self: (reads[phase[0]].add(str(self.path)), read(self))[1])
    from restune.tuning import trials as room
    from restune.verbs import search as verb

    fit, run = room.Trials.fit, verb.run
    monkeypatch.setattr(room.Trials, "fit", lambda *given: (phase.__setitem__(0, "trials"), fit(*given))[1])
    monkeypatch.setattr(verb, "run", lambda *given, **more: (phase.__setitem__(0, "final"), run(*given, **more))[1])
    found = restune.search(
        shapes, verb="train", trials=4, epochs=3, test=0.2, out=tmp_path / "study", seed=1,
        space={"optimizer.lr": Choice((1e-9, 0.05))}, **SMALL,
    )  # fmt: skip
    assert found.best.settings == {"optimizer.lr": 0.05}
    assert {one.settings["optimizer.lr"] for one in found.trials} == {1e-9, 0.05}
    test = {line.split(",")[0] for line in (found.run.out / "split.csv").read_text().splitlines() if ",test," in line}
    assert len(test) == 12
    assert not [name for name in reads["trials"] if any(name.endswith(item) for item in test)]
    assert any(name.endswith(item) for name in reads["final"] for item in test)
    assert "lr: 0.05" in (found.run.out / "recipe.yaml").read_text()
    study = json.loads((tmp_path / "study" / "study.json").read_text())
    assert study["run"]["test"]["n"] == 12
    assert study["counts"]["failed"] == 0
    page = (tmp_path / "study" / "search.html").read_text()
    assert page.count("<svg") >= 2
    assert "best of 4" in page


def test_a_study_goes_on_where_it_ended(run, shapes, pretrained, tmp_path):
    command = ["search", shapes, "--weights", pretrained, "--freeze", "all", "--out", tmp_path / "study", "--json"]
    first = run(*command, "--trials", 2)
    assert first.returncode == 0, first.stderr
    once = json.loads(first.stdout.splitlines()[-1])
    assert [one["number"] for one in once["trials"]] == [0, 1]
    again = run(*command, "--trials", 5, "--resume")
    assert again.returncode == 0, again.stderr
    more = json.loads(again.stdout.splitlines()[-1])
    assert more["trials"][:2] == once["trials"]
    assert len(more["trials"]) == 5
    assert more["default"]["number"] == 0
    refused = run(*command, "--trials", 6)
    assert refused.returncode == 2
    assert "not empty" in refused.stderr


def test_the_final_run_scores_what_its_trial_did(shapes, pretrained, tmp_path):
    """Splits, seed and settings of the best trial are those of the final run, so is its validation score."""
    found = restune.search(
        shapes, weights=pretrained, freeze="none", trials=3, epochs=2, out=tmp_path / "study", batch_size=8,
        device="cpu",
        space={"optimizer.lr": Range(low=1e-4, high=0.1, log=True), "freeze": Choice(("none", 1))},
    )  # fmt: skip
    assert found.run.result["val"]["accuracy"] == pytest.approx(found.best.score, abs=1e-6)


def test_settings_without_effect_on_the_best_are_left_out_of_its_run(shapes, pretrained, tmp_path):
    """Where the best trial fitted the head alone, a learning rate has no effect, and a run refuses it."""
    found = restune.search(
        shapes, weights=pretrained, trials=2, epochs=1, out=tmp_path / "study", device="cpu", batch_size=8,
        space={"optimizer.lr": Choice((1e-9, 1e-8)), "freeze": Choice(("all",))},
    )  # fmt: skip
    assert found.run is not None
    assert "freeze: all" in (found.run.out / "recipe.yaml").read_text()


def test_a_final_run_that_was_stopped_is_made_by_the_next_start(run, shapes, pretrained, tmp_path, monkeypatch):
    from restune.verbs import search as verb

    final = verb.run
    command = ["search", shapes, "--weights", pretrained, "--freeze", "all", "--trials", 1, "--out", tmp_path / "study"]
    monkeypatch.setattr(verb, "run", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(*command).returncode == 130
    monkeypatch.setattr(verb, "run", final)
    done = run(*command, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert len(made["trials"]) == 1
    assert made["run"]["val"]["n"] == 12


@pytest.mark.usefixtures("nothing_bundled")
def test_weights_at_hand_are_a_setting(run, shapes, pretrained, tmp_path, monkeypatch):
    """--weights auto, or no weights: those in runs/ are compared as one setting among others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path / "cache"))
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.safetensors").write_bytes((pretrained / "model.safetensors").read_bytes())
    done = run("search", shapes, "--weights", "auto", "--freeze", "all", "--trials", 2, "--out", "study", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert {one["settings"]["weights"] for one in made["trials"]} <= {"runs/one", "runs/two"}


def test_folds_are_a_cross_validation(shapes, pretrained, tmp_path, monkeypatch):
    """Each item that is not a test item is a validation item once; the score is the mean over the folds."""
    from restune.tuning import trials as room

    seen, fit_once = [], room.Trials._fit_once

    def watched(self, fold, *rest):
        seen.append((self, fold, fit_once(self, fold, *rest)))
        return seen[-1][2]

    monkeypatch.setattr(room.Trials, "_fit_once", watched)
    found = restune.search(
        shapes, weights=pretrained, freeze="all", trials=1, folds=3, test=0.2, out=tmp_path / "study", device="cpu",
        space={"label_smoothing": Choice((0.0,))},
    )  # fmt: skip
    trials = seen[0][0]
    held_out = [set(part.val.ids()) for part in trials.folds]
    assert [fold for _, fold, _ in seen] == [0, 1, 2]
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 48
    assert all(not held & set(part.train.ids()) for held, part in zip(held_out, trials.folds, strict=True))
    assert not set.union(*held_out) & set(trials.splits.test.ids())
    assert found.best.score == pytest.approx(np.mean([score for _, _, (score, _) in seen]))


def test_mistakes_are_named(run, shapes, pretrained, tmp_path):
    cases = {
        "hold some out": ("--val", "0"),
        "storage cannot be used": ("--storage", "nonsense://nowhere/x"),
        "there is no such file": ("--space", tmp_path / "missing.yaml"),
        "not for a search": ("--seeds", 3),
    }
    for message, options in cases.items():
        done = run("search", shapes, "--weights", pretrained, "--freeze", "all", "--out", tmp_path / "no", *options)
        assert done.returncode == 2, message
        assert message in done.stderr
    assert not (tmp_path / "no").exists()
