"""Studies: spaces are checked, trials read no test item, the best settings are found and used."""

from __future__ import annotations

import html
import json
from collections import Counter

import numpy as np
import pytest

import restune
from restune.core.errors import UserError
from restune.core.language import speaking
from restune.data.items import FileLocation
from restune.data.sources import open_dataset
from restune.training.recipe import Recipe
from restune.tuning import held_out
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
    by the final run as often as by any run; no trial comes near them."""
    reads, phase = {name: Counter() for name in ("opened", "trials", "final", "single run")}, ["opened"]
    read = FileLocation.read
    monkeypatch.setattr(FileLocation, "read", lambda self: (reads[phase[0]].update([str(self.path)]), read(self))[1])
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
    phase[0] = "single run"
    restune.train(shapes, lr=0.05, epochs=3, test=0.2, out=tmp_path / "single", seed=1, **SMALL)
    of_test = {
        name: {path: count for path, count in counts.items() if any(path.endswith(item) for item in test)}
        for name, counts in reads.items()
    }
    assert of_test["trials"] == {}
    assert len(of_test["final"]) == 12
    assert of_test["final"] == of_test["single run"]
    assert max(of_test["opened"].values()) <= 1
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
        device="cpu", precision="fp32",
        space={"optimizer.lr": Range(low=1e-4, high=0.1, log=True), "freeze": Choice(("none", 1))},
    )  # fmt: skip
    assert found.run.result["val"]["accuracy"] == pytest.approx(found.best.score, abs=1e-6)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_held_out_items_choose_nothing_and_say_what_the_search_gained(
    shapes, pretrained, tmp_path, monkeypatch, freeze
):
    """Trials are scored on the other half; the comparison is that of the fitted networks, item by item."""
    from restune.tuning import trials as room

    fits, fit_once = [], room.Trials._fit_once

    def watched(self, fold, *rest):
        fits.append((self, fit_once(self, fold, *rest)))
        return fits[-1][1]

    monkeypatch.setattr(room.Trials, "_fit_once", watched)
    settings = {"weights": pretrained, "freeze": freeze, "val": 0.4, "device": "cpu"}
    if freeze != "all":
        settings |= {"epochs": 1, "batch_size": 8, "lr": 0.001}
    found = restune.search(
        shapes, trials=3, held_out=0.5, out=tmp_path / "study", **settings,
        space={"class_weights": Choice(("none", "balanced")), "label_smoothing": Range(low=0.0, high=0.2)},
    )  # fmt: skip
    trials = fits[0][0]
    choosing, held = set(trials.folds[0].val.ids()), set(trials.held_out.ids())
    assert len(choosing) == len(held) == 12
    assert not (choosing & held) | (held & set(trials.folds[0].train.ids()))
    assert sorted(trials.held_out.class_counts().values()) == [6, 6]
    assert [one.hits for one in found.trials] == [tuple(right) for _, (_, _, right) in fits]
    best, own = (np.array(one.hits) for one in (found.best, found.trials[0]))
    assert found.gain.difference == pytest.approx(best.mean() - own.mean())
    # The final run has the best trial's settings and weights: it predicts the same held-out items correctly.
    rows = (found.run.out / "split.csv").read_text().splitlines()
    assert sum(",val," in row for row in rows) == 24
    if freeze == "all":
        evaluation = restune.evaluate(found.run.out, shapes, split="val")
        right = dict(zip(evaluation.ids, evaluation.predicted == evaluation.targets, strict=True))
        assert [int(right[name]) for name in trials.held_out.ids()] == best.tolist()
    with pytest.raises(UserError, match="holds out 12 validation items, not 0"):
        restune.search(
            shapes, trials=4, held_out=0, resume=True, out=tmp_path / "study", **settings,
        )  # fmt: skip


def test_few_of_very_many_validation_items_are_held_out(shapes, monkeypatch):
    """Comparing accuracies needs no more than 5,000 items, whatever the share; of few items none are held out."""
    data = open_dataset(shapes, None)
    assert held_out.set_aside(data, None, 0)[1] is None
    for most, count in ((30, 30), (2, 2)):
        monkeypatch.setattr(held_out, "_MOST", most)
        choosing, held = held_out.set_aside(data, 0.5, 0)
        assert len(held) == count
        assert set(choosing.ids()) | set(held.ids()) == set(data.ids())
        assert not set(choosing.ids()) & set(held.ids())
    for share in (0.95, -0.1):
        with pytest.raises(UserError, match=r"between 0 and 0\.9"):
            held_out.set_aside(data, share, 0)


def test_what_a_search_gained_is_said_in_words():
    from restune.reporting.search_page import search_page
    from restune.reporting.searches import search_lines

    def said(interval, best=3, language="en"):
        one = {"number": best, "settings": {}, "score": 0.9, "state": "complete", "seconds": 1.0}
        study = {
            "trials": [one], "best": one, "default": {**one, "number": 0, "score": 0.8}, "monitor": "val_accuracy",
            "gain": {"difference": sum(interval) / 2, "interval": interval, "n": 308}, "importances": {}, "run": None,
        }  # fmt: skip
        with speaking(language):
            lines = "\n".join(search_lines(study))
            assert lines.splitlines()[-1] in html.unescape(search_page(study))
        return lines

    assert "Better than the recipe's own settings: +1.2 points of accuracy (95% interval +0.3 to +2.1) on 308" in said(
        (0.003, 0.021)
    )
    assert "Not better than the recipe's own settings beyond chance: +0.5" in said((-0.01, 0.02))
    assert "Worse than the recipe's own settings: -2.0" in said((-0.03, -0.01))
    assert "they are the best trial" in said((0.0, 0.0), best=0)
    assert "308 个留出的验证样本" in said((0.003, 0.021), language="zh")


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
    assert found.best.score == pytest.approx(np.mean([score for _, _, (score, _, _) in seen]))


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
