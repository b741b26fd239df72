"""The page of `restune export --to html`: the same pixels and answers as in Python, from a file, without a request."""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import restune
from restune.evaluation.novelty import fit_novelty
from restune.exporting.web_runtime import VERSION, web_runtime
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

sys.path.insert(0, str(Path(__file__).parents[1]))
from odd_photos import odd_photos, share_and_most

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed, which fetches onnxruntime-web"),
]
CLASSES = ("ant", "bee", "wasp", "fly")


def noise(random: np.random.Generator, height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
    """Coarse, soft noise: what the model knows."""
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, channels), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def model() -> Model:
    """An untrained network that knows 120 images of noise; the threshold calls 2% of 120 others novel."""
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=4).eval()
    torch.nn.init.normal_(network.fc.weight, std=2.0)
    preprocess = restune.ImagePreprocess(crop=32, resize=36)
    info = BundleInfo(spec=network.spec, classes=CLASSES, preprocess=preprocess)
    plain, random = Model(module=network, info=info, source="test"), np.random.default_rng(5)
    reference, held_out = (plain.embed([noise(random, 50, 60) for _ in range(120)]) for _ in range(2))
    known = fit_novelty(reference, len(CLASSES), held_out, rate=0.02)
    return replace(plain, info=replace(info, novelty=known))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ONNX Runtime Web, fetched once for these tests."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTUNE_CACHE", str(cache))
        try:
            web_runtime()
        except restune.UserError as error:
            pytest.skip(f"onnxruntime-web cannot be fetched: {error.what}")
    return cache / "onnxruntime-web" / VERSION


