"""restune models on the command line: the list, drawings, comparisons, changes, runs, and mistakes."""

from __future__ import annotations

import json
import xml.etree.ElementTree

import pytest

import restune
from restune.weights import bundle


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = restune.create_model("resnet8", num_classes=3, width=8)
    info = bundle.BundleInfo(
        spec=network.spec, classes=("a", "b", "c"), preprocess=restune.ImagePreprocess(crop=48), name="resnet8"
    )
    bundle.write_bundle(path, network.state_dict(), info)
    return path


def listed(run, *arguments):
    return json.loads(run("models", *arguments, "--json").stdout.splitlines()[-1])


def test_sorted_and_filtered(run):
    found = listed(run, "resnet*", "--sort", "-parameters", "--filter", "imagenet")["models"]
    assert [model["name"] for model in found] == ["resnet152", "resnet101", "resnet50", "resnet34", "resnet18"]
    assert all(model["published"]["data"] == "ImageNet-1K" for model in found)
    by_name = {model["name"]: model for model in found}
    assert by_name["resnet50"]["published"]["accuracy"] == pytest.approx(0.80858)
    assert "IMAGENET1K_V2" in by_name["resnet50"]["published"]["source"]
    by_accuracy = listed(run, "resnet?0", "--sort", "accuracy")["models"]
    assert [model["name"] for model in by_accuracy] == ["resnet50", "resnet20"]
    assert by_accuracy[1]["published"]["accuracy"] == 0.9173


def test_drawings_of_a_changed_network(run, tmp_path):
    svg, html = tmp_path / "new" / "a.svg", tmp_path / "a.html"
    printed = run(
        "models", "resnet18", "--set", "spec.width=32", "--set", "spec.shortcut=D", "--svg", svg, "--html", html
    )
    assert printed.stdout.splitlines() == [f"written: {svg}", f"written: {html}"]
    xml.etree.ElementTree.parse(svg)
    assert "resnet18 (width=32, shortcut=D)" in svg.read_text()
    assert "D: average, project" in svg.read_text()
    assert "--set spec.width=32" in html.read_text(), "the page says how to repeat it"


def test_a_network_and_its_plain_twin(run):
    both = listed(run, "resnet20", "resnet20", "--set", "spec.residual=false")
    first, second = both["models"]
    assert (first["changes"], second["changes"]) == ([], ["residual=false"])
    assert first["parameters"] == second["parameters"] == 269_722
    assert both["differences"], "the blocks differ"
    assert all("no shortcut" in line for line in both["differences"])
    text = run("models", "resnet18", "resnet50").stdout
    assert "stage 1: 148 K parameters | 216 K parameters" in text


def test_a_model_file(run, model_file):
    (model,) = listed(run, str(model_file))["models"]
    assert model["input"] == [3, 48, 48]
    assert model["parts"][-1]["shape"] == [3]
    assert model["parameters"] == sum(p.numel() for p in restune.load(model_file).module.parameters())
    text = run("models", str(model_file), "--lang", "zh").stdout
    assert "分类头" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet18", "--set", "optimizer.lr=1"], "not an option of a network"),
        (["resnet18", "--set", "spec.widht=1"], "Did you mean 'spec.width'"),
        (["resnet18", "--lang", "fr"], "there is no text in the language"),
        (["resnet*", "--svg", "x.svg"], "cannot be drawn together"),
        (["--sort", "size"], "cannot be sorted"),
        (["--filter", "nothing of the kind"], "no network contains"),
        (["resnet18", "resnet*"], "matches"),
        (["resnet18", "--svg", "/proc/nothing/x.svg"], "cannot be written"),
    ],
)
def test_mistakes(run, arguments, message):
    done = run("models", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
