"""Quantise an ONNX graph to int8 after training: weights per channel, activations by calibration on real items."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, progress
from restune.core.errors import UserError
from restune.evaluation.metrics import wilson_interval
from restune.exporting.int8_graph import QdqGraph, multiply_adds
from restune.exporting.onnx_graph import outputs_in_onnx

VERSIONS = ("int8", "float-residuals")
"""Of an int8 graph, the fastest first."""
ENOUGH = 0.97
"""Share of labels that a version must leave unchanged, at the lower end of its 95% interval."""
CHEAP = 0.02
"""Share of the multiply-adds up to which the first convolution stays in float."""
_WORDS = {"int8": "residuals in int8", "float-residuals": "residuals in float32"}


@dataclass(frozen=True, kw_only=True)
class Int8Data:
    """Items for quantisation, resized and cropped: uint8 ``[N, C, crop, crop]``.

    Args:
        calibration: from which the activations' ranges are taken.
        choosing: other items, on which the version of the int8 graph is chosen.
        samples, targets: other items, on which accuracy is measured before and after.
        largest_drop: of the accuracy; a larger one is refused.
    """

    calibration: NDArray[np.uint8]
    choosing: NDArray[np.uint8]
    samples: NDArray[np.uint8]
    targets: NDArray[np.int64]
    largest_drop: float


@dataclass(frozen=True, kw_only=True)
class Int8Scores:
    """Accuracy of a float graph and of its int8 version on the same items.

    Args:
        n: number of items.
        before, after: accuracies.
        difference: after minus before, with its 95% interval over paired items.
        agreement: share of items with the same label.
    """

    n: int
    before: float
    after: float
    difference: tuple[float, float, float]
    agreement: float


def paired_scores(before: NDArray[Any], after: NDArray[Any], targets: NDArray[np.int64]) -> Int8Scores:
    """Compare labels of the same items. The interval is the normal one of a mean of paired differences.

    >>> import numpy as np
    >>> paired_scores(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1]), np.array([0, 1, 1, 1])).after
    1.0
    """
    gain = (after == targets).astype(np.float64) - (before == targets)
    half = 1.96 * gain.std() / np.sqrt(len(gain))
    return Int8Scores(
        n=len(targets),
        before=float((before == targets).mean()),
        after=float((after == targets).mean()),
        difference=(float(gain.mean()), float(gain.mean() - half), float(gain.mean() + half)),
        agreement=float((before == after).mean()),
    )


def reject_drop(scores: Int8Scores, largest: float) -> None:
    """Raise UserError for an int8 graph that loses more accuracy than wanted."""
    if scores.before - scores.after > largest:
        raise UserError(
            f"int8 loses {100 * (scores.before - scores.after):.2f} points of accuracy on {scores.n:,} items "
            f"({scores.before:.2%} to {scores.after:.2%}), more than {100 * largest:g}",
            where="--int8",
            fix="calibrate on more items, export without --int8, or accept more with --max-drop",
        )


def quantize(core: Path, path: Path, batches: Sequence[NDArray[Any]], choosing: NDArray[Any]) -> Path:
    """Write an int8 version of a graph with quantise and dequantise nodes, which ONNX Runtime and OpenVINO both run.

    Args:
        core: the float graph, from resized and cropped pixels.
        path: the file to write.
        batches: calibration inputs ``[N, ...]``.
        choosing: other inputs ``[N, ...]``, on which the version is chosen.

    Convolutions are quantised: weights to int8 per channel, activations to uint8. The head stays in float, and so does
    the first convolution where that is cheap. The first of `VERSIONS` is taken that leaves `ENOUGH` of the choosing
    inputs' labels unchanged, else the last, which is closest to float. Raises UserError without calibration items.
    """
    if not batches:
        raise UserError("int8 needs items to calibrate on", where="--int8", fix="name data with --calibrate DATA")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(max(logging.getLogger().level, logging.WARNING))
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(core), str(prepared), skip_symbolic_shape=True)
    expected, count = _labels(core, choosing), len(choosing)
    for version in VERSIONS:
        _write_version(version, prepared, path, batches)
        unchanged = int((_labels(path, choosing) == expected).sum())
        if wilson_interval(unchanged, count)[0] >= ENOUGH:
            break
    words, share = _WORDS[version], unchanged / count
    note(f"int8 with {words}: {share:.1%} of labels unchanged on {count:,} items that are not scored")
    prepared.unlink()
    return path


def cheap_first(model: Any) -> str | None:
    """Return the name of the first convolution if it has few of a graph's multiply-adds; None otherwise.

    It reads pixels, whose rounding to the 256 levels of one scale for all colours is the largest error of one layer.
    """
    counts = multiply_adds(model)
    first = next(iter(counts), None)
    return first if first is not None and counts[first] <= CHEAP * sum(counts.values()) else None


def _labels(path: Path, samples: NDArray[Any]) -> NDArray[np.int64]:
    parts = [samples[i : i + 64] for i in range(0, len(samples), 64)]
    return np.concatenate(
        [found["probabilities"].argmax(axis=1) for found in outputs_in_onnx(path, parts, ["probabilities"])]
    )


def _write_version(version: str, prepared: Path, path: Path, batches: Sequence[NDArray[Any]]) -> Path:
    """Quantise a prepared graph and write it."""
    import onnx
    from onnxruntime import quantization

    adds = ["Add"] if version == "int8" else []
    first = cheap_first(onnx.load(str(prepared)))
    quantization.quantize_static(
        str(prepared),
        str(path),
        _Reader(_input_name(prepared), batches),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MaxPool", *adds],
        nodes_to_exclude=[] if first is None else [first],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    graph = QdqGraph(onnx.load(str(path)))
    graph.quantise_after_relu_only()
    if not adds:
        graph.float_residuals()
    onnx.save(graph.model, str(path))
    return path


def compose(first: Path, second: Path, path: Path) -> Path:
    """Write one graph that runs `first`, whose only output is the input of `second`."""
    import onnx
    from onnx import compose as composing

    head, tail = onnx.load(str(first)), onnx.load(str(second))
    tail = composing.add_prefix(tail, "core/", rename_outputs=False)
    version = max(head.ir_version, tail.ir_version)
    head.ir_version = tail.ir_version = version
    merged = composing.merge_models(head, tail, io_map=[(head.graph.output[0].name, tail.graph.input[0].name)])
    for one in tail.metadata_props:
        merged.metadata_props.add(key=one.key, value=one.value)
    onnx.save(merged, str(path))
    return path


def _input_name(path: Path) -> str:
    import onnx

    name: str = onnx.load(str(path), load_external_data=False).graph.input[0].name
    return name


class _Reader:
    """Feeds calibration batches, as onnxruntime.quantization asks for them."""

    def __init__(self, name: str, batches: Sequence[NDArray[Any]]) -> None:
        self.rows = self._rows(name, batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch, None at the end."""
        return next(self.rows, None)

    @staticmethod
    def _rows(name: str, batches: Sequence[NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
        with progress("calibrate", len(batches)) as advance:
            for batch in batches:
                yield {name: np.ascontiguousarray(batch)}
                advance(1)
