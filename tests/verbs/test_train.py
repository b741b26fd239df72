"""train and finetune from data to a run's folder; and what a newcomer gets wrong."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

import restune
from restune.data.sources.sentences import TextLocation
from restune.training.loop import Trainer

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 3, "batch_size": 8, "threads": 1, "precision": "fp32"}
"""In bf16, which some processors choose, an epoch's validation is rounded otherwise than the final scores."""
QUICK = {
    "spec.width": 4,
    "spec.depths": [1, 1],
    "optimizer.lr": 0.05,
    "schedule.warmup_epochs": 0,
    "augment.policy": "none",
}


@pytest.fixture
def shapes(tmp_path, write_noise):
    return write_noise(tmp_path / "shapes", (20, 24), bright=(120, 20), dark=(0, 20))


def weights(run):
    return (run.out / "model.safetensors").read_bytes()


def tensors(run):
    return {name: value.clone() for name, value in run.model.module.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_runs_folder(shapes, tmp_path):
    (shapes / "dark" / "cut.png").write_bytes((shapes / "dark" / "000.png").read_bytes()[:200])
    (shapes / "dark" / "empty.jpg").write_bytes(b"")
    (shapes / "bright" / "page.jpg").write_bytes(b"<html>not found</html>")
    run = restune.train(shapes, out=tmp_path / "run", test=0.2, set=QUICK, **SMALL)
    names = {path.name for path in run.out.iterdir()}
    assert names == {
        *("run.json", "recipe.yaml", "split.csv", "split.json", "metrics.jsonl", "timings.jsonl", "checkpoints"),
        *("model.safetensors", "result.json", "report.html", "README.md", "evaluation"),
    }
    assert run.result == json.loads((run.out / "result.json").read_text())
    assert run.result["val"]["accuracy"] == 1.0
    assert run.result["test"]["n"] == 8
    assert run.result["left_out"] == 3
    rows = list(csv.DictReader((run.out / "split.csv").open()))
    assert {row["item"]: row["reason"] for row in rows if row["split"] == "left out"} == {
        "bright/page.jpg": "a web page, not an image (it starts like HTML)",
        "dark/cut.png": next(row["reason"] for row in rows if row["item"] == "dark/cut.png"),
        "dark/empty.jpg": "the file is empty (0 bytes)",
    }
    metrics = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in metrics] == [1, 2, 3]
    assert set(metrics[0]) == {
        *("epoch", "step", "train_loss", "lr"),
        *("val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1"),
    }
    assert len(list((run.out / "checkpoints").iterdir())) <= 3
    page = (run.out / "report.html").read_text()
    assert '<svg class="plot"' in page
    assert "data:image/png" not in page, "plots are vectors"
    assert "http" not in page.split("<pre>")[0]
    assert run.model.classes == ("bright", "dark")
    assert restune.evaluate(run.out, shapes, on_corrupt="skip").accuracy == 1.0


def test_the_best_epoch_is_what_is_kept_and_measured(shapes, tmp_path):
    run = restune.train(shapes, out=tmp_path / "run", set=QUICK, **SMALL)
    metrics = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    best = max(metrics, key=lambda record: (record["val_accuracy"], -record["val_loss"], record["epoch"]))
    assert run.result["val"]["accuracy"] == best["val_accuracy"]
    assert run.result["best_epoch"] == best["epoch"]


def test_workers_change_nothing_to_the_bit(shapes, tmp_path):
    runs = [
        restune.train(shapes, out=tmp_path / f"w{workers}", workers=workers, set=QUICK, **SMALL)
        for workers in (0, 1, 4)
    ]
    assert equal(tensors(runs[0]), tensors(runs[1]))
    assert equal(tensors(runs[0]), tensors(runs[2]))
    other = restune.train(shapes, out=tmp_path / "seed", seed=5, set=QUICK, **SMALL)
    assert not equal(tensors(runs[0]), tensors(other))


