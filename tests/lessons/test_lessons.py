"""Lessons: every one is told in both languages; options, misuse, and what the experiments count with.

That each runs through the command and writes its page is in tests/browser/test_lessons.py.
"""

from __future__ import annotations

import json
import re

import pytest
import torch

import restune
from restune.core.language import Text
from restune.lessons.catalogue import LESSONS, find_lesson
from restune.lessons.effort import effort_for
from restune.lessons.experiments.efficiency import layer_uses
from restune.lessons.experiments.shortcut import VARIANTS, scaled
from restune.lessons.experiments.transfer import crossing
from restune.lessons.published import VGG16, cost_of
from restune.networks.zoo import find

KINDS = ("plain", "residual")
TEXTS = ("question", "claim", "method", "popular", "next_steps")


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_told_in_both_languages(name):
    lesson = find_lesson(name)
    assert lesson.name == name
    for text in (LESSONS[name], *(getattr(lesson, part) for part in TEXTS)):
        assert isinstance(text, Text)
        assert re.search("[一-鿿]", text.zh)
        assert not re.search("[一-鿿]", text.en)
    assert lesson.sources
    assert 0 < lesson.seconds <= 300


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_command_lists_the_lessons(run, language):
    printed = run("lesson", "--lang", language)
    assert printed.returncode == 0
    for name, claim in LESSONS.items():
        assert re.search(rf"^{name} .*{re.escape(claim.of(language))}$", printed.stdout, re.MULTILINE)
    listed = json.loads(run("lesson", "--lang", language, "--json").stdout)["lessons"]
    assert listed == [{"name": name, "claim": claim.of(language)} for name, claim in LESSONS.items()]
    assert len(listed) >= 4


def test_time_chooses_the_effort_and_python_gets_the_result(four_colours, tmp_path):
    result = restune.lesson("degradation", data=four_colours, time="1s", seeds=1, out=tmp_path / "out", lang="zh")
    assert result.page.exists()
    assert result.conclusion == result.evidence.conclusion.zh
    assert set(result.facts["train_loss"]) == {f"{kind}-{depth}" for kind in KINDS for depth in (8, 20, 32, 56)}
    assert 0.02 <= result.effort < 1
    assert f"--effort {result.effort:g}" in result.command


def test_effort_fits_the_budget():
    assert effort_for(60, 240) == 0.25
    assert effort_for(1, 1e9) == 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shortcuts",), "unknown lesson 'shortcuts'"),
        (("shortcut", "--time", "soon"), "'soon' is not a duration"),
        (("shortcut", "--time", "2m", "--effort", "1"), "--time chooses the effort"),
        (("shortcut", "--seeds", "0"), "the number of seeds must be from 1 to 100"),
        (("shortcut", "--effort", "0"), "the effort must be above 0"),
        (("shortcut", "--data", "no/such/folder"), "there is no such data"),
        (("shortcut", "--lang", "fr"), "there is no text in the language"),
        (("shortcut", "--model", "resnet8"), "trains its own networks"),
        (("shortcut", "--write", "x.py"), "--write has no effect here"),
        (("exercise", "--time", "2m"), "--time has no effect here"),
        (("--out", "somewhere"), "--out has no effect here"),
    ],
)  # fmt: skip
def test_misuse_gives_one_message(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    printed = run("lesson", *arguments)
    assert printed.returncode == 2
    assert message in printed.stderr
    assert printed.stderr.startswith("error: ")
    assert printed.stderr.count("error:") == 1
    assert "Traceback" not in printed.stderr
    assert list(tmp_path.iterdir()) == []


def test_data_and_folders_that_do_not_fit(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run("lesson", "transfer", "--data", photos)
    assert printed.returncode == 2
    assert "needs at least 4 classes" in printed.stderr
    assert not (tmp_path / "runs").exists()  # the folder of a lesson that did not begin is removed
    printed = run("lesson", "transfer", "--out", photos)
    assert printed.returncode == 2
    assert "this folder is not empty" in printed.stderr
    (tmp_path / "texts.txt").write_text("good fine film\nbad poor film\n" * 20)
    printed = run("lesson", "shortcut", "--data", tmp_path / "texts.txt")
    assert printed.returncode == 2
    assert "lessons take images" in printed.stderr


def test_published_costs_equal_torchvisions():
    """The figures of VGG-16 are computed from its layers; torchvision builds the same network."""
    from torchvision.models import resnet50, vgg16

    with torch.device("meta"):
        vgg, resnet = vgg16(), resnet50()
    assert sum(p.numel() for p in vgg.parameters()) == VGG16.parameters == 138_357_544
    assert sum(p.numel() for p in vgg.classifier.parameters()) == VGG16.linear
    assert round(VGG16.multiply_adds / 1e9, 2) == 15.47  # VGG16_Weights.IMAGENET1K_V1.meta["_ops"]
    ours = cost_of(find("resnet50").spec, 224)
    assert ours.parameters == sum(p.numel() for p in resnet.parameters())
    assert ours.linear == sum(p.numel() for p in resnet.fc.parameters())


def test_no_layer_is_used_twice_unless_it_is():
    network = restune.create_model("resnet8", num_classes=10)
    assert set(layer_uses(network, 16).values()) == {1}
    assert len(layer_uses(network, 16)) == 8
    network.layer1[0].conv2 = network.layer1[0].conv1  # a network that does re-use a layer
    assert max(layer_uses(network, 16).values()) == 2


def test_a_scaled_shortcut_scales_what_it_says(randomize):
    network = randomize(restune.create_model("resnet8", num_classes=10))
    block, x = network.layer1[0], torch.rand(2, 16, 8, 8)
    branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    scaled(0.5, 0.25)(network)
    torch.testing.assert_close(block(x), torch.relu(0.25 * branch + 0.5 * x))
    assert len(VARIANTS) == 8


def test_crossing():
    assert crossing([10, 1000], [0.8, 0.8], [0.6, 1.0]).items == 100.0
    assert crossing([10, 100], [0.8, 0.9], [0.6, 0.7]).items is None
    assert crossing([10, 100], [0.8, 0.9], [0.6, 0.7]).is_ahead
    assert not crossing([10, 100], [0.5, 0.9], [0.6, 0.7]).is_ahead
