"""label: propose the next items to label, say what more labels would bring, and write a page to label them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from restune.core.console import note, warn
from restune.core.errors import UserError
from restune.core.files import cannot_write, user_path, write_bytes, write_text
from restune.data.dataset import DataOptions
from restune.data.kinds import kind_of
from restune.evaluation.learning_curve import LearningCurve
from restune.inference.model import Model
from restune.reporting.label_page import label_page, text_at
from restune.runs.item_features import item_features
from restune.runs.label_pool import DECISIONS, TEXTS, LabelPool, open_pool
from restune.runs.labelling import Proposal, choose_items, facts, warn_of_unreadable
from restune.runs.record import RUN_RECORD

__all__ = ["Proposals", "label"]

_MOST_NEXT = 2_000


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """The items to label next, and what labels would bring.

    Args:
        source: the data.
        items: number of its items, with labelled ones that only a table or a run has.
        labelled: number of labels at hand.
        classes: names of the classes.
        proposed: the items to label, the most useful first.
        curve: accuracy by number of labels; None where it was not measured.
        judge: whose suggestions these are, a head ``fitted`` to the labels or the model's ``own``; empty without one.
        features: what tells items apart.
        out: folder of label.html, proposed.csv and label.json.
        commands: to run with the table that the page saves.

    >>> proposals = restune.label(photos, classes=["blue"], next=2, out=folder / "typical")
    >>> len(proposals.proposed), proposals.classes, proposals.curve
    (2, ('blue',), None)
    """

    source: str
    items: int
    labelled: int
    classes: tuple[str, ...]
    proposed: tuple[Proposal, ...] = field(repr=False)
    curve: LearningCurve | None
    judge: str
    features: str
    out: Path
    commands: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of label.json."""
        curve = None if self.curve is None else asdict(self.curve)
        return {
            "schema_version": 1, "source": self.source, "items": self.items, "labelled": self.labelled,
            "classes": list(self.classes), "proposed": [facts(one) for one in self.proposed], "curve": curve,
            "judge": self.judge or None, "features": self.features, "out": str(self.out),
            "commands": list(self.commands),
        }  # fmt: skip


def label(
    data: Any,
    *,
    model: str | Path | Model | None = None,
    labels: str | Path | None = None,
    classes: Sequence[str] = (),
    next: int = 50,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    data_options: DataOptions | None = None,
) -> Proposals:
    """Propose the next items to label, and write a page to label them by keyboard.

    Proposed are items that a head is unsure of and that differ from one another; without any label, typical ones of
    each cluster of features. The head is fitted to the features of the labelled items by logistic regression. The page
    saves all labels, old and new, as the table that the other verbs read.

    Args:
        data, data_options: a folder whose files have no label, or some of them, in class folders; a table with or
            without labels. See `DataOptions`.
        model: whose features tell items apart: a run, whose training labels are then known, too; a model file, or
            published weights. By default published weights in the cache, for images else those bundled with restune,
            else features that need no training.
        labels: a table of paths (texts) and labels, such as the page saves.
        classes: names of the classes, where no label has them yet.
        next: number of items to propose.
        out: folder to write to; by default a new ``runs/label-001``.
        seed: of the choice.
        device: where the model computes.

    Raises UserError for data without an item to label.

    >>> labels = folder / "labels.csv"
    >>> _ = labels.write_text("path,label\\nred/0.png,red\\nblue/0.png,blue\\n")
    >>> proposals = restune.label(photos, model=run_folder, labels=labels, next=5, out=folder / "label")
    >>> len(proposals.proposed), proposals.labelled, (proposals.out / "label.html").is_file()
    (5, 2, True)
    """
    if not 1 <= next <= _MOST_NEXT:
        raise UserError(
            f"{next} items cannot be proposed at once", where="--next", fix=f"take 1 to {_MOST_NEXT:,} of them"
        )
    folder = _folder(out)
    pool = open_pool(data, data_options or DataOptions(), labels=labels, classes=classes, run=_run_of(model))
    known = int((pool.targets >= 0).sum())
    note(_about(pool, known))
    features = item_features(pool.dataset, model, device, seed, or_bundled=True)
    warn_of_unreadable(features, len(pool.dataset))
    chosen = choose_items(pool, features, next, [next, 4 * next], seed)
    commands = _commands(pool, model, data, classes)
    made = Proposals(
        source=pool.dataset.source,
        items=len(pool.dataset),
        labelled=known,
        classes=pool.dataset.classes,
        proposed=chosen.proposals,
        curve=chosen.curve,
        judge=chosen.judge,
        features=chosen.features,
        out=folder,
        commands=commands,
    )
    _write(made, pool)
    return made


