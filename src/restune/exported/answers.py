"""Turn a graph's outputs into predictions, as `inference.model.predict_items` does with a model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.exported.info import ExportInfo
from restune.exported.runtimes import Outputs
from restune.inference.prediction import AnswerOptions

Fields = Mapping[str, Any]
"""The fields of a `Prediction` but its input."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What predictions list.

    Args:
        topk: how many classes `Prediction.top` lists.
        options: when to abstain, and which prediction sets to form.
        thresholds: of prediction sets, see `AnswerOptions.set_thresholds`.
    """

    topk: int
    options: AnswerOptions
    thresholds: float | Sequence[float] | None


def wanted_outputs(info: ExportInfo) -> tuple[str, ...]:
    """Return the names of the outputs that predictions need, the answer first."""
    return (info.answer, *(("novelty",) if info.novelty_threshold is not None else ()))


def answers(outputs: Outputs, info: ExportInfo, answering: Answering) -> Iterator[Fields]:
    """Yield the fields of each input's prediction, from the outputs of a batch, by name."""
    rows = outputs[info.answer]
    if info.task == "regression":
        yield from ({"values": dict(zip(info.classes, row, strict=True))} for row in rows.tolist())
        return
    if info.task == "multi-label":
        least = info.outputs.threshold_row(len(info.classes)).astype(np.float32)
        yield from (_labels(row, info.classes, least, answering.topk) for row in rows)
        return
    scores = outputs["novelty"].reshape(-1).tolist() if info.novelty_threshold is not None else [None] * len(rows)
    for row, score in zip(rows, scores, strict=True):
        yield {**_label(row, info.classes, answering), **_novelty(score, info.novelty_threshold)}


def _label(row: NDArray[np.float32], classes: Sequence[str], answering: Answering) -> Fields:
    threshold, thresholds = answering.options.threshold, answering.thresholds
    order = np.argsort(-row, kind="stable")
    top = tuple((classes[place], float(row[place])) for place in order[: answering.topk].tolist())
    abstained = None if threshold is None else top[0][1] < float(np.float32(threshold))
    chosen = None
    if thresholds is not None:
        belongs = row >= np.asarray(thresholds, np.float32)
        belongs[order[0]] = True  # no set is empty
        chosen = tuple(classes[place] for place in order[belongs[order]].tolist())
    return {
        "label": None if abstained else top[0][0],
        "probability": top[0][1],
        "top": top,
        "abstained": abstained,
        "prediction_set": chosen,
    }


def _labels(row: NDArray[np.float32], classes: Sequence[str], least: NDArray[np.float32], topk: int) -> Fields:
    order = np.argsort(-row, kind="stable").tolist()
    return {
        "labels": tuple(classes[place] for place in order if row[place] >= least[place]),
        "probabilities": {name: float(value) for name, value in zip(classes, row, strict=True)},
        "top": tuple((classes[place], float(row[place])) for place in order[:topk]),
    }


def _novelty(score: float | None, threshold: float | None) -> Fields:
    return {} if score is None or threshold is None else {"novel": score > threshold, "novelty": score}
