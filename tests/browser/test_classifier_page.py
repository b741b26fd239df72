"""The page of `restune export --to html`: the same pixels and answers as in Python, from a file, without a request."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.exporting.web_runtime import web_runtime
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed, which fetches onnxruntime-web"),
]
CLASSES = ("ant", "bee", "wasp", "fly")


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=4).eval()
    torch.nn.init.normal_(network.fc.weight, std=2.0)
    preprocess = restune.ImagePreprocess(crop=32, resize=36)
    return Model(
        module=network, info=BundleInfo(spec=network.spec, classes=CLASSES, preprocess=preprocess), source="test"
    )  # fmt: skip


@pytest.fixture(scope="module")
def page_file(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTUNE_CACHE", str(folder / "cache"))
        try:
            web_runtime()
        except restune.UserError as error:
            pytest.skip(f"onnxruntime-web cannot be fetched: {error.what}")
        return restune.export(model, to="html", out=folder / "out") / "model.html"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos' modes and sizes: large, long, tiny, grey, transparent, turned by EXIF."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    made: list[Path] = []

    def add(name: str, image: Image.Image, **options: Any) -> None:
        image.save(folder / name, **options)
        made.append(folder / name)

    def noise(height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, channels), dtype=np.uint8))
        return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))

    add("large.png", Image.fromarray(noise(600, 800)))
    add("long.png", Image.fromarray(noise(40, 900)))
    add("tiny.png", Image.fromarray(noise(5, 7)))
    add("grey.png", Image.fromarray(noise(120, 90)).convert("L"))
    clear = noise(60, 60, 4).copy()
    clear[..., 3] = np.where(np.arange(60)[:, None] < 30, 255, 0)
    add("transparent.png", Image.fromarray(clear))
    turned = Image.Exif()
    turned[0x0112] = 6
    add("turned.jpg", Image.fromarray(noise(150, 100)), quality=95, exif=turned)
    return made


def test_pixels_and_answers_are_pythons(
    model: Model, page_file: Path, pictures: list[Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(page_file, alone=True)
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    expected = model.predict(pictures, topk=1)
    for picture, prediction in zip(pictures, expected, strict=True):
        page.evaluate("window.restune.forget()")
        page.set_input_files("#file", picture)
        page.wait_for_function("window.restune.last() && !document.getElementById('status').textContent.includes('…')")
        found = page.evaluate("() => ({pixels: [...window.restune.last().outputs.pixels],"
                              " probabilities: [...window.restune.last().outputs.probabilities.data]})")  # fmt: skip
        pixels = model.preprocess.apply(picture.read_bytes()).numpy().reshape(-1).astype(float)
        difference = np.abs(np.array(found["pixels"]) - pixels)
        most = 3 if picture.suffix == ".jpg" else 1  # the browser has a JPEG decoder of its own
        assert difference.max() <= most, picture.name
        assert (difference == 0).mean() >= (0.9 if picture.suffix == ".jpg" else 0.99), picture.name
        assert found["probabilities"][model.classes.index(prediction.label or "")] == pytest.approx(
            prediction.probability, abs=0.02
        )
        assert page.inner_text("#status").startswith(prediction.label or "?")


def test_language_map_and_keyboard(
    page_file: Path, pictures: list[Path], open_page: Callable[..., Any], axe: Callable[[Any], None]
) -> None:
    page = open_page(page_file, width=390, dark=True, alone=True)
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    axe(page)
    page.set_input_files("#file", pictures[0])
    page.wait_for_selector(".bar")
    axe(page)
    before = page.evaluate("document.getElementById('picture').toDataURL()")
    page.locator("#opacity").focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.getElementById('picture').toDataURL()") != before
    second = page.locator(".bar").nth(1)
    second.focus()
    page.keyboard.press("Enter")
    assert page.locator(".bar").nth(1).get_attribute("aria-pressed") == "true"
    page.locator("#language").focus()
    page.keyboard.press("Enter")
    assert "残差网络" in page.inner_text("main")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"


def test_what_is_not_an_image_is_said(page_file: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(page_file, alone=True)
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": io.BytesIO(b"no image").read()})
    page.wait_for_function("document.getElementById('status').textContent.includes('not an image')")


def test_the_page_of_a_small_network_is_small(page_file: Path) -> None:
    assert page_file.stat().st_size < 7 * 2**20
