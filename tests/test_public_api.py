"""The door from Python: nothing heavy on import, every name there, every verb callable again and again."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import restune
from restune.cli import VERBS
from restune.weights import bundle


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_pulls_in_nothing_heavy():
    code = (
        "import sys, restune; print([m for m in ('torch', 'numpy', 'torchvision', 'PIL', 'rich') if m in sys.modules])"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_pulls_in_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['restune', *{arguments}]\n"
        "from restune.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'torchvision', 'PIL') if m in sys.modules])"
    )
    assert python(code).splitlines()[-1] == "[]"


def test_predicting_an_image_imports_what_it_needs_and_no_more(photos, tmp_path):
    """Each of these takes longer to import than the prediction takes."""
    network = restune.create_model("resnet8", num_classes=2)
    preprocess = restune.ImagePreprocess(crop=32)
    bundle.write_bundle(
        tmp_path / "model.safetensors",
        network.state_dict(),
        bundle.BundleInfo(spec=network.spec, classes=("blue", "red"), preprocess=preprocess),
    )
    arguments = ["predict", str(tmp_path / "model.safetensors"), str(photos / "red" / "0.jpg"), "--json"]
    heavy = ("torchvision", "torch._dynamo", "sklearn", "scipy", "pyarrow", "matplotlib", "huggingface_hub", "pandas")
    printed = python(
        f"import sys; sys.argv = ['restune', *{arguments}]\n"
        "from restune.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('torch' in sys.modules, [m for m in {heavy} if m in sys.modules])"
    ).splitlines()
    assert '"label"' in printed[0]
    assert printed[-1] == "True []"


def test_torchvision_is_imported_for_its_weights_and_its_data_sets_alone():
    source = Path(restune.__file__).parent
    imports = re.compile(r"^( *)(?:from|import) torchvision", re.MULTILINE)
    found = {path.relative_to(source).as_posix(): imports.findall(path.read_text()) for path in source.rglob("*.py")}
    importing = {name: indents for name, indents in found.items() if indents}
    assert set(importing) == {"data/sources/named.py", "weights/hub.py", "exporting/torchvision_state.py"}
    assert all(indent for indents in importing.values() for indent in indents)  # inside functions


def test_every_public_name_exists_and_is_documented():
    for name in restune.__all__:
        value = getattr(restune, name)
        assert name == "__version__" or inspect.getdoc(value), name
    assert set(restune.__all__) <= set(dir(restune))
    with pytest.raises(AttributeError):
        _ = restune.nothing


def test_no_module_takes_a_public_functions_name():
    modules = {module.name for module in pkgutil.iter_modules(restune.__path__)}
    assert len(modules) >= 9
    assert not modules & set(restune.__all__)


def test_every_verb_twice(photos, tmp_path):
    import torch

    import restune.verbs.create
    import restune.verbs.evaluate
    import restune.verbs.load
    import restune.verbs.models
    import restune.verbs.predict

    torch.save(restune.create_model("resnet8", num_classes=2).state_dict(), tmp_path / "weights.pth")
    for _ in range(2):
        model = restune.load("resnet8", weights=tmp_path / "weights.pth")
        assert restune.evaluate(model, photos).n == 6
        assert len(restune.predict(model, photos)) == 6
        assert len(restune.models("resnet8")) == 1
        assert restune.create_model("resnet8").fc.out_features == 10
        assert "resnet8" in restune.list_models()


ROOMS = (
    *(
        "core",
        "networks",
        "data",
        "weights",
        "inference",
        "exported",
        "evaluation",
        "training",
        "reporting",
        "exporting",
        "runs",
        "lessons",
        "verbs",
        "serving",
        "cli",
    ),
)
"""From the bottom to the top (docs/architecture.md)."""


def _imports(file):
    """Every module of restune that a file imports, at its top, in functions and for type checkers: name and line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "restune")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "restune":
            parts = [alias.name for alias in node.names] if node.module == "restune" else [""]
            yield from ((f"{node.module}.{part}".rstrip("."), node.lineno) for part in parts)


def test_rooms_only_look_down():
    root = Path(restune.__file__).parent
    files = [file for file in root.rglob("*.py") if file.parent != root]
    assert {file.relative_to(root).parts[0] for file in files} == set(ROOMS)
    checked, wrong = 0, []
    for file in files:
        room = file.relative_to(root).parts[0]
        for name, line in _imports(file):
            parts = name.split(".")
            above = len(parts) < 2 or parts[1] not in ROOMS or ROOMS.index(parts[1]) > ROOMS.index(room)
            other_verb = room == "verbs" and parts[1:2] == ["verbs"]
            if above or other_verb:
                wrong.append(f"{file.relative_to(root)}:{line} imports {name}")
            checked += 1
    assert not wrong
    assert checked > 500
