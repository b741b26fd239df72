"""Training on a GPU, where there is one."""

from __future__ import annotations

import json

import pytest
import torch

import restune
from restune.data.augment import RandomKey, erase
from restune.training.recipe import Recipe
from restune.training.resolve_auto import resolve_auto

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

OPTIONS = {"model": "resnet8", "image_size": 16, "epochs": 3, "batch_size": 8, "device": "cuda"}
SETTINGS = {"spec.width": 8, "spec.depths": [1, 1], "ema.decay": 0.9}


@pytest.fixture
def data(tmp_path, write_noise):
    return write_noise(tmp_path / "data", bright=(120, 30), dark=(0, 30))


def test_decisions():
    recipe, decisions = resolve_auto(Recipe(), torch.device("cuda"))
    assert recipe.memory_format == "channels-last"
    assert recipe.precision == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32")
    assert all(decision.reason for decision in decisions)


def test_a_run_learns_as_on_the_cpu(data, tmp_path):
    """float32 on both: the same items and augmentation, so losses that differ by rounding."""
    runs = {
        device: restune.train(
            data, out=tmp_path / device, precision="fp32", set=SETTINGS, **{**OPTIONS, "device": device}
        )
        for device in ("cuda", "cpu")
    }
    lines = {
        device: [json.loads(line)["train_loss"] for line in (run.out / "metrics.jsonl").open()]
        for device, run in runs.items()
    }
    assert lines["cuda"] == pytest.approx(lines["cpu"], abs=2e-2)
    assert restune.evaluate(runs["cuda"].out, data, device="cpu").accuracy > 0.9


@pytest.mark.parametrize("freeze", ["all", 1, "auto", "none"])
def test_fine_tuning(data, tmp_path, freeze):
    start = restune.train(data, out=tmp_path / "start", set=SETTINGS, **OPTIONS)
    options = {"epochs": 4, "batch_size": 8} if freeze != "all" else {}
    run = restune.finetune(
        data, weights=start.out, freeze=freeze, image_size=16, device="cuda", out=tmp_path / "run", **options
    )
    assert run.result["val"]["accuracy"] > 0.9


def test_a_stopped_run_goes_on(data, tmp_path):
    """Kernels may add in another order, so losses are compared, not bits."""
    whole = restune.train(data, out=tmp_path / "whole", set=SETTINGS, **OPTIONS)
    restune.train(data, out=tmp_path / "run", set=SETTINGS, **OPTIONS)
    for name in ("result.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    resumed = restune.train(data, out=tmp_path / "run", resume=True, set=SETTINGS, **OPTIONS)
    assert resumed.result["resumed_from_step"] > 0
    losses = [
        [json.loads(line)["train_loss"] for line in (run.out / "metrics.jsonl").open()] for run in (whole, resumed)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-2)


def test_predicting(data, tmp_path):
    run = restune.train(data, out=tmp_path / "run", set=SETTINGS, **OPTIONS)
    photo = next((data / "dark").iterdir())
    on_gpu = restune.load(run.out, device="cuda").predict(photo)[0]
    on_cpu = restune.load(run.out, device="cpu").predict(photo)[0]
    assert on_gpu.label == on_cpu.label
    assert on_gpu.probability == pytest.approx(on_cpu.probability, abs=1e-2)


def test_erasing():
    """On a GPU all images of a batch are erased at once."""
    images = torch.randn(64, 3, 16, 20)
    key = RandomKey(seed=0, epoch=1, positions=tuple(range(64)), step=0)
    on_cpu, on_gpu = (erase(images.clone().to(device), 0.5, key).cpu() for device in ("cpu", "cuda"))
    assert torch.equal(on_cpu, on_gpu)
    assert (on_cpu == 0).any()


def test_the_parts_of_cifar_fast(data, tmp_path):
    """Muon, images that grow, erasing, alternating flips and an averaged network, beside the CPU in float32."""
    options = OPTIONS | {"recipe": "cifar-fast", "precision": "fp32", "val": 0.25, "epochs": 4}
    settings = {"image_sizes": [{"until": 0.5, "size": 12}], "ema.every": 1, "ema.ramp": 0, "augment.erase": 0.5}
    accuracies, losses = {}, {}
    for device in ("cuda", "cpu"):
        run = restune.train(data, out=tmp_path / device, set=settings, **{**options, "device": device})
        lines = [json.loads(line) for line in (run.out / "metrics.jsonl").open()]
        losses[device] = [line["train_loss"] for line in lines]
        accuracies[device] = run.result["val"]["accuracy"]
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=5e-2)
    assert accuracies["cuda"] == pytest.approx(accuracies["cpu"], abs=0.15)
