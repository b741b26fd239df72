"""What train and finetune share: recipe, data, splits, training, scores, and the run's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from restune import __version__
from restune.core.console import command_started, note, quiet, warn
from restune.core.errors import UserError, shorten
from restune.core.files import write_text
from restune.core.machine import describe_machine
from restune.core.streams import torch_seed
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.dataset import DataOptions, Dataset
from restune.data.preprocess import ImagePreprocess, preprocess_from_dict
from restune.data.sources import open_dataset
from restune.data.splits import Splits, read_splits, split_dataset, write_splits
from restune.data.survey import Survey, survey
from restune.evaluation.metrics import Evaluation
from restune.inference.model import Model
from restune.networks import zoo
from restune.networks.resnet import ResNet
from restune.reporting.report import write_report
from restune.training.decide import decide
from restune.training.loop import Finished, Trainer
from restune.training.recipe import Recipe
from restune.training.validation import Validation
from restune.verbs.evaluate import evaluate
from restune.verbs.load import load, pick_device
from restune.verbs.settings import run_folder, stored_recipe
from restune.weights import hub
from restune.weights.bundle import BundleInfo, write_bundle
from restune.weights.load import Weights, infer_model, load_into, read_weights, reject_other_structure


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        out: its folder.
        result: what result.json says.
    """

    out: Path
    result: dict[str, Any] = field(repr=False)

    @property
    def model(self) -> Model:
        """The best model, loaded."""
        return load(self.out)


def perform(
    verb: str,
    data: str | Path | Dataset,
    recipe: Recipe,
    out: str | Path | None,
    data_options: DataOptions | None,
    *,
    resume: bool = False,
    accept_changes: bool = False,
) -> Run:
    """One run from beginning to end. Raises UserError."""
    started = command_started.get() or time.perf_counter()
    folder, continues = run_folder(verb, out, resume=resume)
    if continues and (folder / "result.json").exists():
        note(f"{folder} is finished; nothing to do")
        return Run(folder, json.loads((folder / "result.json").read_text()))
    dataset, val, test = _open(data, recipe, data_options)
    if continues:
        recipe = stored_recipe(folder, recipe, accept_changes=accept_changes)
    device = pick_device(recipe.device)
    recipe, decisions = decide(recipe, device)
    for decision in decisions:
        note(f"{decision.key}: {decision.value} ({decision.reason})")
    torch.set_num_threads(recipe.threads or 1)
    name, network, preprocess, origin = _network(recipe, dataset, verb)
    recipe = recipe.changed({"model": name, "preprocess": preprocess.to_dict(), "image_size": preprocess.crop})
    augment = _augment(recipe, dataset)
    looked = _look(recipe, dataset, val, test, preprocess, augment)
    splits = _split(folder, recipe, dataset, val, test, looked, continues=continues)
    write_text(folder / "recipe.yaml", _header(verb, data) + recipe.to_yaml())
    deadline = None if recipe.time is None else started + recipe.time
    trainer = _trainer(folder, recipe, _placed(network, recipe, device), splits, preprocess, augment, looked, deadline)
    if continues and trainer.resume(accept_changes=accept_changes):
        note(f"resumed from step {trainer.resumed_from_step}")
    return _finish(verb, folder, recipe, splits, preprocess, network, trainer.run(), origin, started)


def _placed(network: ResNet, recipe: Recipe, device: torch.device) -> ResNet:
    """The network on its device, in the memory format and compiled as the recipe says."""
    network = network.to(device)
    if recipe.memory_format == "channels-last":
        network = network.to(memory_format=torch.channels_last)
    if recipe.compile == "yes":
        network.compile()  # in place: the names of its tensors stay as they are
    return network


def _trainer(
    folder: Path,
    recipe: Recipe,
    network: ResNet,
    splits: Splits,
    preprocess: ImagePreprocess,
    augment: Augment,
    looked: Survey,
    deadline: float | None,
) -> Trainer:
    batches = TrainingBatches(
        items=splits.train.items,
        classes=len(splits.train.classes),
        preprocess=preprocess,
        augment=augment,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        balanced=recipe.sampling == "balanced",
        store_size=recipe.store_size,
        survey=looked,
        workers=recipe.workers or 0,
        limit=2 if recipe.smoke else None,
    )
    device = network.fc.weight.device
    return Trainer(
        network=network,
        batches=batches,
        recipe=recipe,
        validate=None if splits.val is None else Validation(splits.val, preprocess, looked, recipe, device),
        folder=folder,
        class_counts=list(splits.train.class_counts().values()),
        deadline=deadline,
        afterwards=_time_afterwards(splits, looked),
        facts={"data": splits.train.fingerprint(), "versions": _versions(), "threads": recipe.threads},
    )


