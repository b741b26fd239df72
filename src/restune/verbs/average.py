"""average: one model from the averaged weights of several runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from restune.core.errors import UserError
from restune.core.files import user_path, write_text
from restune.data.dataset import Dataset
from restune.data.items import targets_of
from restune.evaluation.calibration import fit_calibration
from restune.evaluation.compare import Difference, compare
from restune.evaluation.evaluation import Evaluation, load_evaluation
from restune.evaluation.novelty import fit_novelty, reference_positions
from restune.evaluation.score import score_any
from restune.evaluation.tasks import AnyEvaluation
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.runs.folder import removed_unless_begun, run_folder
from restune.runs.reopen import reopened_splits
from restune.runs.results import summary_of, with_thresholds
from restune.runs.split_record import SplitRecord, read_split_record, write_split_record
from restune.tuning.average import (
    METHODS,
    Ingredient,
    Soup,
    cook,
    load_ingredients,
    note_other_starts,
    reject_same_weights,
)
from restune.weights.bundle import BundleInfo, write_bundle

_NOVELTY_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """A model with averaged weights.

    Args:
        out: its folder.
        singles: the runs' validation scores by folder, best first.
        kept: the runs whose weights are in the average; the others made the validation score worse.
        val, test: its scores on the runs' validation and test items; test is None without any.
        best_test: the best run's own test scores; None where it saved none.
    """

    out: Path
    singles: Mapping[Path, AnyEvaluation] = field(repr=False)
    kept: tuple[Path, ...]
    val: AnyEvaluation = field(repr=False)
    test: AnyEvaluation | None = field(repr=False)
    best_test: AnyEvaluation | None = field(default=None, repr=False)

    @property
    def difference(self) -> Difference | None:
        """Accuracy of the average less that of the best run, on the same validation items; None for other tasks."""
        return _difference(self.val, next(iter(self.singles.values())))

    @property
    def test_difference(self) -> Difference | None:
        """The same on test items, which chose neither; None without any."""
        return _difference(self.test, self.best_test)

    @property
    def model(self) -> Model:
        """The averaged model, loaded."""
        return load_model(self.out)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune average --json`` prints, and average.json holds."""
        difference, on_test = self.difference, self.test_difference
        return {
            "out": str(self.out),
            "runs": [
                {"run": str(run), "kept": run in self.kept, "val": summary_of(val)} for run, val in self.singles.items()
            ],
            "val": summary_of(self.val),
            "test": None if self.test is None else summary_of(self.test),
            "difference": None if difference is None else difference.to_dict(),
            "test_difference": None if on_test is None else on_test.to_dict(),
        }


def average(
    runs: Sequence[str | Path],
    *,
    method: str = "greedy",
    out: str | Path | None = None,
    device: str = "auto",
) -> Averaged:
    """Average the weights of runs of one network, which costs no more at inference than one of them.

    Args:
        runs: folders of at least two finished runs that have the same validation items. Fine-tuning from the same
            weights with different settings makes good ingredients; runs from scratch do not.
        method: ``greedy``: beginning with the best run, each is added that does not make the validation score worse
            (Wortsman et al. 2022, arXiv:2203.05482); ``uniform``: all are averaged.
        out: folder for the model; by default a new one, ``runs/average-NNN``.

    Batch-norm statistics of the average are estimated on training items; the model is calibrated anew on validation
    items and scored once on the runs' test items. Raises UserError for other structures, classes or splits.

    >>> runs = [
    ...     restune.train(photos, model="resnet8", image_size=16, epochs=1, lr=lr, out=folder / f"lr-{lr}").out
    ...     for lr in (0.1, 0.05)
    ... ]
    >>> made = restune.average(runs, method="uniform", out=folder / "averaged")
    >>> len(made.kept), made.model.classes
    (2, ('blue', 'red'))
    """
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}", where="--method", fix=f"use {' or '.join(METHODS)}")
    folders = [user_path(run) for run in runs]
    if len(folders) < 2:
        raise UserError("an average needs at least two runs", where="RUN RUN...", fix="name their folders")
    record = _shared_record(folders)
    splits = reopened_splits(folders[0])
    if splits.val is None:
        raise UserError(
            "these runs have no validation items, which choose and calibrate an average", where=str(folders[0]),
            fix="train them with --val",
        )  # fmt: skip
    place = run_folder("average", out, resume=False)
    with removed_unless_begun(place):
        ingredients = load_ingredients(folders, splits.val, device)
        reject_same_weights(ingredients)
        note_other_starts([one.model.info for one in ingredients])
        soup = cook(ingredients, method, splits.train, splits.val)
        write_split_record(place.path, record)
        model = _saved(soup, splits.train, place.path)
    test = None if splits.test is None else score_any(model, splits.test, on_corrupt="skip")
    made = Averaged(
        out=place.path,
        singles={one.run: one.val for one in ingredients},
        kept=tuple(one.run for one in soup.kept),
        val=score_any(model, splits.val, on_corrupt="skip"),
        test=test,
        best_test=_saved_test(ingredients[0].run),
    )
    (place.path / "evaluation").mkdir(exist_ok=True)
    made.val.save(place.path / "evaluation" / "val.npz")
    if test is not None:
        test.save(place.path / "evaluation" / "test.npz")
    write_text(place.path / "average.json", json.dumps(made.to_dict(), indent=1) + "\n")
    return made


