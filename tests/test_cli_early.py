"""Wrong options are reported before data is read and torch is imported, with advice on the values allowed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import restune
from restune.training.recipe import Recipe, all_keys, parse_duration
from restune.training.recipe_advice import _OTHER_NAMES, _OTHER_VALUES

CASES = [
    (["--set", "optimizer.name=adm"], ["Did you mean", "allowed: sgd, adamw, adam"]),
    (["--set", "schedule.name=multistep"], ["use 'step'", "cosine, step, one-cycle, constant"]),
    (["--set", "loss=mse"], ["allowed: cross-entropy, binary-cross-entropy"]),
    (["--set", "sampling=balancd"], ["Did you mean 'balanced'?"]),
    (["--set", "lr=0.1"], ["Did you mean 'optimizer.lr'?"]),
    (["--set", "padding=4"], ["use augment.shift"]),
    (["--set", "optimizer.momentm=0.9"], ["Did you mean", "'optimizer.momentum'"]),
    (["--set", "foo=1"], ["recipe.yaml of any run lists all settings"]),
    (["--lr", "-3"], ["above 0 and at most 100 (default 0.1)"]),
    (["--set", "label_smoothing=1.5"], ["at least 0 and below 1"]),
    (["--time", "soon"], ["write it like 90s, 10m or 1h30m"]),
    (["--recipe", "nope"], ["the shipped ones are"]),
    (["--seed", "1", "--seed", "2"], ["--seed is given 2 times"]),
    (["--label-column", "a", "--label-column=b"], ["--label-column is given 2 times"]),
]


@pytest.mark.parametrize(("arguments", "advice"), CASES)
def test_advice_says_what_is_allowed(run, photos, arguments, advice):
    done = run("train", photos, *arguments)
    assert done.returncode == 2
    assert all(text in done.stderr for text in advice), done.stderr
    for riddle in ("it is '", "it has {}", "what to do: the settings are"):
        assert riddle not in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 250


def test_options_that_may_repeat_do(run, photos, tmp_path):
    settings = ["--set", "optimizer.lr=0.01", "--set", "augment.flip=false", "--set", "min_class_items=1"]
    done = run(
        "train", photos, "--model", "resnet8", "--image-size", 16, "--epochs", 1, *settings, "--out", tmp_path / "r"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "{photos}", "--set", "optimizer.name=adm"],
        ["train", "no/such/folder"],
        ["finetune", "{photos}", "--weights", "no/such.pth"],
        ["finetune", "{photos}", "--time", "soon"],
    ],
)
def test_nothing_heavy_is_imported_first(photos, arguments):
    words = [word.format(photos=photos) for word in arguments]
    code = (
        f"import sys; sys.argv = ['restune', *{words!r}]\n"
        "from restune.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, [m for m in ('torch', 'torchvision', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []", done.stdout + done.stderr


def test_a_missing_path_names_what_is_near(run, photos):
    done = run("train", str(photos)[:-1] + "z")
    assert done.returncode == 2
    assert "Did you mean 'photos'?" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("90 sec", 90), ("2min", 120), ("2 minutes", 120), ("1.5h", 5400), ("1h30m", 5400),
     ("1h 30m 5s", 5405), ("2 hours", 7200)],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "30m1h", "5m5m", "0.5", "-3", "1,5h"])
def test_what_is_no_duration(text):
    with pytest.raises(restune.UserError, match="not a duration"):
        parse_duration(text)


def test_advice_names_settings_and_values_that_exist():
    keys = all_keys()
    for ours in _OTHER_NAMES.values():
        assert all(key in keys for key in ours.split(" and ")), ours
    schema = str(Recipe.model_json_schema())
    assert all(f"'{ours}'" in schema for ours in _OTHER_VALUES.values())
