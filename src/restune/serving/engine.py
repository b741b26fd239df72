"""A model that is served: items are read in threads, computed in batches, and the model is replaced when its file
changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from restune.core.console import note, warn
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.data.dataset import Item
from restune.data.kinds import Kind, kind_of
from restune.data.loader import as_batch, read_views
from restune.evaluation.abstention import threshold_for
from restune.exporting.engines import settled, with_engine
from restune.inference.attribution.explain import explain_items, fitted_to
from restune.inference.attribution.method import Attribution
from restune.inference.feature_maps import StageMaps, feature_maps
from restune.inference.load import load_model
from restune.inference.model import AnswerOptions, Model, Prediction, predict_batch
from restune.serving.batching import Batcher, Slots
from restune.serving.cores import Cores
from restune.serving.pictures import explained

PRECISION = 0.95
"""Share of correct answers from which the page's threshold of "not sure" follows."""


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """What a request wants to know of its items.

    Args:
        topk: how many classes to list.
        threshold: least probability of an answer; None: the model always answers.
        explain: whether to add each input's class activation map.
    """

    topk: int = 5
    threshold: float | None = None
    explain: bool = False


@dataclass(frozen=True)
class MapSettings:
    """A request for feature maps instead of predictions.

    Args:
        most: number of channels of each stage.
    """

    most: int


Settings = AnswerSettings | MapSettings
Answer = Prediction | list[StageMaps]


class Engine:
    """A loaded model as `Batcher` needs it.

    Args:
        model: of any kind.
        engine, precision: what computes it, to load it again in the same way.
    """

    def __init__(self, model: Model, *, engine: str = "torch", precision: str = "fp32") -> None:
        self.model, self.engine, self.precision = model, engine, precision
        self.kind: Kind = kind_of(model.preprocess.kind)

    def check(self, settings: Settings) -> None:
        """Raise UserError for settings that this model does not have."""
        if isinstance(settings, MapSettings):
            return
        task = self.model.info.task
        if task != "single-label" and (settings.threshold is not None or settings.explain):
            name = "threshold" if settings.threshold is not None else "explain"
            raise UserError(f"this is for models that predict one class; this is a {task} model", where=name)
        if settings.explain:
            fitted_to(Attribution(), self.model)

    def describe(self) -> dict[str, Any]:
        """Return what users need to know of the model."""
        info = self.model.info
        curve = self.model.calibration
        place = None if curve is None else threshold_for(curve.abstention, PRECISION, curve.n)
        return {
            "network": info.name,
            "kind": self.kind.name,
            "task": info.task,
            "classes": list(self.model.classes),
            "threshold": None if curve is None or place is None else curve.abstention.thresholds[place],
            "knows_novelty": self.model.novelty is not None,
            "explains": info.task == "single-label" and hasattr(self.model.spec, "pool"),
            "has_stages": hasattr(self.model.spec, "pool"),
        }

    def read(self, item: Item) -> Tensor | str:
        """Return an item's evaluation views, or the reason why it cannot be read."""
        return read_views(item, self.model.preprocess, self.kind.view_mode(None))

    def answer(self, settings: Settings, batch: list[tuple[Item, Tensor | str]]) -> Sequence[Answer]:
        """Return the predictions, or the feature maps, of items that are read."""
        if isinstance(settings, MapSettings):
            return [self._feature_maps(item, read, settings.most) for item, read in batch]
        options = AnswerOptions(threshold=settings.threshold)
        if settings.explain:
            return [self._explained(item, settings, options) for item, _ in batch]
        items, read = [item for item, _ in batch], [views for _, views in batch]
        return predict_batch(self.model, as_batch(items, read, self.model.preprocess), settings.topk, options=options)

    def _explained(self, item: Item, settings: AnswerSettings, options: AnswerOptions) -> Prediction:
        """Return a prediction with its explanation, see `pictures.explained`."""
        wanted = fitted_to(Attribution(), self.model)
        found = explain_items(self.model, [item], wanted, settings.topk, workers=0, options=options)
        ((_, prediction, explanation),) = found
        if explanation is None:
            return prediction
        return replace(prediction, explanation=explained(explanation, item.location.read(), self.model))

    def _feature_maps(self, item: Item, read: Tensor | str, most: int) -> list[StageMaps]:
        """Return the feature maps of an item's first view. Raises UserError."""
        if isinstance(read, str):
            raise UserError(f"this input cannot be read: {read}", where=item.id)
        return feature_maps(self.model, read[0], most)


