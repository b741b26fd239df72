"""The loaded model: a network with its classes and preprocessing, ready to predict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError, shorten
from restune.data.dataset import Item
from restune.data.inputs import as_items
from restune.data.kinds import Kind, kind_of
from restune.data.loader import Batch
from restune.data.preprocess import Preprocess
from restune.inference.engines.runtime import Runtime
from restune.inference.engines.torch_runtime import TorchRuntime
from restune.inference.features import FeatureCache
from restune.inference.forward import mean_of_task_views, mean_of_views, prediction_sets, probabilities
from restune.inference.prediction import AnswerOptions, Prediction
from restune.inference.predictor import Predictor, compute_batch, predict_with_embeddings
from restune.inference.task_predictions import task_answers
from restune.networks.custom import CustomNetwork, CustomSpec, Network, own_names
from restune.networks.spec import ResNetSpec
from restune.weights.bundle import BundleInfo, write_bundle
from restune.weights.calibration import Calibration
from restune.weights.novelty import Novelty

if TYPE_CHECKING:
    from restune.data.inputs import Input
    from restune.inference.attribution.explanation import Explanation

__all__ = ["AnswerOptions", "Model", "Prediction", "novelty_of", "predict_batch", "predict_items"]


@dataclass(frozen=True)
class Model:
    """A network with everything needed to use it.

    Args:
        module: the network, in eval mode and float32; for a module of one's own, a `CustomNetwork` around it.
        info: its classes, preprocessing, structure and history.
        source: where it came from, for messages.
        classes_known: False if the weights do not name their classes, which are then numbered.
        device: where it computes.
        runtime: computes the logits in place of the module, see `exporting.engines.with_engine`.
    """

    module: Network
    info: BundleInfo
    source: str
    classes_known: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    runtime: Runtime | None = None

    def __repr__(self) -> str:
        what = {"multi-label": "labels", "regression": "numbers"}.get(self.info.task, "classes")
        name, classes = self.info.name or "network", f"{len(self.classes)} {what}: {shorten(self.classes, 5)}"
        return f"Model({self.source!r}, {name} for {self.kind.noun}, {classes}; {self.preprocess})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.info.classes

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing that converts an input to the network's tensor."""
        return self.info.preprocess

    @property
    def novelty(self) -> Novelty | None:
        """What it knows of its training data, to tell inputs that are unlike them; None where nothing is known."""
        return self.info.novelty

    @property
    def calibration(self) -> Calibration | None:
        """How its logits become probabilities; None: by softmax alone."""
        return self.info.calibration

    @property
    def kind(self) -> Kind:
        """The kind of data it takes."""
        return kind_of(self.preprocess.kind)

    @property
    def spec(self) -> ResNetSpec | CustomSpec:
        """The network's structure."""
        return self.module.spec

    def with_classes(self, classes: Sequence[str]) -> Self:
        """Return the model with its classes named, in the order of the logits. Raises UserError unless they fit."""
        if len(set(classes)) != self.spec.num_classes or len(classes) != self.spec.num_classes:
            raise UserError(f"{self.spec.num_classes} different class names are needed, not {len(classes)}")
        return replace(self, info=replace(self.info, classes=tuple(classes)), classes_known=True)

    def predict(
        self,
        inputs: Input | Iterable[Input],
        topk: int = 5,
        *,
        batch_size: int = 64,
        views: str | None = None,
        errors: str = "raise",
        threshold: float | None = None,
        coverage: float | None = None,
        class_conditional: bool = False,
    ) -> list[Prediction]:
        """Predict labels and probabilities, one prediction per input, in order.

        Args:
            inputs: one or many. For images paths, encoded images, arrays (``[H, W]`` or ``[H, W, C]``), or PIL images;
                for signals arrays (``[L]`` or ``[C, L]``) or paths of .wav files; for texts a ``str`` is text and a
                ``Path`` a file; for videos paths of files or of folders of frames.
            topk: how many classes `Prediction.top` lists.
            batch_size: inputs computed at a time.
            views: evaluation views whose probabilities are averaged: of images ``flip`` or ``five-crop``.
            errors: ``raise`` raises UserError for an unreadable input; ``report`` returns it in its place with
                `Prediction.error`, as `restune.predict` does.
            threshold, coverage, class_conditional: see `AnswerOptions`.

        >>> import restune
        >>> model = restune.load(run_folder)
        >>> model.predict(photo)[0].label in model.classes
        True
        """
        if errors not in ("raise", "report"):
            raise UserError(f"unknown value {errors!r}", where="errors", fix='use "raise" or "report"')
        items = as_items(inputs, self.kind)
        options = AnswerOptions(threshold=threshold, coverage=coverage, class_conditional=class_conditional)
        predictions = predict_items(self, items, topk, batch_size=batch_size, views=views, options=options)
        return [_raise_error(prediction) if errors == "raise" else prediction for prediction in predictions]

    def explain(
        self,
        inputs: Input | Iterable[Input],
        label: str | None = None,
        stage: int | None = None,
        method: str = "cam",
        *,
        batch_size: int = 64,
    ) -> list[Explanation]:
        """Show which positions of each input speak for a class, one explanation per input, in order.

        Args:
            inputs: one or many, as `predict` takes them.
            label: the class to explain; None: the predicted class of each input.
            stage: the stage whose activations are explained, 0 for the stem; None: the last one, whose map is exact.
            method: ``cam``: class activation maps; another stage's, and those of ``gradcam``, by Grad-CAM; as a check
                ``occlusion`` and ``integrated-gradients``, which need captum.
            batch_size: inputs computed at a time.

        Raises UserError for an unreadable input, and for a class, stage or method that the model does not have.

        >>> import restune
        >>> restune.load(run_folder).explain(photo, label="blue")[0].label
        'blue'
        """
        from restune.inference.attribution.explain import explain_items
        from restune.inference.attribution.method import Attribution

        wanted = Attribution(label=label, method=method, stage=stage)
        found = explain_items(self, as_items(inputs, self.kind), wanted, batch_size=batch_size, views="single")
        return [explanation for _, prediction, explanation in found if explanation or _raise_error(prediction)]  # type: ignore[misc]

    def embed(self, inputs: Input | Iterable[Input], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Return embeddings (inputs of the last layer), float32 ``[N, num_features]``, cached ones where possible.

        Raises UserError for an unreadable input.
        """
        cache = self.features(batch_size=batch_size)
        found = cache.of(as_items(inputs, self.kind))
        for name, reason in found.failures.items():
            raise _cannot_read(name, reason)
        return found.rows[0 : len(found.rows)].numpy().reshape(-1, cache.network.spec.num_features)

    def features(self, *, batch_size: int = 64, workers: int | None = None) -> FeatureCache:
        """Return the cache of this model's embeddings. Raises UserError for a module of one's own."""
        if isinstance(self.module, CustomNetwork):
            raise UserError(
                f"embeddings are known for restune's own networks only, not for {self.module.spec.custom}",
                where=self.source,
                fix="compute them with the module itself",
            )
        return FeatureCache(self.module, self.preprocess, device=self.device, batch_size=batch_size, workers=workers)

    def logits(self, samples: Tensor) -> Tensor:
        """Compute float32 logits ``[N, V, C]`` of evaluation views ``[N, V, *sample]``, on the CPU.

        Safe to call from several threads at once; changes no global setting. The network's norms are folded into its
        convolutions, which changes logits by rounding. Raises UserError where the network's outputs are not finite.
        """
        return self.logits_and_embeddings(samples)[0]

    def logits_and_embeddings(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute `logits` and, in the same forward pass, the embeddings ``[N, V, F]``; None for a module of one's own.

        Raises UserError where the network's outputs are not finite.
        """
        logits, embeddings = (self.runtime or self._torch)(samples.flatten(0, 1))
        if not bool(torch.isfinite(logits).all()):
            raise UserError(
                "the network's outputs are NaN or Inf", where=self.source, fix="check its weights and --std"
            )
        views = samples.shape[:2]
        return logits.reshape(*views, -1), None if embeddings is None else embeddings.reshape(*views, -1)

    @cached_property
    def _torch(self) -> TorchRuntime:
        return TorchRuntime(self.module, self.preprocess, self.device)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute calibrated probabilities ``[N, C]`` from logits of views ``[N, V, C]``.

        Probabilities are averaged over views, then their logarithm is divided by the temperature. Of a multi-label
        network they are those of each label, not calibrated. Raises UserError for regression.
        """
        if self.info.task == "regression":
            raise UserError("a regression model predicts numbers, not probabilities", where=self.source)
        if self.info.task == "multi-label":
            return mean_of_task_views(logits, self.info.task).sigmoid()
        temperature = 1.0 if self.calibration is None else self.calibration.temperature
        return probabilities(mean_of_views(logits), temperature)

    def save(self, path: str | Path) -> Path:
        """Write the model as one .safetensors file that `restune.load` reads with nothing else. Raises UserError."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError("a model is saved as .safetensors", where=str(path), fix=f"name it {path.stem}.safetensors")
        write_bundle(path, own_names(self.module.state_dict(), self.spec), self.info)
        return path


def predict_items(
    predictor: Predictor,
    items: Iterable[Item],
    topk: int = 5,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    options: AnswerOptions = AnswerOptions(),  # noqa: B008 (a frozen value)
    description: str = "predict",
) -> Iterator[Prediction]:
    """Yield the predictions of items; those of unreadable items have an `error`.

    Args:
        items: a sequence, or an iterator that produces them lazily.
        topk: how many classes `Prediction.top` lists.
        batch_size, workers, views: as `predict_with_embeddings`.
        options: when to abstain, and which prediction sets to form.
        description: of the progress bar; empty for none.

    Raises UserError for options that the model does not support.
    """
    options.check()
    thresholds = options.set_thresholds(predictor.calibration)
    return _predictions(
        predictor,
        predict_with_embeddings(
            predictor, items, batch_size=batch_size, workers=workers, views=views, description=description
        ),
        max(1, min(topk, len(predictor.classes))),
        options,
        thresholds,
    )


def predict_batch(
    predictor: Predictor,
    batch: Batch,
    topk: int = 5,
    *,
    options: AnswerOptions = AnswerOptions(),  # noqa: B008 (a frozen value)
) -> list[Prediction]:
    """Return the predictions of items that are already read, as `predict_items` does. Raises UserError."""
    options.check()
    computed = (batch, *compute_batch(predictor, batch))
    topk = max(1, min(topk, len(predictor.classes)))
    return list(_predictions(predictor, [computed], topk, options, options.set_thresholds(predictor.calibration)))


def _predictions(
    predictor: Predictor,
    batches: Iterable[tuple[Batch, Tensor, Tensor | None]],
    topk: int,
    options: AnswerOptions,
    thresholds: float | tuple[float, ...] | None,
) -> Iterator[Prediction]:
    classes = predictor.classes
    outputs = predictor.info.outputs
    for batch, logits, embeddings in batches:
        if outputs.task != "single-label":
            yield from _task_predictions(batch, task_answers(logits, classes, outputs, topk))
            continue
        probabilities = predictor.probabilities(logits)
        values, indices = probabilities.topk(topk, dim=1)
        rows = zip(values.tolist(), indices.tolist(), novelty_of(predictor, embeddings, len(values)), strict=True)
        sets = None if thresholds is None else iter(_named_sets(probabilities, thresholds, classes))
        for position, item in enumerate(batch.items):
            if position in batch.failures:
                yield Prediction(input=item.id, error=batch.failures[position])
                continue
            shown, places, (novel, score) = next(rows)
            top = tuple((classes[place], value) for place, value in zip(places, shown, strict=True))
            abstained = None if options.threshold is None else top[0][1] < float(np.float32(options.threshold))
            yield Prediction(
                input=item.id,
                label=None if abstained else top[0][0],
                probability=top[0][1],
                top=top,
                abstained=abstained,
                prediction_set=None if sets is None else next(sets),
                novel=novel,
                novelty=score,
            )


def novelty_of(
    predictor: Predictor, embeddings: Tensor | None, items: int
) -> Sequence[tuple[bool | None, float | None]]:
    """Return whether each item is unlike the training data, and its score, from embeddings of views ``[N, V, F]``."""
    novelty: Novelty | None = getattr(predictor, "novelty", None)
    if novelty is None or embeddings is None:
        return [(None, None)] * items
    return [(score > novelty.threshold, score) for score in novelty.scores(embeddings.mean(dim=1)).tolist()]


def _named_sets(
    probabilities: Tensor, thresholds: float | tuple[float, ...], classes: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Yield the prediction set of each item: class names, the most probable first."""
    belongs = prediction_sets(probabilities, thresholds)
    for row, order in zip(belongs, probabilities.argsort(dim=1, descending=True), strict=True):
        yield tuple(classes[place] for place in order[row[order]].tolist())


def _task_predictions(batch: Batch, answers: list[dict[str, Any]]) -> Iterator[Prediction]:
    """Yield the predictions of a batch, given the fields of those of its readable items."""
    fields = iter(answers)
    for position, item in enumerate(batch.items):
        known = {"error": batch.failures[position]} if position in batch.failures else next(fields)
        yield Prediction(input=item.id, **known)


def _raise_error(prediction: Prediction) -> Prediction:
    if prediction.error is not None:
        raise _cannot_read(prediction.input, prediction.error)
    return prediction


def _cannot_read(where: str, reason: str) -> UserError:
    return UserError(f"this input cannot be read: {reason}", where=where, fix="remove it, or repair the file")
