"""A headless Chromium that opens pages of this project, and what every page must keep: see `open_page` and `axe`."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT = 120_000
"""Milliseconds until an action in the browser fails, however busy the machine is."""
LOCAL = ("file:", "data:", "blob:", "about:")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
IMAGES_LOAD = """async () => {
  const images = [...document.images];
  for (const image of images) image.loading = "eager";
  const failed = await Promise.all(images.map(image => image.decode().then(() => null, () => image.alt || image.id)));
  return failed.filter(name => name !== null);
}"""
OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width + 1)
    .slice(0, 5).map(e => e.outerHTML.slice(0, 160));
}"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium under Playwright; tests are skipped, saying why, where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=program, args=ARGUMENTS + FAKE_CAMERA)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page: `open_page(path, width=1280, dark=False, alone=False)` returns Playwright's page.

    It fails on errors in the console or of scripts and on requests that leave the machine (`alone`: for any other file,
    too), both while the page opens and until the test ends; where an image does not load; and where the page is wider
    than the window. `open_page.faults` lists the first kind, for tests that expect some.
    """
    contexts, faults = [], []

    def open_it(path: Path, width: int = 1280, dark: bool = False, alone: bool = False) -> Any:
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(LIMIT)
        page, address = context.new_page(), path.resolve().as_uri()

        def asked(request: Any) -> None:
            is_other = alone and request.url.startswith("file:") and request.url.partition("#")[0] != address
            if is_other or not request.url.startswith(LOCAL):
                faults.append(f"request: {request.url[:200]}")

        page.on("console", lambda message: faults.append(f"console: {message.text}") if message.type == "error" else 0)
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on("request", asked)
        page.goto(address)
        failed = page.evaluate(IMAGES_LOAD)
        assert not failed, f"images that do not load: {failed[:5]}"
        wide = page.evaluate(OVERFLOW)
        assert not wide, f"wider than {width} pixels: {wide}"
        assert not faults, faults[:5]
        return page

    open_it.faults = faults
    yield open_it
    for context in contexts:
        context.close()
    assert not faults, faults[:5]


@pytest.fixture(scope="session")
def axe() -> Callable[[Any], None]:
    """Check a page's accessibility: `axe(page)` fails on serious and critical violations of axe-core's rules."""
    library = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = (Path(library.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

    def check(page: Any) -> None:
        page.evaluate(script)
        found = page.evaluate("axe.run().then(result => result.violations)")
        serious = [
            f"{violation['id']}: {node['target']} {node['html'][:160]} {node['failureSummary'][:400]}"
            for violation in found
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"][:3]
        ]
        assert not serious, "\n".join(serious)

    return check


@pytest.fixture(scope="session")
def served() -> Any:
    """The helpers of the server's tests."""
    path = Path(__file__).parents[1] / "serving" / "conftest.py"
    spec = importlib.util.spec_from_file_location("serving_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def photos(served: Any, tmp_path_factory: Any) -> Path:
    """Photos of each class as files; "broken" cannot be read."""
    folder: Path = tmp_path_factory.mktemp("photos")
    for name, value in (("dark", 20), ("bright", 235)):
        (folder / f"{name}.png").write_bytes(served.photo(value))
    (folder / "broken.png").write_bytes(served.photo(20)[:80])
    return folder


@pytest.fixture(scope="session")
def served_address(served: Any, tmp_path_factory: Any) -> Iterator[str]:
    """The address of a server of the model that tells dark photos from bright ones."""
    path = served.write_model(tmp_path_factory.mktemp("model") / "light.safetensors")
    limits = served.Limits(max_body=2**20)
    engine = served.Engine(served.load_model(path, device="cpu"))
    with served.running(served.make_app({"light": engine}, limits), limits) as found:
        yield found


@pytest.fixture
def open_served(browser: Any, served_address: str) -> Iterator[Callable[..., Any]]:
    """Open a server's page: `open_served(query="", width=1280, dark=False, address=None)`.

    It fails on errors in the console, on requests to other addresses, and where the page is wider than the window when
    the test ends. `open_served.faults` lists them, for tests that expect some.
    """
    pages: list[Any] = []
    faults: list[str] = []

    def open_it(query: str = "", width: int = 1280, dark: bool = False, address: str | None = None) -> Any:
        home = address or served_address
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale="en")
        context.set_default_timeout(LIMIT)
        page = context.new_page()
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((home, "data:", "blob:")) else faults.append(request.url),
        )
        page.goto(f"{home}/{query}")
        page.locator("#drop:visible, #writing:visible, #opening:visible").first.wait_for()
        return page

    open_it.faults = faults  # type: ignore[attr-defined]
    yield open_it
    wide = [found for page in pages for found in page.evaluate(OVERFLOW)]
    for page in pages:
        page.context.close()
    assert not wide, wide[:5]
    assert not faults, faults[:5]
