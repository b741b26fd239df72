"""Ways to fine-tune a network on a folder of photos, each written as in its own documentation.

`run_contender` times one from the call to a saved, loadable model and returns which validation items it classifies
correctly. Used by finetune_vs_peers.py, in one process per run, with imports before the clock starts.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import restune
from restune.core.machine import cpu_count, has_fast_bf16

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Input shared by all contenders.

    Args:
        name: name of the network.
        weights: file with its state dict.
        data: folder with class folders in ``train`` and ``val``.
        size: side of the images, pixels.
        epochs: number of epochs, for contenders that train in epochs.
        batch: items per step.
        freeze: True: train the head only; False: train all layers.
        out: an empty folder.
    """

    name: str
    weights: Path
    data: Path
    size: int
    epochs: int
    batch: int
    freeze: bool
    out: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Seconds from the call to a saved model, seconds of the last epoch, and correctness per validation item."""

    seconds: float
    epoch_seconds: float
    correct: list[bool]


def validation_files(case: Case) -> list[Path]:
    """List the validation files in the order in which all contenders are scored."""
    return sorted(path for path in (case.data / "val").rglob("*") if path.suffix.lower() in SUFFIXES)


def class_names(case: Case) -> list[str]:
    return sorted(path.name for path in (case.data / "train").iterdir() if path.is_dir())


def network_of(case: Case) -> nn.Module:
    """Build the network with its weights and a new head: torchvision's network if it has one, else restune's."""
    classes = len(class_names(case))
    torch.manual_seed(0)
    if hasattr(torchvision.models, case.name):
        network = getattr(torchvision.models, case.name)()
        network.load_state_dict(torch.load(case.weights, weights_only=True))
        network.fc = nn.Linear(network.fc.in_features, classes)
        return network
    return restune.create_model(case.name, weights=str(case.weights), num_classes=classes)


class Photos(Dataset):
    """Files of class folders, transformed by torchvision."""

    def __init__(self, case: Case, split: str) -> None:
        names = class_names(case)
        self.paths = sorted(path for path in (case.data / split).rglob("*") if path.suffix.lower() in SUFFIXES)
        self.targets = [names.index(path.parent.name) for path in self.paths]
        self.transform = v2.Compose(
            [v2.Resize((case.size, case.size)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
             v2.Normalize(MEAN, STD)]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.open(self.paths[index]).convert("RGB")), self.targets[index]


def _loader(case: Case, split: str) -> DataLoader:
    return DataLoader(Photos(case, split), case.batch, shuffle=split == "train", num_workers=cpu_count())


def standard_loop(case: Case) -> Outcome:
    """Train with float32, DataLoader and SGD; timm's network if it has one. Frozen norms keep their statistics."""
    import timm

    started = time.perf_counter()
    network = network_of(case)
    if timm.is_model(case.name):
        theirs = timm.create_model(case.name, num_classes=len(class_names(case)))
        theirs.load_state_dict(network.state_dict())
        network = theirs
    if case.freeze:
        network.requires_grad_(False)
        network.get_submodule("fc").requires_grad_(True)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, case.epochs)
    epoch_seconds = 0.0
    for _ in range(case.epochs):
        began = time.perf_counter()
        network.train(not case.freeze)
        for images, targets in _loader(case, "train"):
            optimizer.zero_grad()
            F.cross_entropy(network(images), targets).backward()
            optimizer.step()
        schedule.step()
        correct = _scored(case, network)
        epoch_seconds = time.perf_counter() - began
    torch.save(network.state_dict(), case.out / "model.pth")
    return Outcome(seconds=time.perf_counter() - started, epoch_seconds=epoch_seconds, correct=correct)


@torch.inference_mode()
def _scored(case: Case, network: nn.Module) -> list[bool]:
    network.eval()
    return [bool(hit) for images, targets in _loader(case, "val") for hit in network(images).argmax(1) == targets]


