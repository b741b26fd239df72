"""Write report.html: one offline page with curves, the confusion matrix and every setting."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError
from restune.core.files import write_text
from restune.core.language import current_language, translated
from restune.data.kinds import kind_of
from restune.data.splits import read_left_out
from restune.evaluation.evaluation import Evaluation, load_evaluation
from restune.reporting.pages import render
from restune.reporting.phrases import phrases
from restune.reporting.task_plots import task_plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDEST_CONFUSION = 40
_CHINESE_FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei",
                  "WenQuanYi Micro Hei", "SimHei", "Noto Sans CJK JP")  # fmt: skip


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a finished run, from the files there. Returns its path.

    Reads result.json, recipe.yaml, metrics.jsonl, split.csv and evaluation/. Raises UserError if one is damaged.
    """
    result, records = _result(folder), _records(folder / "metrics.jsonl")
    saved = {split: folder / "evaluation" / f"{split}.npz" for split in ("val", "test")}
    scores = {split: load_evaluation(path) for split, path in saved.items() if path.exists()}
    page = render(
        "run.html",
        language=current_language(),
        translated=translated,
        result=result,
        recipe=_settings(folder / "recipe.yaml"),
        scores=scores,
        curves=_strengths(result["head"]) if "head" in result else _drawn(records, result["kind"]),
        confusions={
            split: _confusion(score)
            for split, score in scores.items()
            if isinstance(score, Evaluation) and len(score.classes) <= _WIDEST_CONFUSION
        },
        task=result.get("task", "single-label"),
        task_plots=task_plots(scores, current_language()),
        left_out=read_left_out(folder / "split.csv"),
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _result(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            "this folder does not contain a finished run", where=str(folder), fix="name the folder of a finished run"
        ) from error
    return content


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _settings(path: Path) -> str:
    """Return the recipe without its first line, a comment."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text.partition("\n")[2] if text.startswith("#") else text


def _drawn(records: list[dict[str, Any]], kind: str) -> str | None:
    """Plot the curves as a data URL; None for a run without epochs."""
    return _as_address(curves(records, kind)) if records else None


def curves(records: list[dict[str, Any]], kind: str) -> Figure:
    """Plot losses, validation accuracy (if measured) and learning rate by epoch, one panel each."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    language, font = _drawable_language()
    say = phrases(language)
    epochs = [record["epoch"] for record in records]
    marker = "." if len(epochs) < 30 else ""
    metric = next((name for name in ("val_accuracy", "val_map", "val_mae") if name in records[0]), "")
    measured = bool(metric)
    figure = Figure(figsize=(12 if measured else 8, 3.4), layout="constrained")
    panels = figure.subplots(1, 3 if measured else 2)
    for name, label in (("train_loss", say("curve_training")), ("val_loss", say("curve_validation"))):
        if name in records[0]:
            panels[0].plot(epochs, [record[name] for record in records], label=label, marker=marker)
    panels[0].set(title=say("loss"))
    panels[0].legend()
    if measured:
        unit = 1 if metric == "val_mae" else 100
        panels[1].plot(epochs, [unit * record[metric] for record in records], marker=marker)
        views = kind_of(kind).validates if metric == "val_accuracy" else None
        shown = translated(views) if views and language == "zh" else views
        panels[1].set(title=say("val_accuracy_of", views=shown) if views else say(metric))
    panels[-1].plot(epochs, [record["lr"] for record in records])
    panels[-1].set(title=say("lr_at_end"))
    for axes in panels:
        axes.set(xlabel=say("epoch"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    _set_font(figure, font)
    return figure


def _strengths(head: Mapping[str, Any]) -> str:
    """Plot the held-out loss by L2 strength, as a data URL."""
    from matplotlib.figure import Figure

    language, font = _drawable_language()
    say = phrases(language)
    figure = Figure(figsize=(5.5, 3.4))
    axes = figure.add_axes((0.14, 0.16, 0.83, 0.74))
    strengths, losses = zip(*head["tried"], strict=True)
    axes.plot(strengths, losses, marker=".")
    axes.axvline(head["l2"], color="grey", linestyle=":")
    how = translated(head["chosen_by"]) if language == "zh" else head["chosen_by"]
    axes.set(xscale="log", title=say("loss_in", how=how), xlabel=say("strength"))
    axes.grid(alpha=0.3)
    _set_font(figure, font)
    return _as_address(figure)


def _drawable_language() -> tuple[str, str | None]:
    """Return the language of plots and its font: English where no font with Chinese characters is installed."""
    if current_language() == "en":
        return "en", None
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    font = next((name for name in _CHINESE_FONTS if name in installed), None)
    return ("en", None) if font is None else ("zh", font)


def _set_font(figure: Figure, font: str | None) -> None:
    """Use a font for all text of a figure; None keeps the default."""
    from matplotlib.text import Text

    if font is not None:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_fontfamily([font, "DejaVu Sans"])


def _confusion(score: Evaluation) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return one row per true class: its name, and for each predicted class the count and its percentage of the row."""
    totals = score.confusion.sum(axis=1).clip(1)
    return [
        (name, [(int(count), round(100 * int(count) / int(total))) for count in row])
        for name, row, total in zip(score.classes, score.confusion, totals, strict=True)
    ]


def _as_address(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
