"""What a run leaves behind: the model, measured once on each held-out side, the result and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from restune import __version__
from restune.core.console import quiet
from restune.core.files import write_text
from restune.core.machine import describe_machine
from restune.data.preprocess import Preprocess
from restune.data.splits import Splits
from restune.evaluation.metrics import Evaluation
from restune.networks.resnet import ResNet
from restune.reporting.report import write_report
from restune.training.loop import Fitted
from restune.training.recipe import Recipe
from restune.verbs.evaluate import evaluate
from restune.verbs.load import load
from restune.weights.bundle import BundleInfo, write_bundle
from restune.weights.load import Weights


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run has to do with from its first step to its report.

    Args:
        origin: the weights it started from; None from scratch.
        started: `time.perf_counter()` when the command began.
    """

    verb: str
    folder: Path
    recipe: Recipe
    splits: Splits
    preprocess: Preprocess
    network: ResNet
    origin: Weights | None
    started: float


def finish(setting: Setting, finished: Fitted, scores: Mapping[str, Evaluation] | None = None) -> dict[str, Any]:
    """Write the model, measure it once on each held-out side unless that is done, and write result and report."""
    recipe, splits, origin = setting.recipe, setting.splits, setting.origin
    path = setting.folder / "model.safetensors"
    training = {"verb": setting.verb, "recipe": recipe.model_dump(mode="json"), "epochs": finished.epochs}
    if origin is not None:
        training["weights"] = origin.source
    info = BundleInfo(
        spec=setting.network.spec,
        name=recipe.model,
        classes=splits.train.classes,
        preprocess=setting.preprocess,
        training=training,
        licence=None if origin is None else origin.licence,
    )
    if scores is None:
        write_bundle(path, finished.state_dict, info)
        scores = _measure(path, recipe, splits)
    info = replace(info, scores=tuple({"side": side, **_score(score)} for side, score in scores.items()))
    write_bundle(path, finished.state_dict, info)
    result = {
        "verb": setting.verb,
        "model": recipe.model or "home-made",
        "kind": setting.preprocess.kind,
        "val": _score(scores["val"]) if "val" in scores else None,
        "test": _score(scores["test"]) if "test" in scores else None,
        "seconds": round(time.perf_counter() - setting.started, 3),
        "training_seconds": round(finished.seconds, 3),
        "epochs": finished.epochs,
        "best_epoch": finished.best_epoch,
        "steps": finished.steps,
        "images": finished.images,
        "loader_share": round(finished.loader_share, 4),
        "classes": list(splits.train.classes),
        "items": splits.counts(),
        "left_out": len(splits.left_out),
        "resumed_from_step": finished.resumed_from_step,
        "machine": describe_machine(),
        "versions": versions(),
        **finished.more,
    }
    write_report(setting.folder, result, recipe.to_yaml(), scores, splits.left_out)
    write_text(setting.folder / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def _measure(path: Path, recipe: Recipe, splits: Splits) -> dict[str, Evaluation]:
    """The written model's scores on the held-out sides, from the files again."""
    with quiet():
        model = load(path, device=recipe.device)
    return {
        side: evaluate(model, items, split="all", allow_missing=True, on_corrupt="skip", batch_size=recipe.batch_size)
        for side, items in (("val", splits.val), ("test", splits.test))
        if items is not None
    }


def _score(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "accuracy": evaluation.accuracy,
        "n": evaluation.n,
        "interval": list(evaluation.interval),
        "top5": evaluation.top5,
        "fingerprint": evaluation.fingerprint,
        **({} if evaluation.clips is None else {"clips": evaluation.clips.to_dict()}),
    }


def versions() -> dict[str, str]:
    """What numbers depend on besides the recipe."""
    return {"restune": __version__, "torch": torch.__version__, "torchvision": version("torchvision")}
