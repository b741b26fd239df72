"""Weights inside the package: listed, loaded by name, and taken where nothing better can be had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import restune
from restune.core.errors import ChoiceError, UserError
from restune.data.sources import open_dataset
from restune.runs.default_weights import default_weights
from restune.weights import bundled, download, hub
from restune.weights.bundle import read_info, read_tensors
from restune.weights.load import read_weights


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)
    monkeypatch.chdir(tmp_path)


def test_every_shipped_file_says_all_of_itself_and_is_small() -> None:
    for one in bundled.listed():
        info = read_info(one.file)
        assert info is not None, one.file
        assert one.size <= 5_000_000
        assert hub.is_published_reference(one.reference)
        assert one.reference == f"{info.name}:{one.reference.partition(':')[2]}"
        assert info.licence
        assert one.data
        assert one.source
        assert one.header["training"]["data"]["fingerprint"]
        assert one.header["training"]["recipe_name"]
        assert isinstance(one.header["training"]["seed"], int)
        assert len(info.classes) == info.spec.num_classes
        assert one.test is not None
        assert 0.5 < one.test["accuracy"] < 1
        assert one.test["n"] >= 1000
        assert one.test["data"]
        tensors = read_tensors(one.file)
        assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.bfloat16}


def test_they_are_loaded_by_name_as_float32_and_predict(bundle_weights: Callable[..., Path]) -> None:
    file = bundle_weights()
    weights = read_weights("resnet8:cifar10")
    assert weights.source == "resnet8:cifar10 (bundled with restune)"
    assert weights.licence == "Apache-2.0"
    stored = read_tensors(file)
    for name, value in weights.state.items():
        assert torch.equal(value, stored[name].to(value.dtype))
        assert value.dtype in (torch.float32, torch.int64)
    model = restune.load("resnet8:cifar10")
    assert model.classes == ("cat", "dog", "ship")
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8).numpy()
    reference = restune.create_model("resnet8", num_classes=3)
    reference.load_state_dict({name: value.float() for name, value in stored.items()})
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.2
    with torch.no_grad():
        expected = reference.eval()(inputs).argmax(1).tolist()
    assert [model.classes.index(str(one.label)) for one in model.predict(list(images))] == expected


def test_published_weights_of_the_same_name_keep_another(bundle_weights: Callable[..., Path]) -> None:
    bundle_weights("resnet20")
    assert hub.available("resnet20") == ("resnet20:cifar10", "resnet20:cifar10_akamaster")
    assert hub.cached("resnet20:cifar10") == bundled.file_of("resnet20:cifar10")
    assert hub.cached("resnet20:cifar10_akamaster") is None
    hub.reject_unknown("resnet20:cifar10_akamaster")
    with pytest.raises(UserError, match="resnet20:cifar10"):
        hub.reject_unknown("resnet20:cifar1")


@pytest.mark.usefixtures("offline")
def test_finetuning_takes_them_without_network_and_says_so(
    bundle_weights: Callable[..., Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_weights()
    dataset = open_dataset(photos)
    assert default_weights(None, dataset).source == "resnet8:cifar10 (bundled with restune)"
    said = capsys.readouterr().err
    assert said.count("weights:") == 1
    for part in (
        "resnet8:cifar10",
        "Tiny CIFAR",
        "add `--weights resnet18:v1`",
        "network connection",
    ):
        assert part in said
    assert default_weights("resnet8", dataset).source == "resnet8:cifar10 (bundled with restune)"
    with pytest.raises(ChoiceError) as caught:  # a network that was asked for is not replaced
        default_weights("resnet50", dataset)
    assert "resnet8" not in str(caught.value)


@pytest.mark.usefixtures("offline")
def test_text_does_not_get_weights_of_images(bundle_weights: Callable[..., Path], tmp_path: Path) -> None:
    bundle_weights()
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"good fine text {n}\nbad poor text {n}\n" for n in range(9)))
    with pytest.raises(UserError, match="no published weights for texts"):
        default_weights(None, open_dataset(lines))


def test_models_lists_and_describes_them(bundle_weights: Callable[..., Path], run: Callable) -> None:
    file = bundle_weights()
    listed = run("models", "resnet8*")
    assert listed.returncode == 0, listed.stderr
    described = run("models", "resnet8:cifar10")
    assert described.returncode == 0, described.stderr
    for part in ("87.50%", "n = 1000", "Tiny CIFAR", "0123456789abcdef", "cifar-fast", "7", "Apache-2.0", "cat", "0.5"):
        assert part in " ".join(described.stdout.split()), part
    content = json.loads(run("models", "resnet*", "--json").stdout.splitlines()[-1])
    assert content["bundled"] == [
        {
            "reference": "resnet8:cifar10", "model": "resnet8", "bytes": file.stat().st_size, "licence": "Apache-2.0",
            "data": {"name": "Tiny CIFAR", "fingerprint": "0123456789abcdef", "items": {"train": 900, "val": 100}},
            "test": {"side": "test", "accuracy": 0.875, "n": 1000, "interval": [0.85, 0.9], "data": "Tiny CIFAR"},
        }
    ]  # fmt: skip
    table = " ".join(run("models", "resnet*").stdout.split())
    assert "resnet8:cifar10 " in table
    assert "87.50% (n = 1,000)" in table
