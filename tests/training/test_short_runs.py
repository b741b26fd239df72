"""Runs of few steps: learning rates, batch-norm statistics and averaged weights that keep up, a network that suits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from torch.optim.swa_utils import update_bn

import restune
from restune.data.sources import open_dataset
from restune.runs import network_choice
from restune.runs.network_choice import choose_network
from restune.training import checkpoint, loop
from restune.training.checkpoint_writer import CheckpointWriter
from restune.training.distributed import World
from restune.training.optimizer import NamedOptimizer
from restune.training.recipe import read_recipe
from restune.training.resolve_auto import resolve_batch_size, resolve_norm_batches, resolve_policy

SMALL = {"model": "resnet8", "image_size": 16, "batch_size": 8, "threads": 1, "precision": "fp32"}
TINY = {"spec.width": 4, "spec.depths": [1, 1]}


@pytest.fixture
def data(tmp_path, write_noise):
    return write_noise(tmp_path / "data", bright=(120, 30), dark=(0, 30))


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of each optimiser step, as a share of the peak."""
    used = []
    step = NamedOptimizer.step

    def logged(self, multiplier):
        used.append(multiplier)
        return step(self, multiplier)

    monkeypatch.setattr(NamedOptimizer, "step", logged)
    return used


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_each_step_has_the_rate_that_torchs_scheduler_gives_it(data, tmp_path, rates):
    """48 training items in batches of 8 are 6 steps per epoch."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    theirs = []
    for _ in range(12):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    settings = {**TINY, "schedule.warmup_epochs": 0}
    restune.train(data, out=tmp_path / "run", epochs=2, set=settings, **SMALL)
    assert rates == pytest.approx(theirs)
    assert rates[-1] > 0


def test_accumulated_batches_take_the_rate_at_the_beginning_of_their_step(data, tmp_path, rates):
    """Six batches per epoch in groups of four: steps begin at batches 0 and 4."""
    settings = {**TINY, "schedule.warmup_epochs": 0, "optimizer.accumulate": 4, "schedule.name": "step",
                "schedule.milestones": [0.25, 0.5, 0.75]}  # fmt: skip
    restune.train(data, out=tmp_path / "run", epochs=2, set=settings, **SMALL)
    assert rates == pytest.approx([1.0, 0.1, 0.01, 0.001])


@pytest.mark.parametrize("options", [{"smoke": True}, {"epochs": 1, "batch_size": 48}])
def test_a_run_of_one_or_two_steps_learns(data, tmp_path, rates, options):
    run = restune.train(data, out=tmp_path / "run", set=TINY, **{**SMALL, **options})
    assert len(rates) == run.result["steps"] <= 2
    assert all(rate > 0 for rate in rates)
    assert rates[-1] >= 0.1


def test_a_resumed_run_takes_the_same_rates(data, tmp_path, rates, monkeypatch):
    """Stopped in the middle of the first epoch, at a checkpoint after four of its six steps."""
    settings = {**TINY, "checkpoint.every_steps": 4}
    whole = restune.train(data, out=tmp_path / "whole", epochs=2, set=settings, **SMALL)
    expected, write = list(rates), CheckpointWriter.write
    rates.clear()

    def stop(self, state, **more):
        write(self, state, **more)
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "write", stop)
        with pytest.raises(InterruptedError):
            restune.train(data, out=tmp_path / "run", epochs=2, set=settings, **SMALL)
    state = checkpoint.read_checkpoint(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state.batches == 4
    resumed = restune.train(data, out=tmp_path / "run", epochs=2, resume=True, set=settings, **SMALL)
    assert rates == pytest.approx(expected, abs=0)
    theirs = whole.model.module.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in resumed.model.module.state_dict().items())


def statistics(network):
    return {name: value.clone() for name, value in network.state_dict().items() if "running" in name}


@pytest.mark.parametrize("decay", [None, 0.99])
def test_validated_weights_have_the_statistics_that_torch_estimates_for_them(data, tmp_path, monkeypatch, decay):
    """torch's update_bn over the same batches, for the averaged weights where there is an average."""
    seen, reestimate = [], loop.reestimate

    def compared(network, batches, gradients, epoch, count):
        other = restune.create_model("resnet8", num_classes=2, width=4, depths=(1, 1))
        other.load_state_dict(network.state_dict())
        lagging = statistics(network)
        made = list(batches.epoch(epoch, epoch * len(batches)))[:count]
        update_bn([batches.preprocess.inputs(batch.samples)[0] for batch in made], other)
        reestimate(network, batches, gradients, epoch, count)
        assert not network.training
        for name, value in statistics(other).items():
            assert torch.allclose(network.state_dict()[name], value, rtol=1e-4, atol=1e-5), name
        seen.append((statistics(network), lagging))

    monkeypatch.setattr(loop, "reestimate", compared)
    settings = {**TINY, "ema.decay": decay, "norm_batches": 4, "monitor": "val_loss"}
    run = restune.train(data, out=tmp_path / "run", epochs=3, lr=0.01, set=settings, **SMALL)
    assert len(seen) == 3
    ours, lagging = seen[run.result["best_epoch"] - 1]
    saved = statistics(run.model.module)
    assert all(torch.equal(value, saved[name]) for name, value in ours.items()), "the saved model has them"
    assert any(not torch.allclose(value, saved[name], rtol=0.1) for name, value in lagging.items())


