"""The results of a fit: the model's file, its scores on held-out splits, result.json and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from restune.core.console import note, quiet, warn
from restune.core.errors import UserError, shorten
from restune.core.files import write_text
from restune.core.machine import describe_machine
from restune.data.dataset import Dataset
from restune.evaluation.calibration import fit_calibration
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.multilabel import MultiLabelEvaluation
from restune.evaluation.score import score_any
from restune.evaluation.tasks import AnyEvaluation
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.networks.custom import CustomSpec, own_names
from restune.networks.resnet import ResNet
from restune.reporting.report import write_report
from restune.runs.check_summary import check_summary
from restune.runs.gallery import save_gallery
from restune.runs.novelty import learn_novelty, novelty_entry
from restune.runs.prepare import Prepared
from restune.runs.split_record import Change, SplitRecord
from restune.runs.versions import versions
from restune.training.linear_probe import score_embeddings
from restune.training.logistic import Head
from restune.training.loop import Fitted
from restune.training.recipe import Recipe
from restune.weights.bundle import BundleInfo, write_bundle
from restune.weights.calibration import Calibration

Scorer = Callable[[Dataset, str | None], AnyEvaluation]
"""Scores items of a split, or, without one, those of any items that can be read."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run; ``result.json`` is its projection.

    Args:
        verb: ``train`` or ``finetune``.
        model: the zoo's name for the network, the class of a module of one's own, or ``home-made``.
        kind: of the data.
        scores: evaluations of the held-out splits, ``val`` and ``test``.
        seconds: time since the command's start.
        training_seconds: time of training and validation.
        epochs, best_epoch, steps, images: amount of training; `images` counts items of any kind.
        loader_share: CPU time spent making batches over the time of the epochs.
        classes: names in the order of the logits.
        items: number of items in each split.
        left_out: number of items that could not be read, or were left out by --exclude or --decisions.
        changed: items that changed or vanished during the run.
        resumed_from_step: None for a run that was not resumed.
        machine, versions: where the results were measured, and with which libraries.
        more: results of some runs only, such as those of a fitted head.
    """

    verb: str
    model: str
    kind: str
    scores: Mapping[str, AnyEvaluation] = field(repr=False)
    seconds: float
    training_seconds: float
    epochs: int
    best_epoch: int | None
    steps: int
    images: int
    loader_share: float
    classes: tuple[str, ...]
    items: Mapping[str, int]
    left_out: int
    changed: tuple[Change, ...]
    resumed_from_step: int | None
    machine: Mapping[str, object] = field(repr=False)
    versions: Mapping[str, str] = field(repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the object in ``result.json``."""
        return {
            "verb": self.verb,
            "model": self.model,
            "kind": self.kind,
            "val": summary_of(self.scores["val"]) if "val" in self.scores else None,
            "test": summary_of(self.scores["test"]) if "test" in self.scores else None,
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "steps": self.steps,
            "images": self.images,
            "loader_share": self.loader_share,
            "classes": list(self.classes),
            "items": dict(self.items),
            "left_out": self.left_out,
            "changed": [asdict(change) for change in self.changed],
            "resumed_from_step": self.resumed_from_step,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            **self.more,
        }