def by_hand(case: Case) -> Outcome:
    """Compute embeddings once (channels_last, bf16 where fast), then fit scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    started = time.perf_counter()
    network = network_of(case).eval().to(memory_format=torch.channels_last)
    head, network.fc = network.fc, nn.Identity()
    embedded = {}
    for split in ("train", "val"):
        rows, labels = [], []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
            for images, targets in DataLoader(Photos(case, split), case.batch, num_workers=cpu_count()):
                rows.append(network(images.contiguous(memory_format=torch.channels_last)).float())
                labels.append(targets)
        embedded[split] = torch.cat(rows).numpy(), torch.cat(labels).numpy()
    probe = LogisticRegression(max_iter=1000).fit(*embedded["train"])
    correct = (probe.predict(embedded["val"][0]) == embedded["val"][1]).tolist()
    weight, bias = torch.from_numpy(probe.coef_).float(), torch.from_numpy(probe.intercept_).float()
    if len(weight) == 1:  # for two classes scikit-learn fits one row
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    head.load_state_dict({"weight": weight, "bias": bias})
    network.fc = head
    torch.save(network.state_dict(), case.out / "model.pth")
    return Outcome(seconds=time.perf_counter() - started, epoch_seconds=0.0, correct=correct)


def fastai_default(case: Case) -> Outcome:
    """Fine-tune with vision_learner's defaults: frozen layers' batch norms are trained and update their statistics."""
    return _fastai(case, train_bn=True)


def fastai_frozen_norms(case: Case) -> Outcome:
    """Fine-tune with vision_learner and train_bn=False."""
    return _fastai(case, train_bn=False)


def _fastai(case: Case, *, train_bn: bool) -> Outcome:
    from fastai.vision import all as fastai

    ends: list[float] = []

    class Clock(fastai.Callback):
        def after_epoch(self) -> None:
            ends.append(time.perf_counter())

    started = time.perf_counter()
    fastai.set_seed(0)
    data = fastai.ImageDataLoaders.from_folder(
        case.data, train="train", valid="val", item_tfms=fastai.Resize(case.size), bs=case.batch,
        batch_tfms=fastai.Normalize.from_stats(MEAN, STD),
    )  # fmt: skip
    learner = _learner(fastai, data, case, train_bn)
    with learner.no_bar(), learner.no_logging():
        if case.freeze:
            learner.freeze()
        else:
            learner.unfreeze()
        learner.fit_one_cycle(case.epochs, cbs=[Clock()])
    learner.path = case.out
    learner.save("model")
    seconds = time.perf_counter() - started
    test = data.test_dl(validation_files(case), with_labels=True)
    with learner.no_bar(), learner.no_logging():
        scores, targets = learner.get_preds(dl=test)
    return Outcome(
        seconds=seconds,
        epoch_seconds=ends[-1] - ends[-2] if len(ends) > 1 else 0.0,
        correct=(scores.argmax(1) == targets).tolist(),
    )


def _learner(fastai, data, case: Case, train_bn: bool):
    """Call `vision_learner`, or assemble its parts for a network whose children are not a plain sequence."""
    classes = len(class_names(case))
    if hasattr(torchvision.models, case.name):

        def architecture(**_more):
            network = getattr(torchvision.models, case.name)()
            network.load_state_dict(torch.load(case.weights, weights_only=True))
            return network

        return fastai.vision_learner(
            data, architecture, weights=True, normalize=False, cut=-2, splitter=fastai.default_split,
            metrics=fastai.accuracy, train_bn=train_bn,
        )  # fmt: skip

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network_of(case)
            self.network.fc = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            return self.network.forward_stages(images)[f"stage{len(self.network.spec.stages)}"]

    body = Body()
    width = body.network.spec.num_features
    network = nn.Sequential(body, fastai.create_head(width, classes))
    fastai.apply_init(network[1], nn.init.kaiming_normal_)
    return fastai.Learner(data, network, splitter=fastai.default_split, metrics=fastai.accuracy, train_bn=train_bn)


def restune_cold(case: Case) -> Outcome:
    """Run restune.finetune with an empty cache; with --freeze none if all layers are trained."""
    all_layers = {"freeze": "none", "epochs": case.epochs, "batch_size": case.batch}
    return _restune(case, {"freeze": "all"} if case.freeze else all_layers)


def _restune(case: Case, options: dict) -> Outcome:
    started = time.perf_counter()
    run = restune.finetune(
        case.data, weights=str(case.weights), model=case.name, image_size=case.size, out=case.out / "run", **options
    )
    seconds = time.perf_counter() - started
    labels = [prediction.label for prediction in run.model.predict(validation_files(case))]
    correct = [label == path.parent.name for label, path in zip(labels, validation_files(case), strict=True)]
    last = 0.0
    if options["freeze"] == "none":
        last = json.loads((case.out / "run" / "timings.jsonl").read_text().splitlines()[-1])["seconds"]
    return Outcome(seconds=seconds, epoch_seconds=last, correct=correct)


def restune_warm(case: Case) -> Outcome:
    """Run restune.finetune with a cache filled by an earlier, untimed run."""
    return restune_cold(case)


def restune_auto(case: Case) -> Outcome:
    """Fit the head, then unfreeze layers, within 90 seconds: compares with peers that also train batch norms."""
    return _restune(case, {"freeze": "auto", "time": "90s"})


_OURS = ("restune.verbs.train", "restune.reporting.report", "matplotlib.figure", "scipy.optimize",
         "matplotlib.backends.backend_svg", "sklearn.model_selection")  # fmt: skip
CONTENDERS: dict[str, tuple[Callable[[Case], Outcome], tuple[str, ...]]] = {
    "restune": (restune_cold, _OURS),
    "restune, warm cache": (restune_warm, _OURS),
    "restune, auto, 90 s": (restune_auto, _OURS),
    "cached by hand": (by_hand, ("PIL.Image", "sklearn.linear_model")),
    "timm, standard loop": (standard_loop, ("PIL.Image", "timm")),
    "fastai, train_bn=False": (fastai_frozen_norms, ("fastai.vision.all",)),
    "fastai": (fastai_default, ("fastai.vision.all",)),
}  # fmt: skip


def run_contender(name: str, case: Case) -> Outcome:
    """Run one contender on one case, its imports done first."""
    work, modules = CONTENDERS[name]
    for module in modules:
        importlib.import_module(module)
    case.out.mkdir(parents=True, exist_ok=True)
    return work(case)
