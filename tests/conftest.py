"""Fixtures that many tests share."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from restune.core import console

with suppress(ImportError):  # tests draw the same examples on every machine and in every run
    from hypothesis import settings

    settings.register_profile("same everywhere", derandomize=True, deadline=None, database=None)
    settings.load_profile("same everywhere")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test and the making of its fixtures with the same random numbers, whatever ran before it.

    What is warned of once in a process is warned of again.
    """
    console._warned.clear()
    random.seed(0)
    np.random.seed(0)  # what libraries draw from
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_shared_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No fixture that several tests share touches the user's cache folder either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTUNE_CACHE", str(tmp_path_factory.mktemp("shared-cache")))
        patch.delenv("RESTUNE_MIRROR", raising=False)
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache folder."""
    monkeypatch.setenv("RESTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("RESTUNE_MIRROR", raising=False)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped, saying so, where it is not."""
    named = os.environ.get("RESTUNE_TEST_DATA")
    if not named:
        pytest.skip("RESTUNE_TEST_DATA does not name the folder of real data sets")
    return Path(named)


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Give a network random weights and non-default batch-norm statistics, the same for the same network."""

    def apply(network: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.uniform_(-0.5, 0.5, generator=generator)
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
        return network.eval()

    return apply


@pytest.fixture
def step_clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock by which runs with a time budget train: each step takes a quarter of a second, all else takes none.

    `step_clock.seconds` is what it shows.
    """
    from restune.data import preload
    from restune.runs import results, run
    from restune.training import loop, progress

    now, step = SimpleNamespace(seconds=1000.0), loop.Trainer._step

    def timed(*arguments: object, **more: object) -> float:
        now.seconds += 0.25
        return step(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop.Trainer, "_step", timed)
    for module in (preload, results, run, loop, progress):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


@pytest.fixture(scope="session")
def write_noise() -> Callable[..., Path]:
    """Write classes of bright, dark and grey noise, learnable in seconds: a name, its darkest value and its count."""

    def write(folder: Path, size: tuple[int, int] = (18, 18), **classes: tuple[int, int]) -> Path:
        random = np.random.default_rng(0)
        for name, (least, count) in classes.items():
            (folder / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(least, least + 130, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
        return folder

    return write


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line in this process: arguments, and what standard input holds."""
    import restune.cli

    def call(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["restune", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            restune.cli.main()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code or 0, printed.out, printed.err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of class folders: six 40x30 photos, red ones and blue ones."""
    for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(3):
            shade = tuple(min(255, value + 10 * number) for value in colour)
            Image.new("RGB", (40, 30), shade).save(folder / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def four_colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of twelve noisy images, learnable in seconds."""
    folder, random = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for label, colour in {"blue": (0, 0, 9), "green": (0, 9, 0), "red": (9, 0, 0), "yellow": (9, 9, 0)}.items():
        (folder / label).mkdir()
        for number in range(12):
            pixels = np.clip(20 * np.array(colour) + random.integers(0, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture
def nothing_bundled(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package without weights inside it."""
    from restune.weights import bundled

    monkeypatch.setattr(bundled, "FOLDER", tmp_path_factory.mktemp("bundled"))


@pytest.fixture
def bundle_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, randomize: Callable) -> Callable[..., Path]:
    """Put weights into the package in place of its own: a network's name, and the data's. Returns the file."""
    from restune.weights import bundled

    folder = tmp_path / "bundled"
    folder.mkdir()
    monkeypatch.setattr(bundled, "FOLDER", folder)

    def write(model: str = "resnet8", data: str = "cifar10", default: bool = True, **changes: object) -> Path:
        import restune
        from restune.weights.bundle import BundleInfo, write_bundle

        torch.manual_seed(0)
        network = randomize(restune.create_model(model, num_classes=3, **changes))
        info = BundleInfo(
            spec=network.spec, name=model, classes=("cat", "dog", "ship"), dtype="bfloat16", licence="Apache-2.0",
            preprocess=restune.ImagePreprocess(crop=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
            training={
                "data": {"name": "Tiny CIFAR", "fingerprint": "0123456789abcdef", "items": {"train": 900, "val": 100}},
                "recipe": {"seed": 7}, "recipe_name": "cifar-fast", "epochs": 5, "source": "trained in a test",
            },
            scores=({"side": "test", "accuracy": 0.875, "n": 1000, "interval": [0.85, 0.9], "data": "Tiny CIFAR"},),
        )  # fmt: skip
        file = folder / f"{model}-{data}.safetensors"
        state = {k: v.bfloat16() if v.is_floating_point() else v for k, v in network.state_dict().items()}
        write_bundle(file, state, info)
        if default:
            monkeypatch.setattr(bundled, "DEFAULT", f"{model}:{data}")
        return file

    return write