def save_results(verb: str, prepared: Prepared, recipe: Recipe, fitted: Fitted) -> RunResult:
    """Write the model, score it once on each held-out split, and write evaluations, result and report."""
    splits, folder = prepared.splits, prepared.workspace.folder
    path = folder / "model.safetensors"
    info = _bundle_info(verb, prepared, recipe, fitted)
    state = own_names(fitted.state_dict, info.spec)
    write_bundle(path, state, info)
    score_split = _scorer(path, prepared, recipe, info)
    held_out = {split: items for split, items in (("val", splits.val), ("test", splits.test)) if items is not None}
    scores = {split: score_split(items, split) for split, items in held_out.items()}
    novelty = None
    if info.task == "single-label":
        novelty = learn_novelty(prepared, recipe, of_classes(scores).get("val"), _of_classes(score_split))
        info = replace(info, calibration=_calibration(of_classes(scores)), novelty=novelty)
        scores = {split: one.calibrated(info.calibration) for split, one in of_classes(scores).items()}
    else:
        info, scores = with_thresholds(info, scores)
    summaries = tuple({"side": split, **summary_of(evaluation)} for split, evaluation in scores.items())
    write_bundle(path, state, replace(info, scores=summaries))
    (folder / "evaluation").mkdir(exist_ok=True)
    for split, evaluation in scores.items():
        evaluation.save(folder / "evaluation" / f"{split}.npz")
    if info.task == "single-label":
        save_gallery(folder, of_classes(scores), held_out, _loaded(path, prepared, recipe))
    result = RunResult(
        verb=verb,
        model=recipe.model or _module_name(prepared) or "home-made",
        kind=prepared.preprocess.kind,
        scores=scores,
        seconds=round(time.perf_counter() - prepared.workspace.started, 3),
        training_seconds=round(fitted.seconds, 3),
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
        steps=fitted.steps,
        images=fitted.images,
        loader_share=round(fitted.loader_share, 4),
        classes=splits.train.classes,
        items=splits.counts(),
        left_out=len(splits.left_out),
        changed=_changed(prepared),
        resumed_from_step=fitted.resumed_from_step,
        machine=describe_machine(),
        versions=versions(),
        more={
            **fitted.more,
            **_lengthened(recipe),
            **novelty_entry(novelty, of_classes(scores).get("test")),
            **_task_facts(info),
            **check_summary(folder),
        },
    )
    write_text(folder / "result.json", json.dumps(result.to_dict(), ensure_ascii=False, indent=1) + "\n")
    write_report(folder)
    return result


def of_classes(scores: Mapping[str, AnyEvaluation]) -> dict[str, Evaluation]:
    """Return the evaluations of single-label classification."""
    return {split: one for split, one in scores.items() if isinstance(one, Evaluation)}


def _of_classes(score_split: Scorer) -> Callable[[Dataset], Evaluation]:
    """Return a function that scores items of single-label data, without those that cannot be read."""

    def scored(items: Dataset) -> Evaluation:
        evaluation = score_split(items, None)
        assert isinstance(evaluation, Evaluation)
        return evaluation

    return scored


def with_thresholds(
    info: BundleInfo, scores: Mapping[str, AnyEvaluation]
) -> tuple[BundleInfo, dict[str, AnyEvaluation]]:
    """Choose the thresholds of a multi-label model on its validation items; other models are unchanged."""
    val = scores.get("val")
    if not isinstance(val, MultiLabelEvaluation):
        return info, dict(scores)
    chosen = val.with_best_thresholds()
    others = {
        split: replace(one, thresholds=chosen.thresholds)
        for split, one in scores.items()
        if isinstance(one, MultiLabelEvaluation)
    }
    return replace(info, thresholds=chosen.thresholds), {**others, "val": chosen}


def _task_facts(info: BundleInfo) -> dict[str, Any]:
    """Return the entries of a run that is not single-label."""
    if info.task == "single-label":
        return {}
    thresholds = None if info.thresholds is None else dict(zip(info.classes, info.thresholds, strict=True))
    return {"task": info.task, **({} if thresholds is None else {"thresholds": thresholds})}


def _lengthened(recipe: Recipe) -> dict[str, Any]:
    """Return the entry of a run that was resumed with more epochs or time: the lengths before."""
    lengths = [length.model_dump(exclude_none=True) for length in recipe.lengthened]
    return {"lengthened": lengths} if lengths else {}


def _bundle_info(verb: str, prepared: Prepared, recipe: Recipe, fitted: Fitted) -> BundleInfo:
    weights = prepared.initial.weights
    training = {"verb": verb, "recipe": recipe.model_dump(mode="json"), "epochs": fitted.epochs}
    if weights is not None:
        training["weights"] = weights.source
    return BundleInfo(
        spec=prepared.network.spec,
        name=recipe.model,
        classes=prepared.splits.train.classes,
        preprocess=prepared.preprocess,
        task=prepared.splits.train.task,
        target_scale=prepared.splits.target_scale(),
        training=training,
        licence=None if weights is None else weights.licence,
    )


