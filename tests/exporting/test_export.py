"""restune export: files that other libraries load, verified before they are written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torchvision

import restune
from restune.exporting import export as exporting
from restune.exporting.raw_examples import RawExample
from restune.inference.model import Model
from restune.verbs.export import export_all
from restune.weights.bundle import BundleInfo


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 for three classes with distinct answers, as one file."""
    torch.manual_seed(0)
    network = restune.create_model("resnet18", num_classes=3).eval()
    torch.nn.init.normal_(network.fc.weight, std=0.5)
    preprocess = restune.ImagePreprocess(crop=64, resize=80)
    info = BundleInfo(
        spec=network.spec, classes=("ant", "bee", "wasp"), preprocess=preprocess, name="resnet18", licence="CC-BY-4.0"
    )
    return Model(module=network, info=info, source="test").save(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, write_noise: Callable[..., Path]) -> Path:
    return write_noise(tmp_path_factory.mktemp("photos"), size=(90, 70), bright=(120, 6), dark=(0, 6))


@pytest.fixture(scope="module")
def exported(saved: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    return restune.export(saved, to=["onnx", "torchvision", "timm"], out=out, data=photos)


def test_one_file_with_metadata(exported: Path) -> None:
    proto = onnx.load(exported / "model.onnx", load_external_data=False)
    stored = {one.key: one.value for one in proto.metadata_props}
    assert json.loads(stored["classes"]) == ["ant", "bee", "wasp"]
    assert stored["licence"] == "CC-BY-4.0"
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    assert [output.name for output in proto.graph.output] == ["probabilities", "embedding", "class_map", "logits"]
    assert len(proto.graph.input) == 1


def test_golden_files_hold_what_the_graph_answers(exported: Path) -> None:
    golden = np.load(exported / "golden.npz")
    listed = json.loads((exported / "golden.json").read_text())
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    assert len(listed["examples"]) == 8
    for number, example in enumerate(listed["examples"]):
        (found,) = session.run(["probabilities"], {"images": golden[example["input"]]})
        np.testing.assert_allclose(found[0], golden["probabilities"][number], atol=0.02)
        assert example["label"] == listed["classes"][int(found[0].argmax())]


def test_the_python_program_beside_it_needs_no_torch(exported: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['restune'] = None; import runpy; sys.argv = ['example.py']; "
    code += f"runpy.run_path({str(exported / 'example.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "agrees"


def assert_same_logits(network: torch.nn.Module, own: torch.nn.Module) -> None:
    """The same logits up to what float32 loses in sums of hundreds of products, relative to the largest of them."""
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = own(x)
        torch.testing.assert_close(network(x), expected, atol=1e-5 * float(expected.abs().max().clamp(min=1)), rtol=0)


def test_torchvision_loads_it_strictly(saved: Path, exported: Path) -> None:
    network = torchvision.models.resnet18(num_classes=3)
    network.load_state_dict(torch.load(exported / "model.pth", weights_only=True), strict=True)
    assert_same_logits(network.eval(), restune.load(saved).module)


def test_timm_loads_the_folder(saved: Path, exported: Path) -> None:
    network = timm.create_model(f"local-dir:{exported}", pretrained=True).eval()
    settings = timm.data.resolve_model_data_config(network)
    assert tuple(settings["input_size"]) == (3, 64, 64)
    assert settings["crop_pct"] == 64 / 80
    assert_same_logits(network, restune.load(saved).module)


def test_other_depths_load_in_timm(tmp_path: Path) -> None:
    network = restune.create_model("resnet50", depths=(1, 1, 2, 1), num_classes=4).eval()
    info = BundleInfo(spec=network.spec, classes=tuple("abcd"), preprocess=restune.ImagePreprocess(crop=64))
    out = restune.export(Model(module=network, info=info, source="test"), to="timm", out=tmp_path / "out")
    twin = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    assert_same_logits(twin, network)


@pytest.mark.parametrize("target", ["timm", "torchvision"])
def test_networks_that_a_library_lacks_are_refused(target: str, tmp_path: Path) -> None:
    network = restune.create_model("resnet20").eval()
    info = BundleInfo(spec=network.spec, classes=tuple("abcdefghij"), preprocess=restune.ImagePreprocess(crop=32))
    with pytest.raises(restune.UserError, match=f"{target} does not have this network"):
        restune.export(Model(module=network, info=info, source="test"), to=target, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def small() -> Model:
    """A network of which timm has a twin, with one block per stage."""
    network = restune.create_model("resnet18", depths=(1, 1, 1, 1), num_classes=3).eval()
    torch.nn.init.normal_(network.fc.weight, std=0.5)
    info = BundleInfo(spec=network.spec, classes=("ant", "bee", "wasp"), preprocess=restune.ImagePreprocess(crop=32))
    return Model(module=network, info=info, source="test")


def test_an_export_that_disagrees_is_not_written(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> list[dict[str, Any]]:
        return [{"probabilities": np.full((len(batch), 3), 1 / 3, np.float32)} for batch in arguments[1]]

    monkeypatch.setattr(exporting, "run_program", wrong)
    with pytest.raises(restune.UserError, match="disagrees with the model"):
        restune.export(small, to=["timm", "torch"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_result_says_how_well_each_agrees(small: Model, photos: Path, tmp_path: Path) -> None:
    result = export_all(small, to="torch", out=tmp_path / "out", data=photos).to_dict()
    assert result["targets"]["torch"]["files"] == ["model.pt2"]
    assert result["targets"]["torch"]["n"] == 12
    assert result["targets"]["torch"]["agreement"] == 1.0
    assert result["targets"]["torch"]["max_difference"] < 0.02


def test_unknown_targets(run: Callable[..., Any], saved: Path, tmp_path: Path) -> None:
    done = run("export", saved, "--to", "onxx", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "unknown target 'onxx'" in done.stderr
    assert "onnx" in done.stderr


def test_golden_files_hold_few_large_inputs() -> None:
    def sized(megabytes: int) -> RawExample:
        return RawExample("a", torch.zeros(1, megabytes * 2**20, dtype=torch.uint8), None)

    assert len(exporting.golden_examples([sized(1)] * 12)) == 8
    assert len(exporting.golden_examples([sized(5)] * 12)) == 3
    assert len(exporting.golden_examples([sized(20)] * 2)) == 1
