"""The image size for weights of small images: the one at which a head predicts training images best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import log_loss

import restune
from restune.data.items import targets_of
from restune.data.sources import open_dataset
from restune.runs import input_size
from restune.runs.initial import Initial
from restune.training.out_of_fold import out_of_fold


@pytest.fixture(scope="module")
def gratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96-pixel images whose classes differ in stripes of 4 pixels, which 32 pixels cannot show."""
    folder, random = tmp_path_factory.mktemp("gratings"), np.random.default_rng(0)
    for name in ("across", "down"):
        (folder / name).mkdir()
        for number in range(14):
            stripes = 90 * np.sin(np.arange(96) * 2 * np.pi / 4.0 + random.uniform(0, 6))
            plane = np.broadcast_to(stripes[:, None] if name == "across" else stripes, (96, 96))
            pixels = np.clip(128 + plane[..., None] + random.normal(0, 20, (96, 96, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def finetuned(data: Path, tmp_path: Path, **options: object) -> restune.Run:
    return restune.finetune(data, out=tmp_path / "run", weights="resnet8:cifar10", freeze="all", **options)


def test_fine_stripes_need_more_pixels_than_the_weights_had(
    gratings: Path, bundle_weights: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_weights()
    run = finetuned(gratings, tmp_path)
    said = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("image_size:"))
    losses = dict(pair.split(": ") for pair in said.partition("pixels: ")[2].rstrip(")").split(", "))
    assert list(losses) == ["32", "64"]
    assert float(losses["64"]) < 0.5 * float(losses["32"])
    assert run.model.preprocess.image_size == 64
    assert run.result["val"]["accuracy"] == 1.0
    assert "image_size: 64" in (run.out / "recipe.yaml").read_text()
    with pytest.MonkeyPatch.context() as patch:  # a run that repeats the recipe does not choose again
        patch.setattr(input_size, "best_side", lambda *_: pytest.fail("chosen again"))
        again = restune.finetune(gratings, recipe=run.out / "recipe.yaml", out=tmp_path / "again")
    assert again.model.preprocess == run.model.preprocess


def test_weights_are_compared_at_the_size_that_suits_them(
    gratings: Path, bundle_weights: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle_weights()
    run = restune.finetune(gratings, out=tmp_path / "run", weights="auto", freeze="all")
    assert run.model.preprocess.image_size == 64
    assert "weights: resnet8:cifar10\n" in (run.out / "recipe.yaml").read_text()


@pytest.mark.parametrize("size", [32, 40])
def test_a_size_that_is_named_is_kept(
    size: int, gratings: Path, bundle_weights: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_weights()
    assert finetuned(gratings, tmp_path, image_size=size).model.preprocess.image_size == size
    assert "image_size:" not in capsys.readouterr().err


def test_images_as_small_as_those_of_the_weights_leave_no_choice(
    four_colours: Path, bundle_weights: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_weights()
    assert finetuned(four_colours, tmp_path).model.preprocess.image_size == 32
    assert "image_size:" not in capsys.readouterr().err


def test_the_larger_size_wins_a_tie_and_must_fit_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cache:
        def __init__(self, side: int) -> None:
            self.seconds_an_item = 0.01 * (side / 32) ** 2

    dataset = type("D", (), {"items": range(100), "__len__": lambda _: 100})()
    initial = Initial(name="resnet8", weights=None, preprocess=restune.ImagePreprocess(crop=32), settings=None)  # type: ignore[arg-type]
    monkeypatch.setattr(input_size, "typical_side", lambda _: 130)

    def chosen(losses: dict[int, float], time: float | None = None) -> int:
        monkeypatch.setattr(input_size, "_caches", lambda *a: ((side, Cache(side)) for side in a[3]))
        sides = iter(losses.values())
        monkeypatch.setattr(input_size, "_loss", lambda *_: next(sides))
        recipe = type("R", (), {"seed": 0, "time": time})()
        return input_size.best_side(initial, recipe, dataset, torch.device("cpu"))  # type: ignore[arg-type]

    assert chosen({32: 0.6, 64: 0.5}) == 64
    assert chosen({32: 0.6, 64: 0.611}) == 64
    assert chosen({32: 0.6, 64: 0.613}) == 32  # higher by more than 2%
    # an epoch takes 4 * 100 * 0.01 s = 4 s at 32 pixels, 16 s at 64
    assert chosen({32: 0.6, 64: 0.5}, time=8 * 16 + 1) == 64
    assert chosen({32: 0.6}, time=8 * 16 - 1) == 32


def test_the_loss_is_the_mean_over_several_foldings(gratings: Path) -> None:
    dataset = open_dataset(gratings)
    rows = torch.randn(len(dataset), 4, generator=torch.Generator().manual_seed(0))
    found = type("Found", (), {"readable": np.ones(len(dataset), dtype=bool), "rows": rows})()
    cache = type("Cache", (), {"of": lambda _self, _items: found})()
    targets = targets_of(dataset.items).astype(np.int64)

    def loss(seed: int) -> float:
        return float(log_loss(targets, softmax(out_of_fold(rows, targets, 2, None, seed).logits, axis=1)))

    single = [loss(seed) for seed in (7, 8, 9)]
    assert len(set(single)) == 3
    assert input_size._loss(cache, dataset, 7) == pytest.approx(np.mean(single), rel=1e-5)  # type: ignore[arg-type]
