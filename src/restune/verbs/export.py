"""export: write a model for other runtimes, verified against the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, quiet, warn
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.core.streams import generator
from restune.data.dataset import DataOptions, Dataset
from restune.data.pixels import DecodeError
from restune.data.sources import open_dataset
from restune.evaluation.score import match_classes
from restune.exporting.export import Exported, export_model, reject_unknown
from restune.exporting.html_page import reject_other_inputs
from restune.exporting.hub_push import full_name, push
from restune.exporting.quantize import Int8Data
from restune.exporting.raw_examples import RawExample, made_up_examples, raw_examples
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.runs.own_data import own_items, record_of

CALIBRATED, CHOSEN, MEASURED = 300, 700, 10_000
"""Items for int8 at most: to calibrate, to choose the version on, and to measure the accuracy on."""
COMPARED = 64
"""Number of items on which exports are compared with the model."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """The exported files.

    Args:
        out: the folder.
        targets: files and agreement by target.
        hub: URL of the repository that they were uploaded to.
    """

    out: Path
    targets: dict[str, Exported]
    hub: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune export --json`` prints."""
        content = {"out": str(self.out), "targets": {name: one.to_dict() for name, one in self.targets.items()}}
        return content if self.hub is None else {**content, "hub": self.hub}

    @property
    def files(self) -> list[str]:
        """Names of all files in the folder that the export wrote."""
        listed = [name for one in self.targets.values() for name in (*one.files, *one.snippets)]
        return [*dict.fromkeys(listed), "golden.npz", "golden.json"]


def export(
    model: str | Path | Model,
    *,
    to: str | Sequence[str] = "onnx",
    out: str | Path | None = None,
    data: Any = None,
    weights: str | Path | None = None,
    data_options: DataOptions | None = None,
    web_runtime: str | Path | None = None,
    int8: bool = False,
    calibrate: Any = None,
    max_drop: float = 0.01,
    push_to_hub: str | None = None,
    public: bool = False,
    **preprocess: Any,
) -> Path:
    """Write a model for other runtimes, compare each with the original, and return the folder.

    Args:
        model, weights, preprocess: as `restune.load`.
        to: one or several of ``onnx``, ``openvino``, ``torch`` (a torch.export program), ``torchvision`` (a state
            dict), ``timm`` (a folder) and ``html`` (one page that classifies images in the browser, offline).
        out: the folder; by default ``exports`` in the run's folder, or beside the model's file.
        data: labelled or unlabelled items to compare on; without, made-up inputs are compared.
        data_options: how to read the data.
        web_runtime: for ``html``, a folder with the npm package onnxruntime-web; by default npm fetches it once.

        int8: quantise the graphs of ``onnx``, ``openvino`` and ``html`` after training.
        calibrate: labelled items for `int8`: a random part, at most 300, calibrates; the version of the graph is chosen
            on others, at most 700; accuracy is measured on the rest, at most 10,000. Of a run's own data training items
            calibrate, and held-out items are scored.
        max_drop: the largest loss of accuracy that is accepted, a fraction.
        push_to_hub: a repository of the Hugging Face hub, USER/NAME, to upload card, bundle and exports to; created if
            missing. The token is the one that ``hf auth login`` stored, or ``HF_TOKEN``.
        public: a new repository can be seen by everyone; otherwise by its owners alone.

    The graphs of onnx, openvino and torch take raw input (images uint8 ``[N, H, W, 3]`` of any size) and contain the
    preprocessing. If an export disagrees with the model, nothing is written. Raises UserError.

    >>> out = restune.export(run_folder, to="torch", out=folder / "exported", data=photos)
    >>> sorted(path.name for path in out.iterdir())
    ['example_torch.py', 'golden.json', 'golden.npz', 'model.pt2']
    """
    return export_all(
        model, to=to, out=out, data=data, weights=weights, data_options=data_options,
        web_runtime=web_runtime, int8=int8, calibrate=calibrate, max_drop=max_drop,
        push_to_hub=push_to_hub, public=public, **preprocess,
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
    int8: bool = False,
    calibrate: Any = None,
    max_drop: float = 0.01,
    push_to_hub: str | None = None,
    public: bool = False,
    **preprocess: Any,
) -> ExportResult:
    """Export as `export` does, and return what each target agrees to."""
    targets = list(dict.fromkeys([to] if isinstance(to, str) else to))
    reject_unknown(targets, int8=int8)
    repo = None if push_to_hub is None else full_name(push_to_hub)
    loaded = load_model(model, weights=weights, device="cpu", **preprocess)
    labelled = next((one for one in (data, calibrate) if one is not None), None)
    if not loaded.classes_known and labelled is not None:
        loaded, _ = match_classes(loaded, open_dataset(labelled, data_options), allow_missing=True)
    folder = _default_folder(loaded) if out is None else user_path(out)
    quantising = _int8_data(loaded, calibrate, data_options, max_drop) if int8 else None
    runtime = None if web_runtime is None else user_path(web_runtime)
    examples = _examples(loaded, labelled, data_options)
    exported = export_model(loaded, targets, folder, examples, web_runtime=runtime, int8=quantising)
    result = ExportResult(out=folder, targets=exported)
    if repo is None:
        return result
    if labelled is not None:
        warn("the golden files contain items of your data: they are uploaded, too")
    loads = {target: one.how for target, one in exported.items()}
    return replace(result, hub=push(repo, loaded, folder, result.files, loads, public=public))