def _difference(this: AnyEvaluation | None, other: AnyEvaluation | None) -> Difference | None:
    """Compare the accuracies of two evaluations of the same items; None for other tasks, or without one of them."""
    is_paired = isinstance(this, Evaluation) and isinstance(other, Evaluation) and set(this.ids) == set(other.ids)
    return compare(this, other).accuracy if is_paired else None  # type: ignore[arg-type]


def _saved_test(run: Path) -> AnyEvaluation | None:
    """Return the test scores that a run saved; None where it has none."""
    path = run / "evaluation" / "test.npz"
    found: AnyEvaluation | None = load_evaluation(path) if path.exists() else None
    return found


def _shared_record(folders: Sequence[Path]) -> SplitRecord:
    """Return the record of the runs' splits. Raises UserError if their training or validation items differ."""
    first: SplitRecord | None = None
    for folder in folders:
        record = read_split_record(folder) if (folder / "model.safetensors").exists() else None
        if record is None:
            raise UserError(
                "this is not the folder of a finished run", where=str(folder), fix="`restune runs` lists them"
            )
        first = first or record
        if any(_items(record, split) != _items(first, split) for split in ("train", "val")):
            raise UserError(
                f"this run has other training and validation items than {folders[0]}: an average would be chosen on "
                "items that one of its runs was trained on",
                where=str(folder),
                fix="train all on the same split: the same --seed, or --val or --split-column",
            )
    assert first is not None
    return first


def _items(record: SplitRecord, split: str) -> list[str]:
    return sorted(record.splits[split].ids) if split in record.splits else []


def _saved(soup: Soup, train: Dataset, folder: Path) -> Model:
    """Write the averaged model, calibrated and with what it knows of its training items; return it loaded."""
    first: Ingredient = soup.kept[0]
    info = replace(
        first.model.info,
        calibration=None,
        novelty=None,
        scores=(),
        training={
            "verb": "average",
            "runs": [str(one.run) for one in soup.kept],
            "weights": first.model.info.training.get("weights"),
            "recipe": first.model.info.training.get("recipe"),
        },
    )
    if isinstance(soup.val, Evaluation):
        info = replace(info, calibration=fit_calibration(soup.val.logits, soup.val.targets, soup.val.predicted))
        info = _with_novelty(info, soup, train, had_one=first.model.novelty is not None)
    info, scores = with_thresholds(info, {"val": soup.val})
    info = replace(info, scores=({"side": "val", **summary_of(scores["val"])},))
    path = folder / "model.safetensors"
    write_bundle(path, soup.model.module.state_dict(), info)
    return load_model(path, device=str(soup.model.device))


def _with_novelty(info: BundleInfo, soup: Soup, train: Dataset, *, had_one: bool) -> BundleInfo:
    """Return the header with the averaged network's embeddings of some training items, if the first run had any."""
    val = soup.val
    if not had_one or not isinstance(val, Evaluation) or val.embeddings is None:
        return info
    chosen = reference_positions(targets_of(train.items), val.embeddings.shape[1], _NOVELTY_SEED)
    known = score_any(soup.model, train.take(chosen), on_corrupt="skip")
    if not isinstance(known, Evaluation) or known.embeddings is None:
        return info
    return replace(info, novelty=fit_novelty(known.embeddings, len(train.classes), np.asarray(val.embeddings)))
