"""`finetune` without named weights: the cache, else a choice of what works here."""

from __future__ import annotations

import shlex
import shutil

import pytest
import torch
import torchvision

import restune
from restune.core.errors import ChoiceError, UserError
from restune.core.files import cache_folder
from restune.data.sources import open_dataset
from restune.runs.default_weights import default_weights
from restune.weights import download, hub
from restune.weights.bundle import BundleInfo, write_bundle

pytestmark = pytest.mark.usefixtures("nothing_bundled")


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    def refuse(*_arguments, **_options):
        raise OSError("no network in this test")

    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(download.urllib.request.OpenerDirector, "open", refuse)
    monkeypatch.chdir(tmp_path)


def put_in_cache(monkeypatch, reference, network):
    """Store random weights under the name of published ones, whose hash is then not checked."""
    file = hub._place(hub._torchvision()[reference])
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    monkeypatch.setattr(download, "_is_there", lambda destination, _sha256: destination.exists())


def save_run(folder, name, **changes):
    network = restune.create_model(name, num_classes=2, **changes)
    folder.mkdir(parents=True)
    info = BundleInfo(spec=network.spec, name=name, classes=("cat", "dog"), preprocess=restune.ImagePreprocess(crop=32))
    write_bundle(folder / "model.safetensors", network.state_dict(), info)


def test_the_usual_weights_are_taken_from_the_cache(monkeypatch, photos):
    put_in_cache(monkeypatch, "resnet18:v1", torchvision.models.resnet18())
    assert default_weights(None, open_dataset(photos)).source.startswith("resnet18:v1")


def test_others_in_the_cache_are_taken_and_said(monkeypatch, photos, capsys):
    put_in_cache(monkeypatch, "resnet34:v1", torchvision.models.resnet34())
    assert default_weights(None, open_dataset(photos)).model == "resnet34"
    assert "weights: resnet34:v1 (in the cache; resnet18:v1 cannot be downloaded)" in capsys.readouterr().err
    with pytest.raises(ChoiceError):  # a network that was asked for is not replaced
        default_weights("resnet18", open_dataset(photos))


def test_a_choice_names_runs_files_and_the_cache(photos, tmp_path, run):
    save_run(tmp_path / "runs" / "train-001", "resnet8")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "model.safetensors").write_bytes(b"no")
    torch.save(restune.create_model("resnet8").state_dict(), tmp_path / "mine.pth")
    done = run("finetune", photos, "--val", "0", "--set", "min_class_items=1")
    assert done.returncode == 2
    (first, second) = [line.strip() for line in done.stderr.splitlines() if line.startswith("    restune finetune")]
    start = f"restune finetune {photos} --val 0 --set min_class_items=1 --weights"
    assert first == f"{start} runs/train-001  (resnet8 of 2 classes, a run here)"
    assert second == f"{start} mine.pth  (a checkpoint; its network is recognised)"
    assert f"or train without pretrained weights: restune train {photos}" in done.stderr
    assert not (tmp_path / "runs" / "broken" / "recipe.yaml").exists()


def test_the_command_that_is_named_works(photos, tmp_path, run):
    save_run(tmp_path / "runs" / "train-001", "resnet8", width=4, depths=(1,))
    words = ("finetune", photos, "--freeze", "all", "--val", "0", "--set", "min_class_items=1")
    refused = run(*words)
    (line,) = [line.strip() for line in refused.stderr.splitlines() if "--weights runs/train-001" in line]
    shutil.rmtree(tmp_path / "runs" / "finetune-001", ignore_errors=True)
    done = run(*shlex.split(line.partition("  (")[0])[1:])
    assert done.returncode == 0, done.stderr


def test_kinds_without_published_weights(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"good fine text {n}\nbad poor text {n}\n" for n in range(9)))
    save_run(tmp_path / "runs" / "train-001", "resnet8")
    with pytest.raises(UserError, match="no published weights for texts") as caught:
        default_weights(None, open_dataset(lines))
    assert "train-001" not in str(caught.value), "its model takes images"


def test_the_cache_is_named_by_its_folder():
    assert hub.cached("resnet18:v1") is None
    folder = cache_folder() / "weights" / "timm" / "resnet50.a1_in1k"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        assert hub.cached("timm:resnet50.a1_in1k") is None
        (folder / name).write_bytes(b"{}")
    assert hub.cached("timm:resnet50.a1_in1k") == folder / "model.safetensors"