def test_statistics_are_estimated_anew_in_short_runs_from_scratch_only(data, tmp_path):
    short = read_recipe("default")
    few = resolve_norm_batches(short, 480, from_scratch=True)
    assert few.value == 2, "128 items"
    assert "7 steps per epoch" in few.reason
    assert resolve_norm_batches(short, 20_000, from_scratch=True).value == 0
    assert resolve_norm_batches(short, 480, from_scratch=False).value == 0
    assert resolve_norm_batches(short.changed({"norm_batches": 5}), 480, from_scratch=True) is None
    run = restune.train(data, out=tmp_path / "run", epochs=1, set=TINY, **SMALL)
    assert read_recipe(run.out / "recipe.yaml").norm_batches == 6
    tuned = restune.finetune(data, weights=run.out, out=tmp_path / "tuned", freeze="none", epochs=1, batch_size=8)
    assert read_recipe(tuned.out / "recipe.yaml").norm_batches == 0


def test_an_epoch_of_six_steps_is_validated_as_the_network_that_it_trained(data, tmp_path):
    """After six steps at a high rate, running averages still hold statistics of the first ones."""
    first = {}
    for count in (0, 6):
        settings = {**TINY, "norm_batches": count, "schedule.warmup_share": 0.0, "augment.policy": "trivial"}
        run = restune.train(data, out=tmp_path / str(count), epochs=2, lr=0.4, set=settings, **SMALL)
        first[count] = metrics(run.out)[0]
    assert first[0]["train_loss"] == first[6]["train_loss"], "training itself is the same"
    assert first[6]["val_accuracy"] == 1.0
    assert first[6]["val_loss"] < 0.5 * first[0]["val_loss"]


def test_batches_are_small_enough_for_many_steps_unless_a_size_is_named():
    recipe = read_recipe("default")
    assert recipe.batch_size == 64
    sizes = {items: resolve_batch_size(recipe, items, for_steps=True) for items in (40, 200, 480, 1023, 1024, 50_000)}
    assert {items: decision and decision.value for items, decision in sizes.items()} == {
        40: 10, 200: 16, 480: 30, 1023: 63, 1024: None, 50_000: None,
    }  # fmt: skip
    assert "480 training items are 16 steps per epoch, rather than 7 of 64 items" in sizes[480].reason
    assert resolve_batch_size(recipe, 480, for_steps=False) is None
    assert resolve_batch_size(recipe, 40, for_steps=False).value == 10
    assert resolve_batch_size(read_recipe("series"), 100, for_steps=True) is None, "its length is a number of steps"


def test_strong_augmentation_is_for_longer_runs():
    recipe = read_recipe("default")
    assert recipe.augment.policy == "auto"
    assert resolve_policy(recipe, 600).value == "none", "60 epochs of 600 images"
    assert resolve_policy(recipe, 2_000).value == "trivial"
    assert resolve_policy(recipe.changed({"time": 60.0}), 50_000).value == "none"
    assert resolve_policy(recipe.changed({"time": 1800.0}), 600).value == "trivial"
    assert resolve_policy(recipe.changed({"augment.policy": "trivial"}), 600) is None


