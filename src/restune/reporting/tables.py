"""Format results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from restune.core.errors import shorten
from restune.core.language import Text as Language
from restune.core.language import current_language, translated
from restune.reporting.layout import plain_table as _table
from restune.reporting.layout import prose, show
from restune.reporting.structure.words import field_text

if TYPE_CHECKING:
    from restune.core.rowstore import StoreInfo
    from restune.evaluation.evaluation import Evaluation
    from restune.evaluation.tasks import AnyEvaluation
    from restune.inference.model import Prediction
    from restune.networks.structure import ModelInfo
    from restune.training.bench import Bench
    from restune.weights.bundled import BundledWeights

__all__ = [
    "bench_table",
    "bundled_table",
    "evaluation_tables",
    "headline",
    "model_tables",
    "predictions_table",
    "show",
    "stores_table",
    "zoo_table",
]

_WIDEST_CONFUSION = 20
_NUMERIC = Language("precision", "数值精度")
"""The word for numeric precision; a class's precision has another word in Chinese."""


def evaluation_tables(evaluation: AnyEvaluation) -> list[RenderableType]:
    """Return the conclusions, scores, per-class scores, confusions, the matrix if it fits, and the skipped items.

    Of other tasks the main score's line, and the scores of each label or number.
    """
    from restune.evaluation.evaluation import Evaluation
    from restune.reporting import measures
    from restune.reporting.task_tables import task_tables

    if not isinstance(evaluation, Evaluation):  # of another task
        return [*task_tables(evaluation), *_skipped_lines(evaluation.skipped)]
    parts: list[RenderableType] = [
        Text(translated(headline(evaluation))),
        measures.conclusions(evaluation),
        measures.score_table(evaluation),
        *measures.class_tables(evaluation),
    ]
    confused = measures.confused_table(evaluation)
    if confused is not None:
        parts.append(confused)
    if len(evaluation.classes) <= _WIDEST_CONFUSION:
        parts.append(_confusion_table(evaluation))
    return [*parts, *_skipped_lines(evaluation.skipped)]


def _skipped_lines(skipped: Sequence[tuple[str, str]]) -> list[RenderableType]:
    """Return the items that could not be read, with the reason."""
    if not skipped:
        return []
    count = len(skipped)
    first = Text(translated(f"skipped {count} unreadable {'item' if count == 1 else 'items'}:"))
    return [first, *(Text(f"  {item}: {translated(reason)}") for item, reason in skipped)]


def headline(evaluation: Evaluation) -> str:
    """Format ``accuracy 81.00% (95% interval 80.20% to 81.70%, n = 10000)``, and clip accuracy for videos."""
    what = "accuracy" if evaluation.clips is None else "video accuracy"
    text = f"{what} {share(evaluation.accuracy, evaluation.interval, evaluation.n)}"
    if evaluation.clips is not None:
        text += f"\nclip accuracy  {evaluation.clips.accuracy:.2%} ({evaluation.clips.n} clips, each scored alone)"
    return text


def stores_table(stores: Iterable[StoreInfo]) -> Table:
    """Return one row per table of cached activations, least recently used first."""
    table = _table("activations", "view", ">rows", ">MiB", ">unused", "folder")
    for store in stores:
        about = store.about
        cut = "embeddings" if about.get("cut") == "all" else f"after stage {about.get('cut')}"
        view = about.get("view")
        unused = f"{store.used / 86400:.1f} d" if store.used > 86400 else f"{store.used / 60:.0f} min"
        size = f"{about.get('preprocess', {}).get('crop', '?')} pixels"
        how = translated("plain" if not view else f"augmented {view.get('number')}")
        row = (translated(f"{cut}, {size}"), how, f"{store.rows:,}", f"{store.size / 2**20:.1f}")
        table.add_row(*row, translated(unused), Text(store.folder.name))
    return table


def bench_table(bench: Bench) -> Table:
    """Return one row per network: items per second, and achieved operations as a share of the matrix-product peak."""
    compiled = any(row.compiled is not None for row in bench.rows)
    table = _table(
        "network", ">size", ">batch", _NUMERIC.of(current_language()),
        ">train items/s", ">of peak", ">predict items/s", ">of peak",
        *([">train compiled"] if compiled else []),
    )  # fmt: skip
    for row in bench.rows:
        cells = [f"{row.train:.1f}", f"{row.train_share:.0%}", f"{row.predict:.1f}", f"{row.predict_share:.0%}"]
        if compiled:
            cells.append("-" if row.compiled is None else f"{row.compiled:.1f} ({row.compiled / row.train:.2f}x)")
        table.add_row(row.name, str(row.size), str(row.batch), row.precision, *cells)
    return table


def predictions_table(predictions: Iterable[Prediction]) -> Table:
    """Return one row per input: label, probability, the next two labels or the prediction set; and what is novel.

    Where the model abstains, the most probable label stands among the runners-up.
    """
    predictions = list(predictions)
    if any(prediction.labels is not None or prediction.values is not None for prediction in predictions):
        from restune.reporting.task_tables import task_predictions_table

        return task_predictions_table(predictions)
    has_novel = any(prediction.novel for prediction in predictions)
    table = _table("input", "label", ">probability", "runner-up", *(["remark"] * has_novel))
    for prediction in predictions:
        if prediction.error is not None or prediction.probability is None:
            table.add_row(
                Text(prediction.input),
                Text(translated("unreadable"), "red"),
                "",
                prose(translated(prediction.error or "")),
            )
            continue
        first = 0 if prediction.abstained else 1
        others = ", ".join(f"{label} {probability:.1%}" for label, probability in prediction.top[first : first + 2])
        if prediction.prediction_set is not None:
            others = f"{{{', '.join(prediction.prediction_set)}}}"
        label = (
            Text(translated("abstained"), "yellow") if prediction.abstained else Text(prediction.label or "", "bold")
        )
        remark = [Text(translated("unlike the training data") if prediction.novel else "", "yellow")] * has_novel
        table.add_row(Text(prediction.input), label, f"{prediction.probability:.1%}", Text(others), *remark)
    return table


