"""restune export --push-to-hub: card, bundle and exports reach a hub; each way to fail is one message."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from fake_hub import FakeHub, running_hub

import restune
from restune.exporting.hub_card import hub_card
from restune.exporting.hub_push import full_name, push
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub on this machine, with a valid token in the environment."""
    with running_hub() as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.address)
        monkeypatch.setenv("HF_TOKEN", "good")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        yield fake


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=3).eval()
    info = BundleInfo(
        spec=network.spec,
        classes=("ant", "bee", "wasp"),
        preprocess=restune.ImagePreprocess(crop=16),
        name="resnet8",
        licence="CC-BY-NC-4.0",
    )
    folder = tmp_path_factory.mktemp("model")
    return Model(module=network, info=info, source="test").save(folder / "model.safetensors")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Files as an export writes them."""
    for name in ("model.onnx", "golden.json"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


def test_the_command_uploads_card_bundle_and_exports(
    hub: FakeHub, saved: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    done = run("export", saved, "--to", "onnx", "--out", out, "--push-to-hub", "bees", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["hub"] == f"{hub.address}/ann/bees"
    files = hub.files["ann/bees"]
    assert files["model.safetensors"] == saved.read_bytes()
    exported = {name.removeprefix("exports/"): content for name, content in files.items() if "exports/" in name}
    assert exported == {path.name: path.read_bytes() for path in out.iterdir()}
    assert {"model.onnx", "golden.npz", "golden.json", "example.py", "example.cpp"} <= set(exported)
    assert hub.private == {"ann/bees": True}
    assert "CC-BY-NC-4.0 forbids commercial use" in done.stderr
    card = files["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc-by-nc-4.0"
    assert front["pipeline_tag"] == "image-classification"
    assert "Not for commercial use" in card
    assert 'onnxruntime.InferenceSession("model.onnx")' in card


def test_public_only_when_asked(hub: FakeHub, saved: Path, written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = restune.load(saved)
    assert push("ann/new", model, written, ["model.onnx"], {}, public=True) == f"{hub.address}/ann/new"
    assert hub.private["ann/new"] is False
    hub.private["ann/old"] = False
    push("ann/old", model, written, ["model.onnx"], {}, public=False)
    assert hub.private["ann/old"] is False
    assert "ann/old was there before and stays public" in capsys.readouterr().err


def test_the_card_of_a_run_is_kept(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    front = {"library_name": "restune", "metrics": ["f1"], "model-index": [{"name": "x"}]}
    text = f"---\n{yaml.safe_dump(front)}---\n\n# My run\n\n| a --- b |\n\n<!-- restune 0123 -->\n"
    (tmp_path / "README.md").write_text(text)
    model = restune.load(saved)
    card = hub_card(model, tmp_path, {"onnx": "load()"})
    found = yaml.safe_load(card.split("---\n")[1])
    assert {name: found[name] for name in front} == front
    assert found["license"] == "cc-by-nc-4.0"
    assert "# My run\n\n| a --- b |" in card
    assert "<!--" not in card
    assert "| onnx | `load()` |" in card
    unknown = replace(model, info=replace(model.info, licence=None))
    assert "licence of the weights is not known" in hub_card(unknown, tmp_path / "nowhere", {})


def test_no_token(hub: FakeHub, saved: Path, tmp_path: Path, run: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = run("export", saved, "--to", "onnx", "--out", tmp_path / "out", "--push-to-hub", "ann/bees")
    assert done.returncode == 2
    assert "there is no token for the hub" in done.stderr
    assert "hf auth login" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_refused_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "stale")
    with pytest.raises(restune.UserError, match="the hub refuses the token"):
        full_name("ann/bees")


def test_no_right_to_write_leaves_the_exports(hub: FakeHub, saved: Path, written: Path) -> None:
    with pytest.raises(restune.UserError, match="may not write to bob/bees; the exports are in") as caught:
        push("bob/bees", restune.load(saved), written, ["model.onnx"], {}, public=False)
    assert "right to write" in str(caught.value)
    assert not hub.files


def test_the_network_is_away(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(restune.UserError, match="cannot upload to ann/bees"):
            full_name("ann/bees")


def test_names_that_the_hub_does_not_take(hub: FakeHub) -> None:
    with pytest.raises(restune.UserError, match="cannot name a repository"):
        full_name("ann/my bees")
    assert not hub.requests