def _folder(out: str | Path | None) -> Path:
    """Return the folder to write to."""
    number = 1
    while out is None and (Path("runs") / f"label-{number:03d}").exists():
        number += 1
    folder = Path("runs") / f"label-{number:03d}" if out is None else user_path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError("this is a file, not a folder", where=f"--out {folder}", fix="name a folder")
    return folder


def _run_of(model: str | Path | Model | None) -> Path | None:
    """Return the folder of the run that a model is from; None for other models."""
    if model is None:
        return None
    path = user_path(model.source if isinstance(model, Model) else model)
    folder = path if path.is_dir() else path.parent
    return folder if path.exists() and (folder / RUN_RECORD).is_file() and (folder / "split.csv").is_file() else None


def _about(pool: LabelPool, known: int) -> str:
    items, noun = len(pool.dataset), kind_of(pool.dataset.kind).noun
    if not known:
        return f"{items:,} {noun} without a label: the first ones are chosen by features alone"
    return f"{known:,} labels from {pool.labels_from}; {items - known:,} {noun} without one"


def _write(made: Proposals, pool: LabelPool) -> None:
    """Write label.html, proposed.csv and label.json."""
    try:
        made.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(made.out, error) from error
    page = label_page(
        pool.dataset,
        made.proposed,
        table=_table(pool, {one.position for one in made.proposed}),
        commands=made.commands,
        curve=made.curve,
        judge=made.judge,
    )
    write_bytes(made.out / "label.html", page.encode("utf-8", "backslashreplace"))
    write_text(made.out / "proposed.csv", _csv(made.proposed))
    write_text(made.out / "label.json", json.dumps(made.to_dict(), ensure_ascii=False, indent=1) + "\n")


def _csv(proposals: Sequence[Proposal]) -> str:
    import csv
    import io

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["item", "suggestion", "probability", "margin"])
    for one in proposals:
        share = ["" if value is None else f"{value:.4f}" for value in (one.probability, one.margin)]
        table.writerow([one.item, one.suggestion, *share])
    return text.getvalue()


def _table(pool: LabelPool, proposed: set[int]) -> dict[str, Any]:
    """Return what the page saves beside the new labels."""
    is_decided = pool.form == DECISIONS
    known: list[list[str]] = []
    rest: list[str] = []
    lost = 0
    for position, item in enumerate(pool.dataset.items):
        if item.target < 0:
            rest += [item.id] if is_decided and position not in proposed else []
        elif not is_decided or item.id in pool.decided:
            first = _first_field(pool, position)
            known += [] if first is None else [[first, pool.dataset.classes[item.target]]]
            lost += first is None
    if lost:
        warn(f"{lost} labels are not saved again: their items cannot be read, or their names are not UTF-8")
    name = "decisions.csv" if is_decided else "labels.csv"
    return {"form": pool.form, "name": name, "known": known, "rest": rest, "open": pool.is_open}


def _first_field(pool: LabelPool, position: int) -> str | None:
    """Return what a labelled item's row begins with: its path, text or id; None if a table cannot hold it."""
    name = pool.dataset.items[position].id
    try:
        name.encode()
        return text_at(pool.dataset, position) if pool.form == TEXTS else name
    except (OSError, ValueError, MemoryError):
        return None


def _commands(pool: LabelPool, model: str | Path | Model | None, data: Any, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the commands to run with the saved table: to train, and to propose the next items."""
    named = isinstance(data, str | Path)
    source = str(data) if named else pool.dataset.source
    is_published = kind_of(pool.dataset.kind).pretrained is not None
    weights = None if model is None else str(model.source if isinstance(model, Model) else model)
    train = ["restune", "finetune" if weights or is_published else "train"]
    train += [source, "--decisions", "decisions.csv"] if pool.form == DECISIONS else ["labels.csv"]
    train += ["--root", str(pool.root)] if pool.root is not None else []
    again = ["restune", "label", source, "--labels", "decisions.csv" if pool.form == DECISIONS else "labels.csv"]
    if weights:
        train += ["--weights", weights]
        again += ["--model", weights]
    if classes:
        again += ["--classes", ",".join(classes)]
    return shlex.join(train), shlex.join(again)