def test_recipe_yaml_repeats_the_run(shapes, tmp_path):
    first = restune.train(shapes, out=tmp_path / "first", set={**QUICK, "mixup": 0.2, "ema.decay": 0.9}, **SMALL)
    second = restune.train(shapes, out=tmp_path / "second", recipe=first.out / "recipe.yaml")
    assert equal(tensors(first), tensors(second))
    assert (first.out / "metrics.jsonl").read_bytes() == (second.out / "metrics.jsonl").read_bytes()


STATEFUL = {
    "plain": {},
    "ema, mixing, accumulation": {"ema.decay": 0.9, "mixup": 0.4, "cutmix": 1.0, "optimizer.accumulate": 2},
    "adamw, dropout, drop path": {"optimizer.name": "adamw", "spec.dropout": 0.3, "spec.drop_path": 0.3},
    "balanced, repeats": {"sampling": "balanced", "augment.policy": "trivial", "class_weights": "balanced"},
}


@pytest.mark.parametrize("feature", STATEFUL)
def test_a_stopped_run_goes_on_as_if_it_had_not(shapes, tmp_path, monkeypatch, feature):
    settings = {**QUICK, **STATEFUL[feature]}
    whole = restune.train(shapes, out=tmp_path / "whole", set=settings, **SMALL)
    with monkeypatch.context() as patch:
        original = Trainer._run_epoch

        def stop_in_epoch_three(self):
            if self.state.epoch == 2:
                raise KeyboardInterrupt
            original(self)

        patch.setattr(Trainer, "_run_epoch", stop_in_epoch_three)
        with pytest.raises(KeyboardInterrupt):
            restune.train(shapes, out=tmp_path / "stopped", set=settings, **SMALL)
    resumed = restune.train(shapes, out=tmp_path / "stopped", resume=True, set=settings, **SMALL)
    assert resumed.result["resumed_from_step"] > 0
    assert equal(tensors(whole), tensors(resumed))
    assert (whole.out / "metrics.jsonl").read_bytes() == (resumed.out / "metrics.jsonl").read_bytes()


def test_resume_on_nothing_and_on_a_finished_run(shapes, tmp_path):
    run = restune.train(shapes, out=tmp_path / "run", resume=True, set=QUICK, **SMALL)
    again = restune.train(shapes, out=tmp_path / "run", resume=True, set=QUICK, **SMALL)
    assert again.result == run.result


def test_a_run_is_not_overwritten_and_not_resumed_as_another(shapes, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(restune.UserError, match="not empty"):
        restune.train(shapes, out=tmp_path / "run", set=QUICK, **SMALL)
    first = restune.train(shapes, out=tmp_path / "first", set=QUICK, **SMALL)
    (first.out / "result.json").unlink()
    with pytest.raises(restune.UserError, match="epochs 3 -> 2"):
        restune.train(shapes, out=first.out, resume=True, set=QUICK, **{**SMALL, "epochs": 2})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, write_noise):
    """A run on images like `shapes`."""
    folder = tmp_path_factory.mktemp("pretrained")
    data = write_noise(folder / "shapes", (20, 24), bright=(120, 20), dark=(0, 20))
    return restune.train(data, out=folder / "run", set=QUICK, **SMALL).out


@pytest.mark.parametrize("head", ["solve", "sgd"])
@pytest.mark.parametrize("freeze", ["all", "none", "auto", 0, 1])
def test_finetune_replaces_the_head_and_freezes_what_it_should(shapes, tmp_path, pretrained, freeze, head, capsys):
    (shapes / "dark").rename(shapes / "night")
    shutil.copytree(shapes / "night", shapes / "zero")
    options = {"epochs": 4, "batch_size": 8, "precision": "fp32"}
    options["set"] = {"ema.decay": 0.9, "optimizer.weight_decay": 0.1}
    if freeze in ("all", "auto"):
        options["set"] = {**options["set"], "head": head}
    if (freeze, head) == ("all", "solve"):
        options = {}
    run = restune.finetune(shapes, weights=pretrained, freeze=freeze, out=tmp_path / "tuned", **options)
    said = capsys.readouterr().err
    assert "new 3-class head (was 2)" in said
    assert run.model.classes == ("bright", "night", "zero")
    before, after = restune.load(pretrained).module.state_dict(), run.model.module.state_dict()
    frozen = {"all": ("conv1", "bn1", "layer"), 0: ("conv1", "bn1"), 1: ("conv1", "bn1", "layer1")}.get(freeze, ())
    for name in before:
        if name.startswith("fc."):
            assert before[name].shape != after[name].shape
        elif frozen and name.startswith(frozen):
            assert torch.equal(before[name], after[name]), name
    if freeze == "auto" and head == "solve":
        scores = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
        assert scores[0]["epoch"] == 0  # the solved head is the first to be beaten
        assert run.result["val"]["accuracy"] >= scores[0]["val_accuracy"]
        assert "fitted head: validation accuracy" in said
    if freeze in ("none", 0, 1):
        assert not torch.equal(before["layer2.0.conv1.weight"], after["layer2.0.conv1.weight"])


