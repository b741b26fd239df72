"""export: write a model for other runtimes, verified against the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.core.files import user_path
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset
from restune.exporting.export import Exported, export_model, reject_unknown
from restune.exporting.raw_examples import RawExample, made_up_examples, raw_examples
from restune.inference.load import load_model
from restune.inference.model import Model

COMPARED = 64
"""Number of items on which exports are compared with the model."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The exported files.

    Args:
        out: the folder.
        targets: files and agreement by target.
    """

    out: Path
    targets: dict[str, Exported]

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune export --json`` prints."""
        return {"out": str(self.out), "targets": {name: one.to_dict() for name, one in self.targets.items()}}


def export(
    model: str | Path | Model,
    *,
    to: str | Sequence[str] = "onnx",
    out: str | Path | None = None,
    data: Any = None,
    weights: str | Path | None = None,
    data_options: DataOptions | None = None,
    web_runtime: str | Path | None = None,
    **preprocess: Any,
) -> Path:
    """Write a model for other runtimes, compare each with the original, and return the folder.

    Args:
        model, weights, preprocess: as `restune.load`.
        to: one or several of ``onnx``, ``openvino``, ``torch`` (a torch.export program), ``torchvision`` (a state dict),
            ``timm`` (a folder) and ``html`` (one page that classifies images in the browser, offline).
        out: the folder; by default ``exports`` in the run's folder, or beside the model's file.
        data: labelled or unlabelled items to compare on; without, made-up inputs are compared.
        data_options: how to read the data.
        web_runtime: for ``html``, a folder with the npm package onnxruntime-web; by default npm fetches it once.

    The graphs of onnx, openvino and torch take raw input (images uint8 ``[N, H, W, 3]`` of any size) and contain the
    preprocessing. If an export disagrees with the model, nothing is written. Raises UserError.

    >>> out = restune.export(run_folder, to="torch", out=folder / "exported", data=photos)
    >>> sorted(path.name for path in out.iterdir())
    ['golden.json', 'golden.npz', 'model.pt2']
    """
    return export_all(
        model, to=to, out=out, data=data, weights=weights, data_options=data_options,
        web_runtime=web_runtime, **preprocess,
    ).out  # fmt: skip


def export_all(
    model: str | Path | Model,
    *,
    to: str | Sequence[str],
    out: str | Path | None = None,
    data: Any = None,
    weights: str | Path | None = None,
    data_options: DataOptions | None = None,
    web_runtime: str | Path | None = None,
    **preprocess: Any,
) -> ExportResult:
    """Export as `export` does, and return what each target agrees to."""
    targets = list(dict.fromkeys([to] if isinstance(to, str) else to))
    reject_unknown(targets)
    loaded = load_model(model, weights=weights, device="cpu", **preprocess)
    folder = _default_folder(loaded) if out is None else user_path(out)
    runtime = None if web_runtime is None else user_path(web_runtime)
    exported = export_model(
        loaded, targets, folder, _examples(loaded, data, data_options), web_runtime=runtime
    )  # fmt: skip
    return ExportResult(out=folder, targets=exported)


def _examples(model: Model, data: Any, options: DataOptions | None) -> list[RawExample]:
    """Return items of the data, evenly spread, else made-up inputs."""
    if data is None:
        note("no --data: the export is compared on made-up inputs")
        return made_up_examples(model.preprocess)
    dataset = open_dataset(data, options)
    step = max(1, len(dataset) // COMPARED)
    spread = islice((dataset.items[place] for place in range(0, len(dataset), step)), 2 * COMPARED)
    return raw_examples(spread, model.preprocess, COMPARED) or made_up_examples(model.preprocess)


def _default_folder(model: Model) -> Path:
    path = user_path(model.source)
    return path.parent / "exports" if path.is_file() else Path("exports")
