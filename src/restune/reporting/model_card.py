"""The model card of a run: README.md in Hugging Face's form, with the scores that its site reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from restune.core.files import write_text
from restune.core.language import current_language
from restune.reporting.confusion import most_confused
from restune.reporting.phrases import phrases
from restune.reporting.run_files import RunFiles
from restune.reporting.score_words import main_interval, metric_value
from restune.reporting.summary import Say, conclusion, confidence_of, cost_rows
from restune.reporting.usage import python_lines

PIPELINES = {"image": "image-classification", "text": "text-classification", "video": "video-classification"}
"""Hugging Face's names of tasks; there is none for the classification of series."""
_MARK = "<!-- restune "
_MOST_CLASSES = 200
_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "F1 (macro)"}
_TYPES = {"accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy", "macro_f1": "f1"}


def model_card(run: RunFiles) -> str:
    """Return the card in the current language: YAML front matter, then the model, its scores, its use."""
    front = yaml.safe_dump(front_matter(run), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{_body(run)}"


def write_card(path: Path, text: str) -> bool:
    """Write the card; return False, without a change, where the file there is not as a card was written.

    The last line has a checksum of the others, which tells a card that somebody edited.
    """
    if path.exists():
        written, _, mark = path.read_text(encoding="utf-8", errors="replace").rpartition(_MARK)
        if mark.strip() != f"{_checksum(written)} -->":
            return False
    write_text(path, f"{text}\n{_MARK}{_checksum(text + chr(10))} -->\n")
    return True


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def front_matter(run: RunFiles) -> dict[str, Any]:
    """Return the fields of Hugging Face's `ModelCardData`; scores as its ``model-index``."""
    info, result = run.info, run.result
    licence = None if info is None or info.licence is None else info.licence.lower()
    fields = {
        "license": licence,
        "library_name": "restune",
        "pipeline_tag": PIPELINES.get(result["kind"]),
        "tags": ["restune", "resnet", result["kind"], result["verb"]],
        "metrics": ["accuracy", "f1"] if run.scores else None,
        "model-index": [{"name": str(result["model"]), "results": _results(run)}] if run.scores else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _results(run: RunFiles) -> list[dict[str, Any]]:
    task = PIPELINES.get(run.result["kind"], "other")
    found = []
    for split, score in run.scores.items():
        metrics = [
            {"type": kind, "name": _NAMES[name], "value": round(float(getattr(score, name)), 6)}
            for name, kind in _TYPES.items()
        ]
        data = {"name": run.data_name, "type": _identifier(run.data_name), "split": split}
        found.append({"task": {"type": task}, "dataset": data, "metrics": metrics})
    return found


def _identifier(name: str) -> str:
    """Return a name as Hugging Face accepts it for a data set.

    >>> _identifier("my photos (2).csv")
    'my-photos-2-.csv'
    """
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-") or "data"


def _body(run: RunFiles) -> str:
    say, language = phrases(current_language()), current_language()
    result = run.result
    parts = [
        f"# {_text(say('card_title', model=result['model'], data=run.data_name))}",
        " ".join(_text(sentence) for sentence in conclusion(run, say)),
        *_scores(run, say),
        *_confused(run, say),
    ]
    sentences = confidence_of(run)
    if sentences:
        parts += [f"## {say('section_confidence')}", " ".join(one.of(language) for one in sentences)]
    if run.held_out is not None:
        parts += [f"## {say('card_limits')}", say("card_limits_about")]
    costs = [[label, value] for label, value in cost_rows(run, say)]
    parts += [
        f"## {say('section_data')}",
        _table([say("split"), say("items")], [[say(f"split_name_{s}"), f"{n:,}"] for s, n in result["items"].items()]),
        f"{say('card_classes')}: {_listed(result['classes'])}",
        f"## {say('section_cost')}",
        _table(["", say("value")], costs),
        f"## {say('section_usage')}",
        f"```python\n{python_lines(result['kind'], 'model.safetensors', run.task)}\n```",
        f"```\nrestune predict model.safetensors {say('use_input', noun=result['kind'].upper())}\n```",
        f"## {say('section_repeat')}",
        f"```\nrestune {result['verb']} {run.data_name} --recipe recipe.yaml\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(_text(name) for name in names[:_MOST_CLASSES])
    return f"{shown}, …" if len(names) > _MOST_CLASSES else shown


def _scores(run: RunFiles, say: Say) -> list[str]:
    rows = []
    for split, score in run.scores.items():
        low, high = score.interval
        interval = say("range", low=f"{100 * low:.2f}", high=f"{100 * high:.2f}")
        name, n = say(f"split_name_{split}"), f"{score.n:,}"
        rows.append([name, say("measure_accuracy"), f"{100 * score.accuracy:.2f}%", interval, n])
        rows.append([name, say("measure_balanced_accuracy"), f"{100 * score.balanced_accuracy:.2f}%", "", n])
        rows.append([name, say("measure_macro_f1"), f"{score.macro_f1:.3f}", "", n])
    for split, other in run.evaluations.items() if run.task != "single-label" else ():
        summary = other.summary()
        metric, ends = summary["metric"], " – ".join(main_interval(summary))
        value = metric_value(metric, summary[metric])
        rows.append([say(f"split_name_{split}"), say(f"metric_{metric}"), value, ends, f"{other.n:,}"])
    headers = [say("split"), say("measure"), say("value"), say("interval_heading"), "n"]
    return [f"## {say('section_scores')}", _table(headers, rows)] if rows else []


def _confused(run: RunFiles, say: Say) -> list[str]:
    if run.held_out is None:
        return []
    pairs = most_confused(run.scores[run.held_out])
    rows = [[pair.true, pair.predicted, say("n_of", n=f"{pair.n:,}", of=f"{pair.of:,}")] for pair in pairs]
    headers = [say("true_class"), say("predicted_class"), say("count_of")]
    return [f"## {say('section_gallery')}", _table(headers, rows)] if rows else []


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _text(text: str) -> str:
    """Escape what Markdown would read as markup; line breaks become spaces."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
