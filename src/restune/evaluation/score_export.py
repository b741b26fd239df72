"""Score an export on a data set: read its items, compute its graph, collect the logits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.console import progress
from restune.core.errors import UserError
from restune.data.dataset import Dataset
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.novelty import NoveltyResult
from restune.evaluation.score import reject_lost, reject_unreadable
from restune.evaluation.tasks import AnyEvaluation, builder_for
from restune.exported.predict import Export, Group, computed_outputs, read_groups
from restune.weights.novelty import Novelty

Rows = Mapping[str, NDArray[np.float32]]


def score_export(
    export: Export,
    dataset: Dataset,
    *,
    on_corrupt: str = "error",
    batch_size: int = 64,
    workers: int | None = None,
    description: str = "evaluate",
) -> AnyEvaluation:
    """Compute an export's logits of all items, and the scores that `score_any` computes from a model's.

    Args:
        export: with the data set's classes, in their order; calibration and novelty are those in its metadata.
        dataset, on_corrupt, batch_size, workers: as of `score_any`.
        description: of the progress bar.

    Raises UserError, also for an export that does not answer with logits.
    """
    started = time.perf_counter()
    if not len(dataset):
        raise UserError("there are no items to score", where=dataset.source)
    names = _names(export)
    builder = builder_for(export.classes, export.info.outputs, dataset, export.info.calibration)
    skipped: list[tuple[str, str]] = []
    novelty: list[NDArray[np.float32]] = []
    with progress(description, len(dataset)) as advance:
        for group in read_groups(export, dataset.items, batch_size, workers):
            for item, read in group:
                if isinstance(read, str):
                    reject_unreadable(item, read, on_corrupt)
                    skipped.append((item.id, read))
            readable = [item for item, read in group if not isinstance(read, str)]
            if readable:
                rows = _rows(export, group, names)
                embeddings = torch.from_numpy(rows["embedding"]) if "embedding" in rows else None
                targets = [item.target for item in readable]
                builder.add([item.id for item in readable], targets, torch.from_numpy(rows["logits"]), embeddings)
                novelty += [rows["novelty"].reshape(-1)] if "novelty" in rows else []
            advance(len(group))
    reject_lost(skipped, dataset)
    scored = builder.evaluation(
        skipped=tuple(skipped),
        model=export.source,
        data=dataset.source,
        fingerprint=dataset.fingerprint(),
        seconds=time.perf_counter() - started,
    )
    known = _novelty(export.info.novelty)
    if known is None or not novelty or not isinstance(scored, Evaluation):
        return scored
    return replace(scored, novelty=NoveltyResult(scores=np.concatenate(novelty), model=known))


def _names(export: Export) -> tuple[str, ...]:
    """Return the outputs that a score needs, the logits first."""
    if "logits" not in export.graph.outputs:
        raise UserError(
            "this export does not answer with logits, from which it is scored",
            where=export.source,
            fix="write it again with `restune export`",
        )
    return ("logits", *(name for name in ("embedding", "novelty") if name in export.graph.outputs))


def _rows(export: Export, group: Group, names: Sequence[str]) -> Rows:
    """Return the named outputs of the readable items of a group, in its order."""
    places: list[int] = []
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for computed, outputs in computed_outputs(export, group, names):
        places += computed
        for name in names:
            parts[name].append(np.asarray(outputs[name], np.float32))
    order = np.argsort(places)
    return {name: np.concatenate(found)[order] for name, found in parts.items()}


def _novelty(known: Mapping[str, Any] | None) -> Novelty | None:
    """Return what the metadata says of novelty, without the reference, which is in the graph; None for other values."""
    content = known or {}
    counts = [content.get(key) for key in ("k", "false_alarms", "n")]
    rates = [content.get(key) for key in ("threshold", "promised")]
    are_counts = all(type(value) is int and value >= 0 for value in counts)
    are_rates = all(type(value) in (int, float) and math.isfinite(value) for value in rates if value is not None)
    if not are_counts or not are_rates or None in rates or not content["n"]:
        return None
    fields = {key: content[key] for key in ("k", "threshold", "promised", "false_alarms", "n")}
    return Novelty(reference=torch.zeros(0, 1), **fields)
