"""Predict with an export: the same answers as with the model it was written from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from restune.core.console import note, progress
from restune.core.errors import UserError
from restune.core.machine import cpu_count
from restune.data.dataset import DataOptions, Item
from restune.data.inputs import expand
from restune.data.preprocess import Preprocess
from restune.exported.answers import Answering, Fields, answers, wanted_outputs
from restune.exported.files import chosen_graph
from restune.exported.info import ExportInfo, read_info
from restune.exported.inputs import Raw, read_items, reject_unreadable_kind, stacked
from restune.exported.runtimes import Graph, Outputs, open_graph
from restune.inference.prediction import AnswerOptions, Prediction, reject_options_of_classes

_MOST_BYTES = 2**26
"""Of raw inputs that are collected for one batch."""
_FIXED = {"device": ("auto", "cpu"), "views": ("single",), "precision": ("fp32", "auto")}
"""Values besides None that say what an export does in any case: options that need not be refused."""
Group = list[tuple[Item, Raw | str]]


@dataclass(frozen=True)
class Export:
    """An opened export.

    Args:
        graph: in its runtime.
        info: what its metadata says.
    """

    graph: Graph
    info: ExportInfo

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the answers."""
        return self.info.classes

    @property
    def classes_known(self) -> bool:
        """Whether the classes are named, which they are in every export."""
        return True

    @property
    def preprocess(self) -> Preprocess:
        """How the graph prepares an item's content."""
        return self.info.preprocess

    @property
    def source(self) -> str:
        """The graph's file, for messages."""
        return str(self.graph.path)

    def with_classes(self, classes: Sequence[str]) -> Export:
        """Return the same export with its classes renamed."""
        return replace(self, info=replace(self.info, classes=tuple(classes)))

    def digest(self) -> str:
        """Hash the graph's files."""
        digest = hashlib.blake2b(digest_size=16)
        for path in (self.graph.path, self.graph.path.with_suffix(".bin")):
            if path.is_file():
                digest.update(path.read_bytes())
        return digest.hexdigest()


def open_export(model: str | Path, engine: str | None = None) -> Export:
    """Open a folder or a file that `restune export` wrote. Raises UserError for anything else."""
    graph = open_graph(*chosen_graph(model, engine))
    info = read_info(graph)
    reject_unreadable_kind(info.preprocess, str(graph.path))
    return Export(graph, info)


def predict_export(
    model: str | Path,
    inputs: Any,
    *,
    topk: int = 5,
    batch_size: int = 64,
    workers: int | None = None,
    threshold: float | None = None,
    coverage: float | None = None,
    class_conditional: bool = False,
    engine: str | None = None,
    data_options: DataOptions | None = None,
    select: Callable[[Iterator[Item]], Iterator[Item]] = iter,
    description: str = "predictions",
    **others: Any,
) -> tuple[Export, Iterator[Prediction]]:
    """Predict lazily, as `verbs.predict.stream_predictions` does with a model; return the export and the predictions.

    Args:
        model: an export's folder, or the file of its graph.
        engine: ``onnx`` or ``openvino``; by default the first one whose file and package are there.
        select: takes all items, lazily, and returns those to predict.
        description: of the progress bar; empty for none.
        others: options that exports do not have; those that are set are refused.

    Raises UserError for a file that is not an export, and for options that it does not support.
    """
    options = AnswerOptions(threshold=threshold, coverage=coverage, class_conditional=class_conditional)
    options.check()
    reject_options_of_models(others)
    if batch_size < 1 or (workers is not None and workers < 0):
        raise UserError(
            f"a batch size of {batch_size} with {workers} workers is not possible",
            where="batch_size, workers",
            fix="use 1 or more",
        )
    export = open_export(model, engine)
    graph, info = export.graph, export.info
    reading = replace(data_options or DataOptions(), kind=info.preprocess.kind)
    if info.task != "single-label":
        reject_options_of_classes(info.task, {"--threshold": threshold, "--coverage": coverage})
        reading = replace(reading, task=info.task)
    elif threshold is not None and info.calibration is None:
        note("this model is not calibrated: the threshold is compared with the network's own probabilities")
    thresholds = options.set_thresholds(info.calibration)
    note(f"{info.name or 'network'} from {graph.path}, computed by {graph.engine.title}")
    items = select(expand(inputs, reading, info.classes))
    topk = max(1, min(topk, len(info.classes)))
    answering = Answering(topk=topk, options=options, thresholds=thresholds)
    return export, _predictions(export, items, answering, batch_size, workers, description)


def reject_options_of_models(options: Mapping[str, Any]) -> None:
    """Raise UserError for an option that only a model has: its network, weights and preprocessing are in the graph."""
    for name, value in options.items():
        if value is None or value in _FIXED.get(name, ()) or name == "command":
            continue
        raise UserError(
            "an export computes what is in its graph; this needs the model itself",
            where=f"--{name.replace('_', '-')}",
            fix="leave it out, or use the run's folder or its model.safetensors",
        )


def _predictions(
    export: Export, items: Iterable[Item], answering: Answering, batch_size: int, workers: int | None, description: str
) -> Iterator[Prediction]:
    with progress(description, None) as advance:
        for group in read_groups(export, items, batch_size, workers):
            known = dict(_computed(export, group, answering))
            for place, (item, read) in enumerate(group):
                fields = {"error": read} if isinstance(read, str) else known[place]
                yield Prediction(input=item.id, **fields)
            advance(len(group))


def read_groups(export: Export, items: Iterable[Item], batch_size: int, workers: int | None) -> Iterator[Group]:
    """Yield consecutive items with their raw inputs: at most `batch_size`, fewer where their inputs are large."""
    rest = iter(items)
    first = tuple(islice(rest, 2))
    workers = 0 if len(first) < 2 else cpu_count() if workers is None else workers
    group: Group = []
    size = 0
    for item, raw in read_items(chain(first, rest), export.info.preprocess, workers):
        group.append((item, raw))
        size += 0 if isinstance(raw, str) else raw.nbytes
        if len(group) == batch_size or size > _MOST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _computed(export: Export, group: Group, answering: Answering) -> Iterator[tuple[int, Fields]]:
    """Yield the place in the group and the answer of each readable item."""
    for places, outputs in computed_outputs(export, group, wanted_outputs(export.info)):
        yield from zip(places, answers(outputs, export.info, answering), strict=True)


def computed_outputs(export: Export, group: Group, names: Sequence[str]) -> Iterator[tuple[list[int], Outputs]]:
    """Yield places in the group with the named outputs of their items. Images of one size are computed together.

    Items that cannot be read are left out. Raises UserError where the graph cannot be computed.
    """
    batches: dict[Any, list[int]] = {}
    for place, (_, raw) in enumerate(group):
        if not isinstance(raw, str):
            batches.setdefault(raw.shape if export.info.preprocess.kind == "image" else None, []).append(place)
    for places in batches.values():
        raws = [raw for place in places if not isinstance(raw := group[place][1], str)]
        yield places, export.graph.run(stacked(raws), names)
