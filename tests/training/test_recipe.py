"""Recipes: YAML in, YAML out; every mistake names its key."""

from __future__ import annotations

from importlib import resources

import pytest

import restune
from restune.training.recipe import Recipe, all_keys, parse_assignment, parse_duration, read_recipe, shipped_recipes

SHIPPED = [
    *("cifar-fast", "cifar-paper", "default", "finetune", "finetune-series", "finetune-text", "finetune-video"),
    *("imagenet-classic", "series", "sounds", "text", "video"),
]


def test_the_shipped_recipes_are_twelve_and_say_what_to_expect():
    assert shipped_recipes() == SHIPPED
    for name in shipped_recipes():
        recipe = read_recipe(name)
        header = (resources.files("restune") / "recipes" / f"{name}.yaml").read_text().splitlines()[:6]
        assert all(line.startswith("#") for line in header[:5])
        for word in ("command:", "expected time:", "expected score:", "evidence:"):
            assert any(word in line for line in header), (name, word)
        open_network = name.startswith("finetune") or name in ("default", "sounds")  # weights decide, or the items
        assert (recipe.model in restune.list_models()) == (not open_network)


@pytest.mark.parametrize("name", SHIPPED)
def test_yaml_in_yaml_out(name, tmp_path):
    recipe = read_recipe(name)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


def test_numbers_that_yaml_reads_as_text(tmp_path):
    (tmp_path / "r.yaml").write_text("optimizer: {lr: 1e-3}\n")
    assert read_recipe(tmp_path / "r.yaml").optimizer.lr == 0.001
    assert parse_assignment("optimizer.lr=1e-3") == ("optimizer.lr", "1e-3")
    assert Recipe().changed({"optimizer.lr": "1e-3"}).optimizer.lr == 0.001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser.lr": 1}, "Did you mean 'optimizer.lr'"),
        ({"optimizer.learning_rate": 1}, "not a setting"),
        ({"lable_smoothing": 0.1}, "Did you mean 'label_smoothing'"),
        ({"optimizer.lr": -1}, "optimizer.lr: .*greater than 0"),
        ({"optimizer.lr": "fast"}, "optimizer.lr: .*number"),
        ({"optimizer.lr": float("inf")}, "optimizer.lr"),
        ({"epochs": 10**12}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"schedule.name": "quadratic"}, "schedule.name"),
        ({"image_sizes": [{"until": 0.5, "size": 8}, {"until": 0.5, "size": 9}]}, "image_sizes: .*end later"),
        ({"image_sizes": [{"until": 1.5, "size": 8}]}, "image_sizes.0.until"),
        ({"augment.crop_scale": [1.0, 0.5]}, "augment.crop_scale"),
        ({"augment": 3}, "augment"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(restune.UserError, match=message):
        Recipe().changed(changes)


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['touch ran']", "[1, 2]", "a: [", "&a [*a]", "batch_size: !!binary aGVsbG8="],
)
def test_no_tag_is_obeyed_and_broken_yaml_is_said(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(restune.UserError):
        read_recipe(tmp_path / "r.yaml")
    assert not (tmp_path / "ran").exists()


def test_unknown_recipe():
    with pytest.raises(restune.UserError, match="Did you mean 'cifar-fast'"):
        read_recipe("cifar-fats")


def test_promised_keys_exist():
    promised = (
        "optimizer.name optimizer.lr optimizer.weight_decay schedule.name schedule.warmup_epochs mixup cutmix "
        "label_smoothing ema.decay early_stopping.patience checkpoint.every_steps checkpoint.every_minutes views"
    )
    assert set(promised.split()) <= set(all_keys())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), (45, 45)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "m", "-3m", "0", "1d", "1..5h"])
def test_durations_that_are_none(text):
    with pytest.raises(restune.UserError, match="not a duration"):
        parse_duration(text)
