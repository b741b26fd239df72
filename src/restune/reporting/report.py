"""report.html: one file that opens offline, with curves, the confusion matrix and every setting."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restune.core.files import write_text
from restune.evaluation.metrics import Evaluation

_WIDEST_CONFUSION = 40


def write_report(
    folder: Path,
    result: Mapping[str, Any],
    recipe: str,
    scores: Mapping[str, Evaluation],
    left_out: Mapping[str, str],
) -> Path:
    """Write ``report.html`` into a run's folder from what the run measured. Returns its path."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("restune", "reporting/templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    metrics = folder / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    page = environment.get_template("run.html").render(
        result=result,
        recipe=recipe,
        scores=scores,
        curves=_strengths(result["head"]) if "head" in result else _curves(records) if records else None,
        confusions={
            side: _confusion(score) for side, score in scores.items() if len(score.classes) <= _WIDEST_CONFUSION
        },
        left_out=left_out,
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _curves(records: list[dict[str, Any]]) -> str:
    """Losses, validation accuracy and learning rate over epochs, as a data address."""
    from matplotlib.figure import Figure

    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for name, label in (("train_loss", "training"), ("val_loss", "validation")):
        if name in records[0]:
            loss.plot(epochs, [record[name] for record in records], label=label, marker="." if len(epochs) < 30 else "")
    loss.set(title="loss", xlabel="epoch")
    loss.legend()
    if "val_accuracy" in records[0]:
        accuracy.plot(
            epochs, [100 * record["val_accuracy"] for record in records], marker="." if len(epochs) < 30 else ""
        )
    accuracy.set(title="validation accuracy, %", xlabel="epoch")
    rate.plot(epochs, [record["lr"] for record in records])
    rate.set(title="learning rate at the epoch's end", xlabel="epoch")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
    return _as_address(figure)


def _strengths(head: Mapping[str, Any]) -> str:
    """The loss of items that were not fitted over the L2 strengths tried, as a data address."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.4))
    axes = figure.add_axes((0.14, 0.16, 0.83, 0.74))
    strengths, losses = zip(*head["tried"], strict=True)
    axes.plot(strengths, losses, marker=".")
    axes.axvline(head["l2"], color="grey", linestyle=":")
    axes.set(xscale="log", title=f"loss by {head['chosen_by']}", xlabel="L2 strength of the solved head")
    axes.grid(alpha=0.3)
    return _as_address(figure)


def _confusion(score: Evaluation) -> str:
    """The confusion matrix with shares of each true class as colour and counts as text, as a data address."""
    from matplotlib.figure import Figure

    count = len(score.classes)
    side = min(14.0, max(4.0, 0.55 * count + 1.8))
    figure = Figure(figsize=(side, side * 0.9), layout="constrained")
    axes = figure.subplots()
    shares = score.confusion / score.confusion.sum(axis=1, keepdims=True).clip(1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), score.classes, rotation=90 if count > 6 else 0)
    axes.set_yticks(range(count), score.classes)
    axes.set(xlabel="predicted", ylabel="true")
    if count <= 20:
        for true in range(count):
            for predicted in range(count):
                number = int(score.confusion[true, predicted])
                colour = "white" if shares[true, predicted] > 0.5 else "black"
                axes.text(predicted, true, str(number), ha="center", va="center", color=colour, fontsize=8)
    return _as_address(figure)


def _as_address(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