def write_photos(folder, side, count=12):
    for label, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (side + number, side), colour).save(folder / label / f"{number}.png")
    return folder


def choose(folder, **changes):
    recipe = read_recipe("default").changed(changes)
    return choose_network(recipe, open_dataset(folder), World())


def test_network_and_stem_follow_from_the_size_of_the_images(tmp_path):
    """The median of the shorter sides decides; one broken file and one large photo do not matter."""
    folder = write_photos(tmp_path / "small", 64)
    (folder / "red" / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (900, 800)).save(folder / "blue" / "large.png")
    recipe, decisions = choose(folder)
    assert (recipe.model, recipe.image_size, recipe.spec) == ("resnet18", 64, {"width": 32})
    assert [decision.key for decision in decisions] == ["model", "image_size"]
    assert decisions[0].value == "resnet18 with width 32"
    assert decisions[0].reason == "26 images: half the usual width, for more epochs in the same time"
    assert decisions[1].reason == "the images' own size"
    tiny, decisions = choose(write_photos(tmp_path / "tiny", 28))
    assert (tiny.image_size, tiny.spec) == (28, {"width": 32, "stem": "small"})
    assert "stem small: one of stride 4 would leave 7x7 positions" in decisions[0].reason
    assert choose(write_photos(tmp_path / "dots", 8))[0].image_size == 16
    assert choose(write_photos(tmp_path / "photos", 400))[0].image_size == 128


def test_many_images_get_the_usual_width_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(network_choice, "_FEW", 20)
    recipe, decisions = choose(write_photos(tmp_path / "photos", 400))
    assert (recipe.model, recipe.image_size, recipe.spec) == ("resnet18", 224, {})
    assert decisions[0].value == "resnet18"


def test_what_was_requested_is_kept(tmp_path):
    folder = write_photos(tmp_path / "small", 64)
    named = read_recipe("default").changed({"model": "resnet34"})
    assert choose(folder, model="resnet34") == (named, [])
    recipe, decisions = choose(folder, image_size=40, spec={"width": 8, "attention": "se"})
    assert (recipe.image_size, recipe.spec) == (40, {"width": 8, "stem": "small", "attention": "se"})
    assert [decision.key for decision in decisions] == ["model"], "the size was not decided here"


def test_the_choice_is_printed_stands_in_the_recipe_and_is_kept_on_resume(data, tmp_path, capsys):
    """18-pixel images, fewer than the network takes at least."""
    options = {"epochs": 1, "threads": 1, "precision": "fp32", "set": {"spec.width": 4}}
    out = tmp_path / "run"
    run = restune.train(data, out=out, **options)
    printed = capsys.readouterr().err
    assert "model: resnet18 with width 32 and stem small (60 images: " in printed
    assert "image_size: 18 (the images' own size)" in printed
    assert "batch_size: 12 (there are 48 training items)" in printed
    recipe = read_recipe(out / "recipe.yaml")
    assert (recipe.model, recipe.image_size, recipe.spec) == ("resnet18", 18, {"width": 4, "stem": "small"})
    assert (run.model.module.spec.stem, run.model.module.spec.stem_width) == ("small", 4)
    assert recipe.augment.policy == "none"
    (out / "result.json").unlink()
    again = restune.train(data, out=out, resume=True, **options)
    assert again.result["val"] == run.result["val"]
    repeated = restune.train(data, out=tmp_path / "repeated", recipe=out / "recipe.yaml")
    theirs = repeated.model.module.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in run.model.module.state_dict().items())


def test_sounds_get_a_narrow_network(tmp_path):
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(6):
            wavfile.write(tmp_path / label / f"{number}.wav", 8000, random.normal(0, 0.1, 800).astype(np.float32))
    dataset = open_dataset(tmp_path)
    recipe, (decision,) = choose_network(read_recipe("sounds"), dataset, World())
    assert (recipe.model, recipe.spec) == ("resnet1d18", {"width": 32})
    assert decision.reason == "12 series: half the usual width, for more epochs in the same time"
