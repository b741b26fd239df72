"""Explain items: predictions and maps in one forward pass, or a method that takes passes of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.data.dataset import Item
from restune.data.kinds import kind_of
from restune.data.loader import read_views
from restune.inference.attribution import maps, perturbation
from restune.inference.attribution.explanation import Explanation
from restune.inference.attribution.locate import located
from restune.inference.attribution.method import Attribution, check_method, resolve_class
from restune.inference.attribution.placement import enlarged
from restune.inference.forward import forward_views
from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet

if TYPE_CHECKING:
    from restune.inference.model import AnswerOptions, Model, Prediction


def fitted_to(attribution: Attribution, model: Model) -> Attribution:
    """Return it with the stage set where it applies. Raises UserError for what this model cannot be explained by."""
    check_method(attribution.method, attribution.stage)
    if model.info.task != "single-label":
        raise UserError(f"only models that predict one class are explained; this is a {model.info.task} model")
    network = model.module
    by_stage = attribution.method in ("cam", "gradcam")
    if model.info.task != "single-label":
        raise UserError(
            f"predictions of a {model.info.task} model are not explained",
            where=model.source,
            fix="explain a model that predicts one class",
        )
    if not isinstance(network, ResNet):
        if by_stage:
            raise UserError(
                f"the stages of {network.spec.custom}, a module of one's own, are not known",
                where=f"--method {attribution.method}",
                fix="use --method occlusion",
            )
        return attribution
    if not by_stage:
        return attribution
    last = len(network.spec.stages)
    stage = last if attribution.stage is None else attribution.stage
    if not 0 <= stage <= last:
        raise UserError(
            f"there is no stage {stage} in {model.info.name or 'this network'}",
            where="--stage",
            fix=f"use 0 (the stem) to {last}",
        )
    return replace(attribution, stage=stage, method=attribution.method if stage == last else "gradcam")


class _Noted(NamedTuple):
    """A map as the network gives it, the index of the explained class, its probability and its logit."""

    map: NDArray[np.float32]
    target: int
    probability: float
    logit: float


class Explainer:
    """A `Predictor` that notes class activation maps while it computes logits, in the same forward pass.

    Args:
        model: a model whose network is a `ResNet`.
        target: index of the class to explain; None: each item's most probable class.
    """

    def __init__(self, model: Model, target: int | None = None) -> None:
        assert isinstance(model.module, ResNet)
        self.model, self.network, self.target = model, model.module, target
        self.noted: deque[_Noted] = deque()
        """What is known of each item computed and not yet taken, in order."""

    def __getattr__(self, name: str) -> Any:
        """Return everything else that a `Predictor` has from the model."""
        return getattr(self.model, name)

    def logits(self, samples: Tensor) -> Tensor:
        """Compute the model's logits ``[N, V, C]`` and note the map of each view."""
        return self.logits_and_embeddings(samples)[0]

    def logits_and_embeddings(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits ``[N, V, C]`` and embeddings ``[N, V, F]``, and note the map of each view."""
        try:
            with torch.inference_mode():
                outputs = forward_views(self._compute, self.model.preprocess, samples.to(self.model.device)).cpu()
        except BaseException:
            self.noted.clear()  # the batch is computed again, in smaller parts
            raise
        if not bool(torch.isfinite(outputs).all()):
            raise UserError(
                "the network's outputs are NaN or Inf", where=self.model.source, fix="check its weights and --std"
            )
        width = self.network.spec.num_features
        return outputs[..., width:], outputs[..., :width]

    def _compute(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return embeddings and logits side by side ``[N, F + C]``."""
        network, last = self.network, len(self.network.spec.stages)
        here = network.mask_at(mask, last)
        activations = network.activated(network.forward_until(x, last, mask), here)
        embeddings = network.pool_activated(activations, here)
        logits = network.forward_from(embeddings, "all")
        classes = logits.argmax(dim=1) if self.target is None else torch.full_like(logits[:, 0], self.target).long()
        found = maps.class_activation(network, activations, here, classes).float().cpu().numpy()
        lengths = None if here is None else here.sum(dim=1).tolist()
        chosen = logits.gather(1, classes[:, None])[:, 0]
        shares = self.model.probabilities(logits.float()[:, None]).gather(1, classes[:, None])[:, 0]
        for row, of_item in enumerate(zip(classes.tolist(), shares.tolist(), chosen.tolist(), strict=True)):
            one = found[row] if lengths is None else found[row][: max(1, lengths[row])]
            self.noted.append(_Noted(np.array(one), *of_item))
        return torch.cat([embeddings, logits], dim=1)


def explain_items(
    model: Model,
    items: Iterable[Item],
    attribution: Attribution,
    topk: int = 5,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    options: AnswerOptions | None = None,
) -> Iterator[tuple[Item, Prediction, Explanation | None]]:
    """Yield each item with its prediction and its explanation; None for an unreadable item.

    Class activation maps come from the forward pass of the prediction. Where predictions average several views, and
    with other methods, the item is computed once more: the map is that of the one view that `Preprocess.apply` makes.

    Args:
        items: a sequence, or an iterator that produces them lazily.
        topk, batch_size, workers, views, options: as `predict_items`.

    Raises UserError for a class, a stage or a method that the model does not have.
    """
    from restune.inference.model import AnswerOptions, predict_items

    attribution, target = fitted_to(attribution, model), resolve_class(model.classes, attribution.label)
    at_once = attribution.method == "cam" and kind_of(model.preprocess.kind).view_mode(views) == "single"
    predictor: Any = Explainer(model, target) if at_once else model
    waiting: deque[Item] = deque()

    def remembered() -> Iterator[Item]:
        for item in items:
            waiting.append(item)
            yield item

    for prediction in predict_items(
        predictor, remembered(), topk, batch_size=batch_size, workers=workers, views=views,
        options=options or AnswerOptions(),
    ):  # fmt: skip
        item = waiting.popleft()
        if prediction.error is not None:
            yield item, prediction, None
        elif at_once:
            yield item, prediction, _explanation(model, item, attribution, predictor.noted.popleft())
        else:
            wanted = model.classes.index(prediction.top[0][0]) if target is None else target
            yield item, prediction, explain_again(model, item, attribution, wanted)


def explain_again(model: Model, item: Item, attribution: Attribution, target: int) -> Explanation:
    """Explain one readable item in passes of its own."""
    samples = read_views(item, model.preprocess, "single")
    if isinstance(samples, str):
        raise UserError(f"this input cannot be read: {samples}", where=item.id, fix="remove it, or repair the file")
    if attribution.method == "cam":
        explainer = Explainer(model, target)
        explainer.logits(samples.unsqueeze(0))
        return _explanation(model, item, attribution, explainer.noted.popleft())
    logits = model.logits(samples.unsqueeze(0))
    found = _computed(model, samples, attribution, target)
    noted = _Noted(found, target, float(model.probabilities(logits)[0, target]), float(logits[0, 0, target]))
    return _explanation(model, item, attribution, noted)


def _computed(model: Model, samples: Tensor, attribution: Attribution, target: int) -> NDArray[np.float32]:
    """Return the map of one view ``[1, *sample]`` by a method other than class activation maps."""
    network, kind = model.module, kind_of(model.preprocess.kind)
    x, mask = model.preprocess.inputs(samples.to(model.device))
    x = laid_out(x)
    if attribution.method == "gradcam":
        assert isinstance(network, ResNet)
        assert attribution.stage is not None
        classes = torch.tensor([target], device=x.device)
        found = maps.grad_cam(network, x, mask, classes, attribution.stage)[0]
    elif attribution.method == "occlusion":
        found = perturbation.occlusion(network, x, kind, target)
    else:
        found = perturbation.integrated_gradients(network, x, kind, target)
    values: NDArray[np.float32] = found.float().cpu().numpy()
    return values


def _explanation(model: Model, item: Item, attribution: Attribution, noted: _Noted) -> Explanation:
    place = located(item.location.read(), model.preprocess)
    return Explanation(
        input=item.id,
        label=model.classes[noted.target],
        probability=noted.probability,
        logit=noted.logit,
        method=attribution.method,
        stage=attribution.stage,
        map=enlarged(noted.map, place.input_shape),
        positions=noted.map,
        place=place.place,
        characters=place.characters,
        text=place.text,
    )
