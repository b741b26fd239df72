"""Recognise exports and choose the file to compute with: ONNX or OpenVINO, whichever runtime is installed."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from restune.core.errors import UserError
from restune.core.files import is_there, user_path

_MAX_HEADER = 16 * 2**20


@dataclass(frozen=True)
class Engine:
    """A runtime of exported graphs.

    Args:
        name: as ``--engine`` takes it.
        title: as people call it.
        package: what Python imports.
        file: of its graph in an export's folder.
    """

    name: str
    title: str
    package: str
    file: str

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None


ENGINES = (
    Engine("onnx", "ONNX Runtime", "onnxruntime", "model.onnx"),
    Engine("openvino", "OpenVINO", "openvino", "model.xml"),
)
"""In the order in which they are chosen."""


def is_export(model: object) -> bool:
    """Return whether this names an export: a folder with a graph in it that is not a run's, or a graph's file."""
    if not isinstance(model, str | Path):
        return False
    path = user_path(model)
    if not is_there(path):
        return False
    if path.is_dir():
        return bool(_graphs_in(path)) and not _is_bundle(path / "model.safetensors")
    return _engine_of(path) is not None


def chosen_graph(model: str | Path, engine: str | None = None) -> tuple[Engine, Path]:
    """Return the runtime and the graph's file of an export.

    Args:
        model: see `is_export`.
        engine: ``onnx`` or ``openvino``; for None or ``auto`` the first one whose file and package are there.

    Raises UserError for torch, which computes no export, and where the wanted file or package is missing.
    """
    path = user_path(model)
    own = _engine_of(path)
    there = _graphs_in(path) if path.is_dir() else {} if own is None else {own: path}
    if engine == "torch":
        raise UserError(
            "torch does not compute an export", where="--engine torch", fix="leave it out, or name the run's folder"
        )
    wanted = [one for one in there if engine in (one.name, "auto", None)]
    if not wanted:
        named = next(one for one in ENGINES if one.name == engine)
        raise UserError(
            f"there is no graph for {named.title} here",
            where=f"--engine {engine}, {model}",
            fix=f"use --engine {next(iter(there)).name}, or export the model with --to {engine}",
        )
    for one in wanted:
        if one.is_installed:
            return one, there[one]
    raise UserError(
        f"this graph needs the package {wanted[0].package}", where=str(there[wanted[0]]),
        fix="pip install 'restune[export]'",
    )  # fmt: skip


def _engine_of(path: Path) -> Engine | None:
    suffix = path.suffix.lower()
    return next((one for one in ENGINES if Path(one.file).suffix == suffix), None)


def _graphs_in(folder: Path) -> dict[Engine, Path]:
    return {one: folder / one.file for one in ENGINES if (folder / one.file).is_file()}


def _is_bundle(path: Path) -> bool:
    """Return whether a file is restune's own model: timm's export bears the same name, without restune's header."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, _MAX_HEADER)))
        return "restune" in header.get("__metadata__", {})
    except (OSError, ValueError, struct.error, AttributeError, TypeError):
        return False
