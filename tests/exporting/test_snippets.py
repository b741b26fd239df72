"""The programs beside an export run without torch and restune, and tell a right file from a wrong one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.evaluation.logits import write_arrays
from restune.exporting.deployable import InputSpec
from restune.exporting.snippets import SNIPPETS, write_snippets
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

WITHOUT = "import sys; sys.modules['torch'] = sys.modules['restune'] = None; import runpy; "


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a small network with distinct answers, in a folder whose name has a space."""
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=3).eval()
    torch.nn.init.normal_(network.fc.weight, std=2.0)
    preprocess = restune.ImagePreprocess(crop=16, resize=20)
    info = BundleInfo(spec=network.spec, classes=("ant", "bee", "黄蜂"), preprocess=preprocess, name="resnet8")
    out = tmp_path_factory.mktemp("exported") / "my export"
    return restune.export(Model(module=network, info=info, source="test"), to=["onnx", "openvino"], out=out)


@pytest.fixture
def broken(exported: Path, tmp_path: Path) -> Path:
    """The same export with golden answers of another model."""
    folder = tmp_path / "broken"
    shutil.copytree(exported, folder)
    arrays = dict(np.load(folder / "golden.npz"))
    arrays["probabilities"] = arrays["probabilities"][:, ::-1].copy()
    write_arrays(folder / "golden.npz", arrays)
    return folder


def _run(*command: object, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def _python(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"{WITHOUT}sys.argv = {[name, *arguments]!r}; runpy.run_path({str(folder / name)!r}, run_name='__main__')"
    return _run(sys.executable, "-c", code, folder=folder.parent)


def _labels(folder: Path) -> list[str]:
    return [example["label"] for example in json.loads((folder / "golden.json").read_text())["examples"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["example.py", "example_openvino.py"])
def test_python(name: str, exported: Path, broken: Path) -> None:
    done = _python(exported, name)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines[:-1]] == _labels(exported)
    assert lines[-1] == "agrees"
    wrong = _python(broken, name)
    assert wrong.returncode == 1
    assert wrong.stdout.splitlines()[-1] == "DISAGREES"


@pytest.mark.slow
def test_python_classifies_a_photo(exported: Path, tmp_path: Path) -> None:
    pixels = np.load(exported / "golden.npz")["input_3"][0]
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    done = _python(exported, "example.py", str(tmp_path / "photo.png"))
    assert done.returncode == 0, done.stderr
    found = np.fromstring(done.stdout.split("[")[1].split("]")[0], sep=" ")
    np.testing.assert_allclose(found, np.load(exported / "golden.npz")["probabilities"][3], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "words"),
    [
        ("tokens", torch.int64, (2, 40), {"example.cpp": "int64_t", "example.cs": "long"}),
        ("series", torch.float32, (2, 1, 150), {"example.cpp": "float", "example.cs": "float"}),
    ],
)
def test_programs_for_other_inputs(
    name: str, dtype: torch.dtype, shape: tuple[int, ...], words: dict[str, str], tmp_path: Path
) -> None:
    inputs = InputSpec(name, torch.zeros(shape, dtype=dtype), {0: "N"})
    for target in SNIPPETS:
        write_snippets(tmp_path, target, inputs, "values", 0.5)
    assert f"using Element = {words['example.cpp']};" in (tmp_path / "example.cpp").read_text()
    assert f"Read<{words['example.cs']}>(golden" in (tmp_path / "example.cs").read_text()
    for file in tmp_path.iterdir():
        assert not re.search("@[a-z]+@", file.read_text())
        assert "photo" not in file.read_text().lower()
        if file.suffix == ".py":
            compile(file.read_text(), file, "exec")


@pytest.fixture
def onnxruntime_folder() -> Path:
    """ONNX Runtime for other languages, as get_onnxruntime.sh brings it."""
    named = os.environ.get("RESTUNE_TEST_ONNXRUNTIME")
    if not named or not Path(named).is_dir():
        pytest.skip("RESTUNE_TEST_ONNXRUNTIME does not name a folder filled by tests/exporting/get_onnxruntime.sh")
    return Path(named)


def _needs(command: str) -> str:
    found = shutil.which(command)
    if found is None:
        pytest.skip(f"{command} is not installed")
    return found


def _check(right: subprocess.CompletedProcess[str], wrong: subprocess.CompletedProcess[str], exported: Path) -> None:
    """Assert that a program agrees with the right golden file and not with a wrong one."""
    assert right.returncode == 0, right.stdout + right.stderr
    lines = right.stdout.splitlines()
    assert len(lines) == len(_labels(exported)) + 1
    assert lines[-1] == "agrees"
    assert wrong.returncode == 1
    assert wrong.stdout.splitlines()[-1] == "DISAGREES"


@pytest.mark.slow
def test_cpp(exported: Path, broken: Path, onnxruntime_folder: Path, tmp_path: Path) -> None:
    library = onnxruntime_folder / "lib"
    if not (onnxruntime_folder / "include" / "onnxruntime_cxx_api.h").exists():
        pytest.skip(f"{onnxruntime_folder} has no headers of ONNX Runtime")
    built = _run(
        _needs("g++"), "-std=c++17", "-Wall", "-Werror", exported / "example.cpp", "-isystem",
        onnxruntime_folder / "include", "-L", library, "-lonnxruntime", "-o", tmp_path / "example", folder=tmp_path,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    right, wrong = (
        _run(tmp_path / "example", folder=folder, LD_LIBRARY_PATH=str(library)) for folder in (exported, broken)
    )
    _check(right, wrong, exported)


@pytest.mark.slow
def test_csharp(exported: Path, broken: Path, onnxruntime_folder: Path, tmp_path: Path) -> None:
    compiler, runtime = _needs("mcs"), _needs("mono")
    assembly = onnxruntime_folder / "Microsoft.ML.OnnxRuntime.dll"
    if not assembly.exists():
        pytest.skip(f"{onnxruntime_folder} has no {assembly.name}")
    references = [
        f"-r:{name}" for name in (assembly, "System.IO.Compression.dll", "System.IO.Compression.FileSystem.dll")
    ]
    program = tmp_path / "example.exe"
    built = _run(compiler, *references, f"-out:{program}", exported / "example.cs", folder=tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    shutil.copy(assembly, tmp_path)
    right, wrong = (
        _run(runtime, program, folder, folder=tmp_path, LD_LIBRARY_PATH=str(onnxruntime_folder / "lib"))
        for folder in (exported, broken)
    )
    _check(right, wrong, exported)


@pytest.mark.slow
def test_javascript(exported: Path, broken: Path, onnxruntime_folder: Path, tmp_path: Path) -> None:
    node = _needs("node")
    modules = onnxruntime_folder / "node_modules"
    if not (modules / "onnxruntime-node").exists():
        pytest.skip(f"{onnxruntime_folder} has no onnxruntime-node")
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copytree(exported, tmp_path / "my export")
    right, wrong = (_run(node, folder / "example.mjs", folder=tmp_path) for folder in (tmp_path / "my export", broken))
    _check(right, wrong, exported)
