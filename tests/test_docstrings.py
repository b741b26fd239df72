"""The examples in public docstrings run, and every public function and class has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
from PIL import Image

import restune

WITHOUT = {"__version__", "quickstart"}
"""`quickstart` takes a minute; README's first command and its own test run it."""


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Twenty photos of two classes, a run on them, and a folder to write to."""
    folder = tmp_path_factory.mktemp("examples")
    random = np.random.default_rng(0)
    for label, colour in (("blue", (20, 30, 220)), ("red", (220, 30, 20))):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(10):
            pixels = np.clip(np.array(colour) + random.integers(-20, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number}.png")
    run = restune.train(
        folder / "photos", model="resnet8", image_size=16, epochs=8, batch_size=8, out=folder / "first", workers=0
    )
    photo = folder / "photos" / "red" / "0.png"
    return {"folder": folder, "photos": folder / "photos", "photo": photo, "run_folder": run.out, "restune": restune}


def _documented():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(restune.__path__, "restune."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        yield from (test for test in finder.find(loaded, module.name) if test.examples)


def test_examples_run(names, monkeypatch):
    monkeypatch.chdir(names["folder"])
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    tests = list(_documented())
    for test in tests:
        test.globs = {**test.globs, **names}
        runner.run(test, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0
    assert len(tests) >= 15


@pytest.mark.parametrize("name", sorted(set(restune.__all__) - WITHOUT))
def test_public_names_have_an_example(name):
    value = getattr(restune, name)
    texts = [inspect.getdoc(value) or ""]
    if inspect.isclass(value):
        texts += [inspect.getdoc(member) or "" for member in vars(value).values()]
    assert any(">>>" in text for text in texts), f"{name} has no example"