def _module_name(prepared: Prepared) -> str | None:
    spec = prepared.network.spec
    return spec.custom if isinstance(spec, CustomSpec) else None


def _scorer(path: Path, prepared: Prepared, recipe: Recipe, info: BundleInfo) -> Scorer:
    """Return a function that scores items: a fitted head on cached embeddings, else the written model.

    Its second argument is the items' split, which messages name; without one, items that cannot be read are left out.
    Embeddings are of single views; if evaluation uses several, as for videos, the written model is scored.
    """
    cache = prepared.embeddings
    network = prepared.network
    if cache is not None and isinstance(network, ResNet) and prepared.initial.kind.view_modes[0] == "single":
        fc = network.fc
        head = Head(weight=fc.weight.detach(), bias=fc.bias.detach(), l2=0.0, loss=0.0, iterations=0)
        return lambda items, split: score_embeddings(head, cache, items, str(path), info.outputs)  # noqa: ARG005
    model = _loaded(path, prepared, recipe)
    return lambda items, split: _final_score(model, items, recipe, split)


def _loaded(path: Path, prepared: Prepared, recipe: Recipe) -> Model:
    with quiet():
        return load_model(path, device=recipe.device, module=prepared.initial.module)


def _final_score(model: Model, items: Dataset, recipe: Recipe, split: str | None) -> AnyEvaluation:
    """Score a split. Count, list and warn of items that can no longer be read.

    Raises UserError if none can be read.
    """
    batch_size = recipe.micro_batch or recipe.batch_size
    if split is None:
        return score_any(model, items, on_corrupt="skip", batch_size=batch_size)
    try:
        scored = score_any(model, items, on_corrupt="skip", batch_size=batch_size, retry=True)
    except UserError as error:
        fix = "restore the items and run the same command with --resume: only the scores are missing"
        raise UserError(f"no {split} score: {error.what}", where=error.where, fix=fix) from error
    if scored.skipped:
        names = shorten((f"{name} ({reason})" for name, reason in scored.skipped), 3)
        warn(
            f"{len(scored.skipped)} of {len(items)} {split} items can no longer be read and are not in the {split} "
            f"score: {names}"
        )
    return scored


def _calibration(scores: Mapping[str, Evaluation]) -> Calibration | None:
    """Calibrate the model on its validation items; None, with a note, without any."""
    if "val" not in scores:
        note("probabilities are not calibrated: the run has no validation items (--val)")
        return None
    val = scores["val"]
    return fit_calibration(val.logits, val.targets, val.predicted)


def _changed(prepared: Prepared) -> tuple[Change, ...]:
    """Return the items that changed since the run began, with a warning."""
    changed = tuple(prepared.record.changes(SplitRecord.of(prepared.splits, {})))
    if changed:
        items = "1 item" if len(changed) == 1 else f"{len(changed)} items"
        warn(f"{items} of this run changed while it ran: {shorten(changed, 3)}; all are in result.json")
    return changed


def summary_of(evaluation: AnyEvaluation) -> dict[str, Any]:
    """Return a split's part of the result."""
    if not isinstance(evaluation, Evaluation):
        return evaluation.summary()
    skipped = [{"item": item, "reason": reason} for item, reason in evaluation.skipped]
    return {
        "accuracy": evaluation.accuracy,
        "n": evaluation.n,
        "interval": list(evaluation.interval),
        "balanced_accuracy": evaluation.balanced_accuracy,
        "macro_f1": evaluation.macro_f1,
        "top5": evaluation.top5,
        "nll": float(evaluation.measures.items.nll.mean()),
        "ece": evaluation.measures.reliability.ece,
        "fingerprint": evaluation.fingerprint,
        **({"skipped": skipped} if skipped else {}),
        **({} if evaluation.clips is None else {"clips": evaluation.clips.to_dict()}),
    }
