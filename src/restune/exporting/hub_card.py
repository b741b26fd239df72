"""The card of an uploaded model: the run's own, or a short one, with its exports and its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from restune.core.files import is_there
from restune.core.language import current_language
from restune.inference.model import Model
from restune.reporting.model_card import PIPELINES
from restune.reporting.phrases import phrases
from restune.reporting.usage import python_lines

CARD = "README.md"
FOLDER = "exports"
"""Where the exports are in the repository."""
_NON_COMMERCIAL = re.compile(r"(?<![a-z])nc(?![a-z])|non-?commercial", re.IGNORECASE)


def is_non_commercial(licence: str | None) -> bool:
    """Return whether a licence forbids commercial use, by its name.

    >>> is_non_commercial("cc-by-nc-4.0"), is_non_commercial("apache-2.0")
    (True, False)
    """
    return licence is not None and bool(_NON_COMMERCIAL.search(licence))


def hub_card(model: Model, folder: Path, loads: Mapping[str, str]) -> str:
    """Return the card in Hugging Face's form: YAML front matter and Markdown.

    Args:
        folder: of the model's file; the card of a run there is taken, a short one is written otherwise.
        loads: by target, the call that loads the export.
    """
    written = _card_of_run(folder)
    front, body = ({}, _short_body(model)) if written is None else written
    text = yaml.safe_dump({**front, **_front_matter(model, front)}, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n{body.strip()}\n\n{_licence(model.info.licence)}\n\n{_exports(loads)}\n"


def _card_of_run(folder: Path) -> tuple[dict[str, Any], str] | None:
    """Return front matter and body of a run's card; None where there is no run, or no such card."""
    if not is_there(folder / "result.json") or not is_there(folder / CARD):
        return None
    text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    parts = text.split("---\n", 2)
    try:
        front = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError:
        return None
    return (front, re.sub(r"<!-- restune [^>]*-->\s*$", "", parts[2])) if isinstance(front, dict) else None


def _front_matter(model: Model, front: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that every card has; what a run's card says stays."""
    info = model.info
    fields = {
        "license": None if info.licence is None else info.licence.lower(),
        "library_name": "restune",
        "pipeline_tag": PIPELINES.get(info.kind),
        "tags": ["restune", "resnet", info.kind],
    }
    return {name: value for name, value in fields.items() if value is not None and name not in front}


def _short_body(model: Model) -> str:
    say, info = phrases(current_language()), model.info
    return "\n\n".join(
        [
            f"# {info.name or 'restune'}",
            f"{say('card_classes')}: {', '.join(info.classes[:200])}",
            f"## {say('section_usage')}",
            f"```python\n{python_lines(info.kind, 'model.safetensors', info.task)}\n```",
        ]
    )


def _licence(licence: str | None) -> str:
    say = phrases(current_language())
    key = "unknown" if licence is None else "non_commercial" if is_non_commercial(licence) else "known"
    return f"## {say('card_licence')}\n\n{say(f'card_licence_{key}', licence=licence or '')}"


def _exports(loads: Mapping[str, str]) -> str:
    say = phrases(current_language())
    rows = [f"| {target} | `{call}` |" for target, call in loads.items()]
    table = "\n".join([f"| {say('card_target')} | {say('card_loaded_by')} |", "| --- | --- |", *rows])
    return f"## {say('card_exports')}\n\n{say('card_exports_about', folder=FOLDER)}\n\n{table}"