def test_preprocessing_follows_the_weights(shapes, tmp_path, pretrained):
    run = restune.finetune(shapes, weights=pretrained, freeze="all", out=tmp_path / "tuned")
    assert run.model.preprocess == restune.load(pretrained).preprocess
    assert run.model.info.training["weights"].endswith("model.safetensors")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_grey_and_many_channels(tmp_path, channels, pretrained):
    random = np.random.default_rng(0)
    shape = (40, 16, 16) if channels == 1 else (40, 16, 16, channels)
    images = random.integers(0, 100, shape, dtype=np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1] += 120
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    settings = {**QUICK, "augment.crop_scale": None}
    trained = restune.train(tmp_path / "data.npz", out=tmp_path / "run", set=settings, **SMALL)
    assert trained.model.spec.in_channels == (5 if channels == 5 else 3)
    assert trained.model.predict(images[0])[0].label in "01"
    tuned = restune.finetune(tmp_path / "data.npz", weights=pretrained, epochs=2, batch_size=8, out=tmp_path / "tuned")
    assert tuned.model.spec.in_channels == (5 if channels == 5 else 3)


def test_a_loss_that_is_no_number_stops_the_run(shapes, tmp_path):
    exploding = {**QUICK, "optimizer.weight_decay": 5, "optimizer.lr": 100}
    with pytest.raises(
        restune.UserError, match=r"the loss became (nan|inf) at step|is NaN or infinite at step"
    ) as caught:
        restune.train(shapes, out=tmp_path / "run", set=exploding, **{**SMALL, "epochs": 60})
    # Which comes first, the next loss or the checkpoint at an epoch's end, depends on rounding.
    assert ".png" in caught.value.where or "checkpoints" in caught.value.where
    assert "lower the learning rate (--lr)" in caught.value.fix


def test_early_stopping(shapes, tmp_path):
    settings = {**QUICK, "early_stopping.patience": 2}
    run = restune.train(shapes, out=tmp_path / "run", set=settings, **{**SMALL, "epochs": 50})
    assert run.result["epochs"] < 50


def test_time_is_kept_and_annealed(shapes, tmp_path, step_clock):
    started = step_clock.seconds
    run = restune.train(
        shapes, out=tmp_path / "run", time="30s", set=QUICK, **{k: v for k, v in SMALL.items() if k != "epochs"}
    )
    trained = step_clock.seconds - started
    assert run.result["seconds"] == pytest.approx(trained, abs=1e-3)
    assert 20 < trained <= 25, "five seconds are kept for the scores and the report"
    metrics = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["lr"] < 0.01 * max(record["lr"] for record in metrics)
    assert run.result["epochs"] == len(metrics) > 3


def test_no_validation_keeps_the_last_weights(shapes, tmp_path):
    run = restune.train(shapes, out=tmp_path / "run", val=0, set=QUICK, **SMALL)
    assert run.result["val"] is None
    assert run.result["items"] == {"train": 40}
    assert run.result["best_epoch"] is None
    last = max((run.out / "checkpoints").iterdir())
    kept = safetensors.torch.load_file(last / "tensors.safetensors")
    assert all(torch.equal(value, kept[f"network:{name}"]) for name, value in tensors(run).items())