@pytest.fixture(scope="module")
def page_file(model: Model, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    return restune.export(model, to="html", out=out, web_runtime=runtime) / "model.html"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos' modes and sizes: large, long, tiny, grey, transparent, turned by EXIF."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    made: list[Path] = []

    def add(name: str, image: Image.Image, **options: Any) -> None:
        image.save(folder / name, **options)
        made.append(folder / name)

    add("large.png", Image.fromarray(noise(random, 600, 800)))
    add("long.png", Image.fromarray(noise(random, 40, 900)))
    add("tiny.png", Image.fromarray(noise(random, 5, 7)))
    add("grey.png", Image.fromarray(noise(random, 120, 90)).convert("L"))
    clear = noise(random, 60, 60, 4).copy()
    clear[..., 3] = np.where(np.arange(60)[:, None] < 30, 255, 0)
    add("transparent.png", Image.fromarray(clear))
    turned = Image.Exif()
    turned[0x0112] = 6
    add("turned.jpg", Image.fromarray(noise(random, 150, 100)), quality=95, exif=turned)
    return made


def test_pixels_and_answers_are_pythons(
    model: Model, page_file: Path, pictures: list[Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(page_file, alone=True)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
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
    page.wait_for_selector("body[data-ready]", timeout=120_000)
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


def classified(page: Any, picture: Path) -> dict[str, Any]:
    """Give the page an image; return whether it calls it unlike the training data, in which words, and the score."""
    page.evaluate("window.restune.forget()")
    page.set_input_files("#file", picture)
    page.wait_for_function("window.restune.last() && !document.getElementById('status').textContent.includes('…')")
    return {
        "shown": page.is_visible("#novel"),
        "words": page.inner_text("#novel"),
        "score": page.evaluate("window.restune.last().outputs.novelty.data[0]"),
    }


def test_unlike_the_training_data(
    model: Model, page_file: Path, tmp_path: Path, open_page: Callable[..., Any], axe: Callable[[Any], None]
) -> None:
    digit = Image.new("RGB", (28, 28))
    ImageDraw.Draw(digit).line([(6, 5), (21, 5), (12, 23)], fill="white", width=3)
    made = {"like": Image.fromarray(noise(np.random.default_rng(6), 50, 60)), "digit": digit}
    for name, image in {**made, "black": Image.new("RGB", (64, 64))}.items():
        image.save(tmp_path / f"{name}.png")
    page = open_page(page_file, alone=True)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    for name, flagged in (("like", False), ("black", True), ("digit", True), ("like", False)):
        (predicted,) = model.predict(tmp_path / f"{name}.png")
        found = classified(page, tmp_path / f"{name}.png")
        assert found["score"] == pytest.approx(predicted.novelty, abs=1e-3)
        assert found["shown"] == predicted.novel == flagged, name
    assert classified(page, tmp_path / "black.png")["words"] == "This image is unlike the training data."
    axe(page)
    page.click("#language")
    assert page.inner_text("#novel") == "这张图像与训练数据不相像。"


@pytest.mark.data
@pytest.mark.parametrize("lossless", [True, False], ids=["png", "jpeg too"])
def test_real_photos(
    lossless: bool, model: Model, page_file: Path, real_data: Path, open_page: Callable[..., Any]
) -> None:
    page = open_page(page_file, alone=True)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    photos = [one for one in odd_photos(real_data / "hymenoptera", 200, lossless=lossless) if "cmyk" not in one[0]]
    pairs = []
    for name, content in photos:
        page.evaluate("window.restune.forget()")
        page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
        page.wait_for_function("window.restune.last()")
        found = page.evaluate("() => ({pixels: [...window.restune.last().outputs.pixels],"
                              " probabilities: [...window.restune.last().outputs.probabilities.data]})")  # fmt: skip
        pairs.append((np.array(found["pixels"]), model.preprocess.apply(content).numpy().reshape(-1)))
        (predicted,) = model.predict(content)
        if predicted.top[0][1] - predicted.top[1][1] > 0.02:
            assert CLASSES[int(np.argmax(found["probabilities"]))] == predicted.label, name
    equal, most = share_and_most(pairs)
    print(f"{len(pairs)} photos: {equal:.3%} of pixels equal, at most {most:g} grey levels")
    assert equal >= 0.99
    assert most <= 2


@pytest.mark.data
def test_digits_are_unlike_cifar(real_data: Path, runtime: Path, tmp_path: Path, open_page: Callable[..., Any]) -> None:
    with tarfile.open(real_data / "cifar10-jpeg" / "test.tar.gz") as archive:
        for member in archive:
            if member.isfile() and int(Path(member.name).stem) % 10 == 0:
                archive.extract(member, tmp_path, filter="data")
    weights = real_data / "weights" / "resnet20-12fca82f.th"
    trained = restune.finetune(tmp_path / "test", weights=weights, model="resnet20", freeze="all", out=tmp_path / "run")
    known = restune.load(trained.out)
    folder = restune.export(trained.out, to="html", out=tmp_path / "out", data=tmp_path / "test", web_runtime=runtime)
    digits = np.load(real_data / "mnist" / "test_0.npz")["images"][:20]
    for number, digit in enumerate(digits):
        Image.fromarray(digit).save(tmp_path / f"digit{number}.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    odd = [tmp_path / "black.png", *(tmp_path / f"digit{number}.png" for number in range(20))]
    photos = sorted((tmp_path / "test").rglob("*.jpg"))[::25]
    page = open_page(folder / "model.html", alone=True)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    shown = {path: classified(page, path)["shown"] for path in (*odd, *photos)}
    assert [shown[path] for path in odd] == [one.novel for one in known.predict(odd)]
    assert sum(shown[path] for path in odd) >= 18
    assert sum(shown[path] for path in photos) <= 8  # of 40; 2 are promised, with 200 validation items
    assert (folder / "model.html").stat().st_size < 7 * 2**20


def test_what_is_not_an_image_is_said(page_file: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(page_file, alone=True)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": io.BytesIO(b"no image").read()})
    page.wait_for_function("document.getElementById('status').textContent.includes('not an image')")


def test_the_page_of_a_small_network_is_small(page_file: Path) -> None:
    assert page_file.stat().st_size < 7 * 2**20