def zoo_table(models: Iterable[ModelInfo]) -> Table:
    """Return one row per network."""
    headers = (
        "name",
        "kind",
        ">input",
        ">parameters",
        ">GFLOPs",
        ">activations",
        ">field",
        ">accuracy",
        "published weights",
    )
    table = _table(*headers)
    for model in models:
        described, score = model.description, model.published
        table.add_row(
            model.name,
            model.kind,
            "x".join(map(str, described.input_shape)),
            f"{described.parameters:,}",
            f"{described.flops / 1e9:.2f}",
            f"{described.activations / 1e6:.2f} M",
            field_text(described.receptive_field).replace("×", "x"),
            f"{score.accuracy:.1%} {score.data}" if score else "-",
            prose(", ".join(model.weights) or "-"),
        )
    return table


def bundled_table(weights: Iterable[BundledWeights]) -> Table:
    """Return one row per file of weights inside the package."""
    table = _table("bundled weights", ">MB", ">accuracy", "trained on", "licence")
    for one in weights:
        test = one.test
        accuracy = f"{test['accuracy']:.2%} (n = {test['n']:,})" if test else "-"
        table.add_row(one.reference, f"{one.size / 1e6:.2f}", accuracy, prose(translated(one.data)), one.licence or "-")
    return table


def model_tables(model: ModelInfo) -> list[RenderableType]:
    """Return a network's parts, totals, source and weights."""
    described = model.description
    table = _table("part", "what it does", "output", ">parameters", ">MFLOPs", ">activations", ">field")
    for part in described.parts:
        shape = "x".join(map(str, part.shape))
        field = field_text(part.receptive_field).replace("×", "x") if part.receptive_field else translated("all")
        counts = (f"{part.parameters:,}", f"{part.flops / 1e6:,.1f}", f"{part.activations:,}")
        table.add_row(part.name, prose(translated(part.role)), shape, *counts, field)
    table.add_section()
    counts = (f"{described.parameters:,}", f"{described.flops / 1e6:,.1f}", f"{described.activations:,}")
    table.add_row(translated("total"), "", "", *counts, "")
    input_shape = "x".join(map(str, described.input_shape))
    score = model.published
    accuracy = f"\naccuracy: {score.accuracy:.2%} on {score.data} ({score.source})" if score else ""
    about = (
        f"{model.title}, input {input_shape}\nFLOPs: multiply-adds of one forward pass, each counted once\n"
        f"activations: output values of convolutions and linear layers\n"
        f"field: receptive field, the extent of the input that one output position depends on\n"
        f"source: {model.source}{accuracy}\nweights: {', '.join(model.weights) or 'none published under this name'}"
    )
    if model.header is None:
        return [table, Text(translated(about))]
    about = about.rpartition("\n")[0]
    return [table, Text(translated(about)), _header_table(model.header)]


def _header_table(header: Mapping[str, Any]) -> Table:
    """Return what a model file's header says: scores, data, recipe, licence, input and classes."""
    table = _table("header", "")
    data, classes = header["data"] or {}, header["classes"]
    for score in header["scores"]:
        if score.get("accuracy") is not None:
            interval = score.get("interval")
            shown = share(score["accuracy"], tuple(interval), score["n"]) if interval else f"{score['accuracy']:.2%}"
            where = score.get("data") or translated("data with fingerprint") + f" {score.get('fingerprint', '?')}"
            table.add_row(translated(f"{score['side']} accuracy"), prose(f"{translated(shown)}; {where}"))
    rows = {
        "trained on": data and f"{data['name']} ({data['items']['train']:,}), fingerprint {data['fingerprint']}",
        "recipe": header["recipe"],
        "seed": header["seed"],
        "epochs": header["epochs"],
        "licence": header["licence"],
        "source": header["source"],
        "input": header["preprocess"],
        "classes": f"{len(classes)}: {shorten(classes, 12)}",
        "file": header["bytes"] and f"{header['bytes'] / 1e6:.2f} MB",
    }
    for name, value in rows.items():
        if value not in (None, "", {}):
            table.add_row(translated(name), prose(translated(str(value))))
    return table


def _confusion_table(evaluation: Evaluation) -> Table:
    table = _table("true \\ predicted", names=evaluation.classes)
    for position, name in enumerate(evaluation.classes):
        row = evaluation.confusion[position].tolist()
        cells = [Text(str(count), "bold" if column == position else "") for column, count in enumerate(row)]
        table.add_row(Text(name), *cells)
    return table


def share(value: float, interval: tuple[float, float], n: int) -> str:
    """Format a share with its interval and the number of items."""
    return f"{value:.2%} (95% interval {interval[0]:.2%} to {interval[1]:.2%}, n = {n})"