_CLOSING_SECONDS = 4.0
"""For writing the model, loading the plotting library and drawing the report."""


def _time_afterwards(splits: Splits, looked: Survey) -> Callable[[float], float]:
    """How long the last validation, the final scores (read from disk again) and the report will take."""
    val, test = len(splits.val or ()), len(splits.test or ())

    def seconds(seconds_an_item: float) -> float:
        return val * seconds_an_item + (val + test) * (seconds_an_item + looked.seconds_an_item) + _CLOSING_SECONDS

    return seconds


def _finish(
    verb: str,
    folder: Path,
    recipe: Recipe,
    splits: Splits,
    preprocess: ImagePreprocess,
    network: ResNet,
    finished: Finished,
    origin: Weights | None,
    started: float,
) -> Run:
    """Write the model, measure it once on each held-out side, and write result and report."""
    path = folder / "model.safetensors"
    training = {"verb": verb, "recipe": recipe.model_dump(mode="json"), "epochs": finished.epochs}
    if origin is not None:
        training["weights"] = origin.source
    info = BundleInfo(
        spec=network.spec,
        name=recipe.model,
        classes=splits.train.classes,
        preprocess=preprocess,
        training=training,
        licence=None if origin is None else origin.licence,
    )
    write_bundle(path, finished.state_dict, info)
    with quiet():
        model = load(path, device=recipe.device)
    scores: dict[str, Evaluation] = {}
    for side, items in (("val", splits.val), ("test", splits.test)):
        if items is not None:
            scores[side] = evaluate(
                model, items, split="all", allow_missing=True, on_corrupt="skip", batch_size=recipe.batch_size
            )
    info = replace(info, scores=tuple({"side": side, **_score(score)} for side, score in scores.items()))
    write_bundle(path, finished.state_dict, info)
    result = {
        "verb": verb,
        "model": recipe.model or "home-made",
        "val": _score(scores["val"]) if "val" in scores else None,
        "test": _score(scores["test"]) if "test" in scores else None,
        "seconds": round(time.perf_counter() - started, 3),
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
        "versions": _versions(),
    }
    write_report(folder, result, recipe.to_yaml(), scores, splits.left_out)
    write_text(folder / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return Run(folder, result)


def _open(
    data: str | Path | Dataset, recipe: Recipe, options: DataOptions | None
) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """The data, and the validation and test data where they are other data."""
    dataset = open_dataset(data, options)
    sides: list[Dataset | None] = []
    for name in ("val", "test"):
        value = getattr(recipe, name)
        if not isinstance(value, str):
            sides.append(None)
            continue
        other = open_dataset(value, options)
        try:
            sides.append(_renamed(other.with_classes(dataset.classes), name))
        except UserError as error:
            raise UserError(
                error.what.replace("the model", "the training data").replace("the data has", f"the {name} data has"),
                where=other.source,
                fix=f"training and {name} data need the same class names",
            ) from None
    return dataset, sides[0], sides[1]


def _renamed(dataset: Dataset, side: str) -> Dataset:
    """Items of another source under ids that cannot be taken for the training data's."""
    return replace(dataset, items=tuple(replace(item, id=f"{side}:{item.id}", split=side) for item in dataset.items))


def _network(recipe: Recipe, dataset: Dataset, verb: str) -> tuple[str | None, ResNet, ImagePreprocess, Weights | None]:
    """The network's name, the network with its weights where it has any, and the preprocessing it wants."""
    torch.manual_seed(torch_seed(recipe.seed, "initial weights"))
    origin = read_weights(recipe.weights or _usual_weights(recipe.model)) if verb == "finetune" else None
    name = recipe.model or "resnet18"
    if origin is not None:
        own = origin.model if origin.info else infer_model(origin)
        if recipe.model not in (None, own):
            raise UserError(
                f"these weights are {own or 'a home-made network'}'s, not {recipe.model}'s",
                where=origin.source,
                fix="leave --model out, or name other weights",
            )
        name = own or ""
    spec = origin.spec if origin is not None and origin.spec is not None else zoo.find(name).spec
    channels = (
        recipe.spec.get("in_channels") or _channels(dataset) or (origin and origin.in_channels) or spec.in_channels
    )
    spec = spec.override(**{**recipe.spec, "in_channels": channels, "num_classes": len(dataset.classes)})
    network = ResNet(spec)
    if origin is not None:
        reject_other_structure(origin, spec)
        note(f"{name} from {origin.source}: {load_into(network, origin)}")
        network.reset_head(len(dataset.classes))
        known = f"{origin.num_classes} classes" if origin.num_classes else "no classes"
        note(f"the head, made for {known}, is replaced by one for {len(dataset.classes)}: {shorten(dataset.classes)}")
    return name or None, network, _preprocess(recipe, name, origin, channels), origin


def _usual_weights(name: str | None) -> str:
    """The published weights that a network is fine-tuned from where none are named."""
    available = hub.available(name or "resnet18")
    if not available:
        raise UserError(
            f"there are no published weights for {name}", where="--weights", fix="name a file, a bundle or a run"
        )
    return available[0]


def _preprocess(recipe: Recipe, name: str, origin: Weights | None, channels: int) -> ImagePreprocess:
    """The weights' own preprocessing, else the zoo's, at the size that is asked for."""
    if recipe.preprocess is not None:
        return preprocess_from_dict(recipe.preprocess)
    entry = zoo.find(name) if name in zoo.ZOO else None
    preprocess = origin.preprocess if origin is not None and origin.preprocess is not None else None
    if preprocess is None:
        preprocess = (
            ImagePreprocess(crop=entry.crop, resize=entry.resize) if entry else ImagePreprocess(crop=224, resize=256)
        )
    return preprocess.with_channels(channels).override(image_size=recipe.image_size)


def _channels(dataset: Dataset) -> int | None:
    """Channels of a source whose items are arrays with more than colours; None where files are decoded to RGB."""
    first = dataset.items[0].location.read() if hasattr(dataset.items[0].location, "array") else None
    if first is None or isinstance(first, bytes) or first.ndim == 2:
        return None
    return None if first.shape[2] in (1, 3, 4) else first.shape[2]


def _augment(recipe: Recipe, dataset: Dataset) -> Augment:
    """The recipe's augmentation, with mirroring decided: never for digits and letters."""
    settings = recipe.augment.model_dump()
    if settings["flip"] is None:
        characters = all(len(name) == 1 for name in dataset.classes)
        settings["flip"] = not characters
        if characters:
            note("classes are single characters: images are not mirrored (augment.flip=true to do so)")
    return Augment(**settings)


def _look(
    recipe: Recipe,
    dataset: Dataset,
    val: Dataset | None,
    test: Dataset | None,
    preprocess: ImagePreprocess,
    augment: Augment,
) -> Survey:
    """Decode everything that will be trained and validated on once; keep it in memory where it fits."""
    items = [*dataset.items, *(val.items if val else ()), *(test.items if test else ())]
    found = survey(
        items,
        preprocess,
        store_size=recipe.store_size,
        crop_once=augment.crop_scale is None,
        workers=recipe.workers or None,
    )
    if found.unreadable:
        names = shorten(f"{name} ({reason})" for name, reason in list(found.unreadable.items())[:3])
        warn(f"{len(found.unreadable)} items cannot be read and are left out: {names}; all are in split.csv")
    note("all images are kept in memory" if found.pixels else "images are read from disk as they are needed")
    return found


def _split(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    val: Dataset | None,
    test: Dataset | None,
    looked: Survey,
    *,
    continues: bool,
) -> Splits:
    """The splits of the run: those on disk when it goes on, else drawn now and written."""
    path = folder / "split.csv"
    if continues and path.exists():
        return read_splits(path, dataset, val, test)
    splits = split_dataset(
        dataset,
        val=val if val is not None else _share(recipe.val),
        test=test if test is not None else _share(recipe.test),
        unreadable=looked.unreadable,
        seed=recipe.seed,
        min_class_items=recipe.min_class_items,
    )
    lacking = [] if splits.val is None else [name for name, count in splits.val.class_counts().items() if not count]
    if lacking:
        raise UserError(
            f"the validation items have none of {shorten(map(repr, lacking))}",
            where=splits.val.source if splits.val else "--val",
            fix="add some, or let restune draw them: --val 0.2",
        )
    write_splits(path, splits)
    counts = ", ".join(f"{name} {count}" for name, count in splits.counts().items())
    note(
        f"{len(dataset.classes)} classes; {counts}" + (f"; left out {len(splits.left_out)}" if splits.left_out else "")
    )
    return splits


def _share(value: float | str | None) -> float | None:
    return value if not isinstance(value, str) else None


def _header(verb: str, data: str | Path | Dataset) -> str:
    name = data.source if isinstance(data, Dataset) else data
    return f"# restune {verb} {name} --recipe THIS_FILE repeats the run\n"


def _score(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "accuracy": evaluation.accuracy,
        "n": evaluation.n,
        "interval": list(evaluation.interval),
        "top5": evaluation.top5,
        "fingerprint": evaluation.fingerprint,
    }


def _versions() -> dict[str, str]:
    import torchvision

    return {"restune": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