@dataclass(frozen=True)
class _Wanted:
    """How a batch is computed: by which engine, since items are prepared for one, and with which settings."""

    engine: Engine
    settings: Settings


class Served:
    """A model under a name: requests go through a queue, and a changed file replaces the model between requests.

    Args:
        name: in addresses and answers.
        engine: the loaded model.
        pool: threads that read items.
        slots: how many batches are computed at a time, by all models.
        max_queue, max_batch, on_batch: as `Batcher`.
        file: the model's file, to be watched; None: it is not watched.
        load: loads it again.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        pool: ThreadPoolExecutor,
        slots: Slots,
        max_queue: int,
        max_batch: int,
        on_batch: Callable[[int], None] = lambda _size: None,
        file: Path | None = None,
        load: Callable[[], Engine] | None = None,
    ) -> None:
        self.name, self.engine, self.file, self.reloads = name, engine, file, 0
        self._load, self._signature = load, _signature(file)
        self._slots, self._cores = slots, Cores(slots.count)
        self.batcher: Batcher[_Wanted, Item, tuple[Item, Tensor | str], Answer] = Batcher(
            lambda wanted, item: (item, wanted.engine.read(item)),
            self._computed,
            pool=pool, slots=slots, max_queue=max_queue, max_batch=max_batch, on_batch=on_batch,
        )  # fmt: skip

    def submit(
        self,
        items: Sequence[Item],
        settings: Settings,
        timeout: float,
        engine: Engine | None = None,
    ) -> Future[list[Answer]]:
        """Accept items; see `Batcher.submit`. Raises UserError for settings that the model does not have.

        Args:
            engine: the one that the items were made for; None: the current one.
        """
        engine = engine or self.engine
        engine.check(settings)
        return self.batcher.submit(items, _Wanted(engine, settings), timeout)

    def _computed(self, wanted: _Wanted, batch: list[tuple[Item, Tensor | str]]) -> Sequence[Answer]:
        def is_alone() -> bool:
            return self._slots.busy == 1 and self.batcher.length == len(batch)

        with self._cores.used(len(batch), is_alone):
            return wanted.engine.answer(wanted.settings, batch)

    def reload_if_changed(self) -> bool:
        """Load the model again if its file changed. Accepted requests are answered by the model they came to.

        A file that cannot be loaded is reported, and the model stays.
        """
        signature = _signature(self.file)
        if self._load is None or signature is None or signature == self._signature:
            return False
        self._signature = signature
        try:
            engine = self._load()
        except Exception as error:  # whatever a file does, the server goes on
            reason = error.what if isinstance(error, UserError) else type(error).__name__
            warn(f"{self.name}: the changed file cannot be loaded, the model stays as it was: {reason}")
            return False
        self.engine, self.reloads = engine, self.reloads + 1
        self._cores = Cores(self._slots.count)
        note(f"{self.name}: loaded again, its file changed")
        return True


def load_engine(model: str, device: str = "auto", engine: str = "torch", precision: str = "fp32") -> Engine:
    """Load a model to serve; an engine ``auto`` is chosen before the first request. Raises UserError."""
    loaded = settled(with_engine(load_model(model, device=device), engine, precision=precision))
    return Engine(loaded, engine=engine, precision=precision)


def model_file(model: str) -> Path | None:
    """Return the file of a model, which may be named by its run's folder; None for published ones."""
    path = user_path(model)
    path = path / "model.safetensors" if path.is_dir() else path
    return path if path.is_file() else None


def served_name(model: str) -> str:
    """Return the name under which a model is served.

    >>> served_name("runs/digits/model.safetensors"), served_name("birds.safetensors"), served_name("resnet18")
    ('digits', 'birds', 'resnet18')
    """
    path = Path(model)
    name = path.resolve().parent.name if path.name == "model.safetensors" else path.name.removesuffix(".safetensors")
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name) or "model"


def _signature(file: Path | None) -> tuple[int, int, int] | None:
    try:
        status = None if file is None else file.stat()
    except OSError:  # gone, or not there for a moment
        return None
    return None if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)