MISTAKES = {
    "wrong folder level": ({"data": "bright"}, "outside any class folder"),
    "batch larger than the data": ({"batch_size": 64}, "--batch-size 8"),
    "option without effect": ({"set": {"schedule.gamma": 0.5}}, "no effect"),
    "epochs with time": ({"time": "1m"}, "the clock decides"),
    "unknown recipe key": ({"set": {"optimzer.lr": 0.5}}, "Did you mean 'optimizer.lr'"),
    "unknown option": ({"learning_rate": 0.5}, "not a setting"),
    "unknown network": ({"model": "resnet19"}, "Did you mean"),
    "unknown recipe": ({"recipe": "defalut"}, "Did you mean 'default'"),
    "share of 1": ({"val": 1.0}, "below 1"),
    "views": ({"set": {"views": 3}}, "no effect"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(shapes, tmp_path, mistake):
    options, message = MISTAKES[mistake]
    options = dict(options)
    data = shapes / options.pop("data", ".")
    settings = {**QUICK, **options.pop("set", {})}
    with pytest.raises(restune.UserError, match=message):
        restune.train(data, out=tmp_path / "run", set=settings, **{**SMALL, **options})


def test_classes_that_are_too_small_or_lacking(shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "val")
    shutil.rmtree(tmp_path / "val" / "dark")
    with pytest.raises(restune.UserError, match="only one class"):
        restune.train(shapes, val=str(tmp_path / "val"), out=tmp_path / "a", set=QUICK, **SMALL)
    shutil.copytree(shapes / "bright", tmp_path / "val" / "grey")
    with pytest.raises(restune.UserError, match="'grey' that the training data does not know"):
        restune.train(shapes, val=str(tmp_path / "val"), out=tmp_path / "b", set=QUICK, **SMALL)
    for path in sorted((shapes / "dark").iterdir())[2:]:
        path.unlink()
    with pytest.raises(restune.UserError, match=r"'dark' \(2\)"):
        restune.train(shapes, out=tmp_path / "c", set=QUICK, **SMALL)


def test_weights_of_another_network(shapes, tmp_path, pretrained):
    with pytest.raises(restune.UserError, match="belong to resnet8, not to resnet20"):
        restune.finetune(shapes, model="resnet20", weights=pretrained, out=tmp_path / "run")


def test_smoke_takes_two_batches(shapes, tmp_path):
    run = restune.train(shapes, out=tmp_path / "run", smoke=True, set=QUICK, **SMALL)
    assert run.result["steps"] == 2


def test_smoke_reads_a_few_items_of_each_class(tmp_path, capsys, monkeypatch):
    path = tmp_path / "texts.csv"
    lines = [f"text {row} of many,{'a' if row % 50 else 'bc'[row % 100 // 50]}\n" for row in range(5000)]
    path.write_text("text,label\n" + "".join(lines))
    reads = set()
    read = TextLocation.read
    monkeypatch.setattr(TextLocation, "read", lambda self: reads.add(self.index) or read(self))
    run = restune.train(path, out=tmp_path / "run", smoke=True, batch_size=16, threads=1, device="cpu")
    items = run.result["items"]
    assert run.result["steps"] == 2
    assert 500 <= items["train"] < 1000
    assert len(reads) == sum(items.values())
    assert f"smoke run: reads {sum(items.values()):,} of 5,000 items" in capsys.readouterr().err
    assert run.result["classes"] == ["a", "b", "c"]


def test_other_data_for_validation_and_test(shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "other")
    run = restune.train(
        shapes, val=str(tmp_path / "other"), test=str(tmp_path / "other"), out=tmp_path / "run", set=QUICK, **SMALL
    )
    assert run.result["items"] == {"train": 40, "val": 40, "test": 40}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_trains_in_bf16(shapes, tmp_path):
    run = restune.train(shapes, out=tmp_path / "run", device="cuda", set=QUICK, **{**SMALL, "precision": "auto"})
    assert run.result["val"]["accuracy"] == 1.0
    assert "precision: bf16" in (run.out / "recipe.yaml").read_text()


def test_a_solved_head_is_the_same_cached_or_not(shapes, tmp_path, pretrained):
    """On disk, again from disk, and without the cache."""
    settings = {"label_smoothing": 0.0, "augment.crop_scale": None}
    heads = []
    for name, more in (("first", {}), ("again", {}), ("without", {"cache": False})):
        run = restune.finetune(shapes, weights=pretrained, freeze="all", out=tmp_path / name, set={**settings, **more})
        heads.append(run.model.module.fc)
        facts = run.result["head"]
        assert (facts["features_computed"] == 0) == (name == "again")
    for head in heads[1:]:
        assert torch.allclose(head.weight, heads[0].weight, atol=1e-5)


def test_cached_layers_change_no_epoch(shapes, tmp_path, pretrained):
    """Batches from the cache and batches through the frozen layers train the same network."""
    settings = {**QUICK, "augment.crop_scale": None, "augment.flip": False, "ema.decay": None}
    runs = {}
    for cache in (True, False):
        runs[cache] = restune.finetune(
            shapes, weights=pretrained, freeze=1, epochs=3, batch_size=8, out=tmp_path / str(cache), precision="fp32",
            set={key: value for key, value in settings.items() if not key.startswith("spec")} | {"cache": cache},
        )  # fmt: skip
    one, other = (runs[cache].model.module.state_dict() for cache in (True, False))
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=1e-4), name
    lines = [[json.loads(line)["train_loss"] for line in (runs[c].out / "metrics.jsonl").open()] for c in (True, False)]
    assert lines[0] == pytest.approx(lines[1], abs=1e-4)


def test_views_that_do_not_help_are_not_used(tmp_path, pretrained, write_noise, capsys):
    """Crops of a ninth of the image tell less than the image: one view is taken, where the clock would allow more."""
    data = write_noise(tmp_path / "many", bright=(75, 110), dark=(0, 110))
    settings = {"augment.crop_scale": [0.01, 0.012], "augment.crop_ratio": [0.2, 5.0]}
    named = {"weights": pretrained, "freeze": "all", "set": settings, "image_size": 16}
    run = restune.finetune(data, out=tmp_path / "timed", time="60s", **named)
    said = capsys.readouterr().err
    assert (run.result["head"]["views"] == 1) == ("do not lower the validation loss" in said)
    losses = {}
    for views in (1, 8):
        fixed = restune.finetune(data, out=tmp_path / str(views), views=views, **named)
        losses[views] = min(loss for _, loss in fixed.result["head"]["tried"])
    assert run.result["head"]["views"] == min(losses, key=lambda views: (losses[views], views))


@pytest.mark.parametrize("setting", ["mixup", "cutmix", "augment.erase"])
def test_what_a_solved_head_cannot_honour_is_refused(shapes, tmp_path, pretrained, setting):
    with pytest.raises(restune.UserError, match="does not allow"):
        restune.finetune(shapes, weights=pretrained, freeze="all", out=tmp_path / "t", set={setting: 0.5})


@pytest.mark.parametrize("option", [{"epochs": 3}, {"lr": 0.1}, {"set": {"schedule.name": "step"}}])
def test_what_a_solved_head_does_not_use_is_refused(shapes, tmp_path, pretrained, option):
    with pytest.raises(restune.UserError, match="no effect here: the head is fitted"):
        restune.finetune(shapes, weights=pretrained, freeze="all", out=tmp_path / "t", **option)


def test_few_items_resume_with_the_batch_size_that_was_chosen_for_them(shapes, tmp_path):
    options = {"model": "resnet8", "image_size": 16, "epochs": 2, "out": tmp_path / "run", "set": QUICK}
    first = restune.train(shapes, **options)
    state = first.model.module.state_dict()
    (first.out / "result.json").unlink()
    again = restune.train(shapes, resume=True, **options)
    assert again.result["resumed_from_step"] == first.result["steps"]
    assert all(torch.equal(value, state[name]) for name, value in again.model.module.state_dict().items())
