"""restune: train, fine-tune, evaluate and use residual networks for images, series, texts and videos.

Names are loaded on first use, so that importing the package is fast and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from restune.core.version import __version__

if TYPE_CHECKING:
    from restune.core.errors import UserError
    from restune.data.audit.findings import CheckReport
    from restune.data.dataset import DataOptions, Dataset
    from restune.data.preprocess import ImagePreprocess
    from restune.evaluation.evaluation import Evaluation
    from restune.inference.model import Model, Prediction
    from restune.networks.registry import register_block
    from restune.networks.resnet import ResNet
    from restune.networks.spec import ResNetSpec, StageSpec
    from restune.networks.zoo import list_models
    from restune.runs.listing import RunInfo
    from restune.runs.run import Run
    from restune.runs.seeds import SeedRuns
    from restune.training.bench import Bench
    from restune.training.metrics_log import EpochRecord, StepRecord
    from restune.verbs.average import average
    from restune.verbs.bench import bench
    from restune.verbs.check import check
    from restune.verbs.create import create_model
    from restune.verbs.embed import Embeddings, embed
    from restune.verbs.evaluate import evaluate
    from restune.verbs.export import export
    from restune.verbs.finetune import finetune
    from restune.verbs.label import Proposals, label
    from restune.verbs.lesson import lesson
    from restune.verbs.load import load
    from restune.verbs.models import models
    from restune.verbs.predict import predict
    from restune.verbs.quickstart import quickstart
    from restune.verbs.report import report
    from restune.verbs.runs import list_runs
    from restune.verbs.search import Study, search
    from restune.verbs.train import train

_HOME = {
    "UserError": "restune.core.errors",
    "CheckReport": "restune.data.audit.findings",
    "DataOptions": "restune.data.dataset",
    "Dataset": "restune.data.dataset",
    "ImagePreprocess": "restune.data.preprocess",
    "Evaluation": "restune.evaluation.evaluation",
    "Model": "restune.inference.model",
    "Prediction": "restune.inference.model",
    "register_block": "restune.networks.registry",
    "ResNet": "restune.networks.resnet",
    "ResNetSpec": "restune.networks.spec",
    "StageSpec": "restune.networks.spec",
    "list_models": "restune.networks.zoo",
    "Bench": "restune.training.bench",
    "EpochRecord": "restune.training.metrics_log",
    "StepRecord": "restune.training.metrics_log",
    "average": "restune.verbs.average",
    "bench": "restune.verbs.bench",
    "check": "restune.verbs.check",
    "create_model": "restune.verbs.create",
    "Embeddings": "restune.verbs.embed",
    "embed": "restune.verbs.embed",
    "evaluate": "restune.verbs.evaluate",
    "load": "restune.verbs.load",
    "models": "restune.verbs.models",
    "predict": "restune.verbs.predict",
    "quickstart": "restune.verbs.quickstart",
    "report": "restune.verbs.report",
    "list_runs": "restune.verbs.runs",
    "Run": "restune.runs.run",
    "RunInfo": "restune.runs.listing",
    "SeedRuns": "restune.runs.seeds",
    "export": "restune.verbs.export",
    "finetune": "restune.verbs.finetune",
    "Proposals": "restune.verbs.label",
    "label": "restune.verbs.label",
    "lesson": "restune.verbs.lesson",
    "train": "restune.verbs.train",
    "Study": "restune.verbs.search",
    "search": "restune.verbs.search",
}

__all__ = [
    "Bench",
    "CheckReport",
    "DataOptions",
    "Dataset",
    "Embeddings",
    "EpochRecord",
    "Evaluation",
    "ImagePreprocess",
    "Model",
    "Prediction",
    "Proposals",
    "ResNet",
    "ResNetSpec",
    "Run",
    "RunInfo",
    "SeedRuns",
    "StageSpec",
    "StepRecord",
    "Study",
    "UserError",
    "__version__",
    "average",
    "bench",
    "check",
    "create_model",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "label",
    "lesson",
    "list_models",
    "list_runs",
    "load",
    "models",
    "predict",
    "quickstart",
    "register_block",
    "report",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'restune' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