def _examples(model: Model, data: Any, options: DataOptions | None) -> list[RawExample]:
    """Return items of the data, evenly spread, else made-up inputs."""
    if data is None:
        note("no --data: the export is compared on made-up inputs")
        return made_up_examples(model.preprocess)
    dataset = open_dataset(data, options)
    step = max(1, len(dataset) // COMPARED)
    spread = islice((dataset.items[place] for place in range(0, len(dataset), step)), 2 * COMPARED)
    return raw_examples(spread, model.preprocess, COMPARED) or made_up_examples(model.preprocess)


def _int8_data(model: Model, data: Any, options: DataOptions | None, largest_drop: float) -> Int8Data:
    """Read labelled items for calibration, and others to measure accuracy on.

    Of a run's own data the training items calibrate, held-out items are scored, and the validation items choose the
    graph's version, or training items where those are scored.
    """
    reject_other_inputs(model)
    if data is None:
        raise UserError(
            "int8 needs labelled items to calibrate and measure on",
            where="--int8",
            fix="name data with --calibrate DATA",
        )
    dataset = open_dataset(data, options)
    record = record_of(model.source)
    held_out = None if record is None else own_items(record, dataset, None)
    if record is not None and held_out is not None:
        samples, targets = _drawn(model, held_out, MEASURED)
        with quiet():
            training = own_items(record, dataset, "train")
            validation = own_items(record, dataset, "val") if "val" in record.splits else None
        assert training is not None
        pixels, _ = _drawn(model, training, CALIBRATED + CHOSEN)
        count = min(CALIBRATED, (len(pixels) + 1) // 2)
        calibration, choosing = pixels[:count], pixels[count:]
        if validation is not None and validation.items[0].id not in {item.id for item in held_out.items}:
            choosing, _ = _drawn(model, validation, CHOSEN)
    else:
        pixels, classes = _drawn(model, dataset, CALIBRATED + CHOSEN + MEASURED)
        count, last = min(CALIBRATED, len(pixels) // 4), min(CALIBRATED + CHOSEN, len(pixels) // 2)
        calibration, choosing, samples, targets = pixels[:count], pixels[count:last], pixels[last:], classes[last:]
    if not len(calibration) or not len(choosing) or not len(samples):
        raise UserError("there are too few readable items to calibrate on", where="--calibrate", fix="name more data")
    return Int8Data(
        calibration=calibration, choosing=choosing, samples=samples, targets=targets, largest_drop=largest_drop
    )


def _drawn(model: Model, dataset: Dataset, most: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw readable items at random: resized and cropped ``[N, C, crop, crop]``, and their classes ``[N]``."""
    preprocess = reject_other_inputs(model)
    _, dataset = match_classes(model, dataset, allow_missing=True)
    samples, targets = [], []
    for place in generator(0, "calibration").permutation(len(dataset))[:most].tolist():
        item = dataset.items[place]
        try:
            samples.append(preprocess.apply(item.location.read()).numpy())
        except (DecodeError, OSError, ValueError):
            continue
        targets.append(item.target)
    size = (0, preprocess.channels, preprocess.crop, preprocess.crop)
    return np.stack(samples) if samples else np.zeros(size, np.uint8), np.array(targets, np.int64)


def _default_folder(model: Model) -> Path:
    path = user_path(model.source)
    return path.parent / "exports" if path.is_file() else Path("exports")
