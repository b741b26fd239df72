"""What an export's metadata says: classes, task, preprocessing, calibration, novelty; checked against its graph."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from restune.core.errors import UserError
from restune.data.kinds import Kind, kind_of
from restune.data.preprocess import Preprocess, preprocess_from_dict
from restune.data.targets import TASKS, Outputs, TargetScale
from restune.exported.runtimes import Graph
from restune.weights.calibration import Calibration

FORMAT = 1
"""Version of the metadata that this version of restune reads; files without one are of the same form."""
_AGAIN = "write it again with `restune export`"
_TYPES = {"image": ("uint8", 4), "video": ("uint8", 5), "signal": ("float32", 3), "text": ("int64", 2)}
"""Of each kind the type and the number of axes of the graph's input."""


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """What an export says of its model.

    Args:
        name: of the network.
        task, classes, preprocess, calibration: as a bundle's.
        outputs: what the network's outputs mean.
        novelty_threshold: a novelty score above it is novel; None: the graph does not score novelty.
        novelty: what validation promised of that threshold, as a bundle's header holds it.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    calibration: Calibration | None
    outputs: Outputs
    novelty_threshold: float | None
    novelty: Mapping[str, Any] | None = None

    @property
    def kind(self) -> Kind:
        """The kind of data that it takes."""
        return kind_of(self.preprocess.kind)

    @property
    def answer(self) -> str:
        """Name of the graph's first output."""
        return "values" if self.task == "regression" else "probabilities"


def read_info(graph: Graph) -> ExportInfo:
    """Read a graph's metadata. Raises UserError where it cannot be read, or says something else than the graph."""
    where = str(graph.path)
    try:
        info = _parsed(graph.metadata)
    except UserError as error:
        raise UserError(error.what, where=where, fix=error.fix or _AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise UserError(
            f"the metadata of this graph cannot be read: {reason}", where=where, fix=_AGAIN,
        ) from error  # fmt: skip
    _reject_contradiction(info, graph)
    return info


def _parsed(metadata: Mapping[str, str]) -> ExportInfo:
    form = json.loads(metadata.get("format", "1"))
    if type(form) is not int or form > FORMAT:
        raise UserError("this export is of a newer version of restune", fix="upgrade restune")
    classes, task = json.loads(metadata["classes"]), metadata["task"]
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("the classes are not a list of names")
    if len(set(classes)) != len(classes):
        raise ValueError("a class is listed twice")
    if task not in TASKS:
        raise UserError(f"this model's task is {task!r}, which this version of restune does not know",
                        fix="upgrade restune")  # fmt: skip
    preprocess = preprocess_from_dict(json.loads(metadata["preprocess"]))
    if preprocess.kind != metadata["kind"]:
        raise ValueError("the kind of data and the preprocessing differ")
    known = {
        key: json.loads(metadata.get(key, "null")) for key in ("calibration", "novelty", "thresholds", "target_scale")
    }
    calibration = known["calibration"] and Calibration.from_dict(known["calibration"], len(classes))
    return ExportInfo(
        name=metadata.get("name", ""),
        task=task,
        classes=tuple(classes),
        preprocess=preprocess,
        calibration=calibration,
        outputs=_outputs(task, known["thresholds"], known["target_scale"], len(classes)),
        novelty_threshold=None if known["novelty"] is None else _number(known["novelty"]["threshold"]),
        novelty=known["novelty"],
    )


def _outputs(task: str, thresholds: Any, scale: Any, count: int) -> Outputs:
    row = None if thresholds is None else tuple(map(_number, thresholds))
    if row is not None and len(row) != count:
        raise ValueError(f"{len(row)} thresholds for {count} labels")
    return Outputs(task, row, None if scale is None else TargetScale.from_dict(scale))


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("a threshold is not a number")
    return float(value)


def _reject_contradiction(info: ExportInfo, graph: Graph) -> None:
    """Raise UserError where the metadata does not fit the graph."""
    answers = graph.outputs.get(info.answer, ())
    kind, axes = _TYPES[info.preprocess.kind]
    if len(answers) != 2:
        raise _differ(f"the graph does not have the output {info.answer}", graph)
    if answers[1] not in (None, len(info.classes)):
        raise _differ(f"the metadata lists {len(info.classes)} classes, the graph answers with {answers[1]}", graph)
    if graph.input_type != kind or len(graph.input_shape) != axes:
        takes = f"{graph.input_type} with {len(graph.input_shape)} axes"
        raise _differ(f"the metadata names {info.kind.noun}, the graph takes {takes}", graph)
    if info.novelty_threshold is not None and "novelty" not in graph.outputs:
        raise _differ("the metadata has a threshold of novelty, the graph does not score it", graph)


def _differ(how: str, graph: Graph) -> UserError:
    return UserError(f"metadata and graph differ: {how}", where=str(graph.path), fix=_AGAIN)
