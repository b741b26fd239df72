"""Wrong options are reported before data is read and torch is imported, with advice on the values allowed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import restune
from restune.data.kinds import SIGNAL
from restune.training.recipe import Recipe, all_keys, parse_duration
from restune.training.recipe_advice import _OTHER_NAMES, _OTHER_VALUES
from restune.weights import hub
from restune.weights.bundle import BundleInfo, write_bundle

CASES = [
    (["--set", "optimizer.name=adm"], ["Did you mean", "allowed: sgd, adamw, adam"]),
    (["--set", "schedule.name=multistep"], ["use 'step'", "cosine, linear, step, one-cycle, constant"]),
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


WRONG = {
    "Did you mean 'flip'? allowed: single, flip, five-crop, spread": ["predict", "v.pth", "x.jpg", "--views", "flop"],
    "use one of single, flip, five-crop": ["evaluate", "resnet50:v2", "{photos}", "--views", "spread"],
    "use one of spread, single": ["predict", "r3d_18:v1", "x.mp4", "--views", "flip"],
    "Did you mean 'v.pth'?": ["predict", "./w.pth", "x.jpg"],
    "no such file": ["evaluate", "no/such.safetensors", "{photos}"],
    "does not contain model.safetensors": ["evaluate", "{photos}", "{photos}"],
    "published for this network: resnet50:v1, resnet50:v2": ["embed", "resnet50:v3", "{photos}"],
    "name them with --weights: resnet18:v1": ["evaluate", "resnet18", "{photos}"],
    "Did you mean 'resnet18:v1'": ["finetune", "{photos}", "--weights", "resnet18-v1"],
    "name published ones: resnet18:v1": ["finetune", "{photos}", "--weights", "resnet18"],
    "Did you mean 'photos'?": ["evaluate", "resnet50:v2", "photoz"],
    "Did you mean 'bilinear'? allowed: nearest, bilinear, bicubic":
        ["predict", "resnet50:v2", "x.jpg", "--interpolation", "bilin"],
    "name it a.npz": ["embed", "resnet50:v2", "{photos}", "--out", "a.txt"],
    "Did you mean 'resnet": ["models", "resnet51"],
    "Did you mean 'resnet8'": ["bench", "resnet9"],
    "use 1 or more": ["bench", "--seconds", "0"],
    "write it like 500M or 2G": ["cache", "--prune", "--to", "lots"],
    "Did you mean 'resnet18'": ["train", "{photos}", "--model", "resnet19"],
    "there is no such data": ["train", "{photos}", "--val", "no/such"],
    "add --resume": ["train", "{photos}", "--out", "{photos}"],
    "name one such as utf-8": ["train", "{photos}", "--encoding", "utf-9"],
    "use one of image, signal, text, video": ["train", "{photos}", "--kind", "picture"],
}  # fmt: skip
"""Wrong commands by their advice."""


@pytest.mark.parametrize("advice", WRONG)
def test_other_verbs_advise_too(run, photos, monkeypatch, advice):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "v.pth").write_bytes(b"")
    done = run(*(word.format(photos=photos) for word in WRONG[advice]))
    assert done.returncode == 2
    assert advice in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 3


def test_a_stored_model_has_the_views_of_its_kind(run, photos, tmp_path):
    network = restune.create_model("resnet1d18", width=4, num_classes=2)
    info = BundleInfo(spec=network.spec, classes=("a", "b"), preprocess=SIGNAL.preprocess_class(channels=1))
    write_bundle(tmp_path / "m.safetensors", network.state_dict(), info)
    done = run("predict", tmp_path / "m.safetensors", photos, "--views", "flip")
    assert "unknown views 'flip' of series" in done.stderr


def test_names_of_published_weights_are_torchvisions():
    """The table that is checked without torchvision names exactly what torchvision publishes."""
    theirs = set(hub._torchvision())
    for name in theirs:
        hub.reject_unknown(name)
    listed = {name for model in hub._TORCHVISION for name in hub.available(model)}
    assert {name for name in theirs if ":" in name} == {n for n in listed if not n.startswith("timm:")}
    for enum, _ in hub._TORCHVISION.values():
        assert f"{enum}_Weights.DEFAULT" in theirs


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
        *WRONG.values(),
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
