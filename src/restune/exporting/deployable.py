"""`Deployable`: everything between raw input and answer as one torch module, from which every export starts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from restune.core.errors import UserError
from restune.data.preprocess import Preprocess
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.exporting.raw_inputs import CroppedImages, raw_input
from restune.inference.model import Model
from restune.networks.fold import folded
from restune.networks.resnet import ResNet
from restune.weights.novelty import Novelty, normalized

OUTPUTS = ("embedding", "class_map", "logits", "novelty")
"""Names of the graph's outputs after the answer, in order.

``class_map`` only where it is exact, ``novelty`` only where the model knows its training data.
"""
OUTPUT_AXES = {
    "probabilities": ("N", "classes"),
    "values": ("N", "classes"),
    "embedding": ("N", "features"),
    "class_map": ("N", "classes", "..."),
    "logits": ("N", "classes"),
    "novelty": ("N",),
}
"""Names of each output's axes; ``...`` are the positions of the last stage."""


class Deployable(nn.Module):
    """From raw input to the answer, embedding, class activation map, logits and novelty score, in one graph.

    Shapes: images uint8 ``[N, H, W, 3]``, clips uint8 ``[N, T, H, W, 3]``, series float32 ``[N, C, L]`` padded with
    NaN, tokens int64 ``[N, L]`` padded with 0; to probabilities (of regression: values) ``[N, classes]``, embeddings
    ``[N, F]``, maps ``[N, classes, ...]`` (one value per position of the last stage; where the pool is the average and
    the head one linear layer), logits ``[N, classes]``, before the temperature, and novelty scores ``[N]``.

    Args:
        network: in eval mode.
        raw: raw input to the network's input and mask.
        answer: logits to probabilities or values.
        novelty: embeddings to scores; None: the graph does not have this output.
    """

    def __init__(self, network: ResNet, raw: nn.Module, answer: Answer, novelty: NoveltyScore | None = None) -> None:
        super().__init__()
        self.raw, self.answer, self.novelty = raw, answer, novelty
        self.body = _for_export(folded(network))
        self.head = copy.deepcopy(network.fc).float().eval().requires_grad_(False)
        self.stages = len(network.spec.stages)
        self.has_map = network.spec.pool == "average" and not network.spec.hidden

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `output_names`."""
        x, mask = self.raw(inputs)
        at_last = self.body.mask_at(mask, self.stages)
        last = self.body.activated(self.body.forward_until(x, self.stages, mask), at_last)
        embedding = self.body.pool_activated(last, at_last)
        logits = self.head(embedding)
        maps = (torch.einsum("nc...,kc->nk...", last, self.head.weight),) if self.has_map else ()
        scores = () if self.novelty is None else (self.novelty(embedding),)
        return self.answer(logits), embedding, *maps, logits, *scores

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        absent = {"class_map": not self.has_map, "novelty": self.novelty is None}
        return (self.answer.name, *(name for name in OUTPUTS if not absent.get(name)))


class Answer(nn.Module):
    """Logits ``[N, C]`` to probabilities, of regression to values in the targets' units.

    Args:
        task: ``single-label``, ``multi-label`` or ``regression``.
        temperature: divides the logits before the softmax.
        mean, std: of the targets of regression, one per value.
    """

    def __init__(
        self,
        task: str = "single-label",
        temperature: float = 1.0,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.task, self.temperature = task, temperature
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    @property
    def name(self) -> str:
        """Name of this output."""
        return "values" if self.task == "regression" else "probabilities"

    def forward(self, logits: Tensor) -> Tensor:
        if self.task == "regression":
            return logits * self.get_buffer("std") + self.get_buffer("mean")
        return logits.sigmoid() if self.task == "multi-label" else (logits / self.temperature).softmax(dim=1)


class NoveltyScore(nn.Module):
    """Embeddings ``[N, F]`` to novelty scores ``[N]``, as `Novelty.scores`: the distance to the k-th nearest reference.

    The reference stays in float16, as the bundle stores it.
    """

    def __init__(self, novelty: Novelty) -> None:
        super().__init__()
        self.k = novelty.k
        self.register_buffer("reference", novelty.reference.clone())

    def forward(self, embedding: Tensor) -> Tensor:
        similarity = normalized(embedding) @ self.get_buffer("reference").float().transpose(0, 1)
        nearest = similarity.topk(self.k, dim=1).values[:, self.k - 1]
        return (2 - 2 * nearest).clamp(min=0, max=4).sqrt()


def answer_of(model: Model) -> Answer:
    """Return what turns a model's logits into its answers."""
    scale = model.info.target_scale
    if scale is not None:
        return Answer(model.info.task, mean=scale.mean, std=scale.std)
    return Answer(model.info.task, 1.0 if model.calibration is None else model.calibration.temperature)


@dataclass(frozen=True)
class InputSpec:
    """The graph's input: its name, an example batch of two, and the names of its variable axes."""

    name: str
    example: Tensor
    axes: dict[int, str]


def novelty_of_graph(model: Model) -> Novelty | None:
    """Return what a graph scores novelty against; None where `predict` does not score it either."""
    return model.novelty if model.info.task == "single-label" else None


def deployable(model: Model, *, cropped: bool = False, novelty: bool = True) -> Deployable:
    """Build the graph of a model.

    Args:
        model: a loaded model of restune's own networks.
        cropped: take images that are resized and cropped already, uint8 ``[N, C, crop, crop]``: what restune's own
            decoding makes.
        novelty: include the novelty score where the model has one.

    Raises UserError for a module of one's own.
    """
    if not isinstance(model.module, ResNet):
        raise UserError(
            f"only restune's own networks can be exported, not {type(model.module).__name__}", where=model.source,
            fix="export the module itself with torch.onnx.export",
        )  # fmt: skip
    preprocess = model.preprocess
    takes_crops = cropped and isinstance(preprocess, ImagePreprocess | VideoPreprocess)
    raw = CroppedImages(preprocess) if takes_crops else raw_input(preprocess)  # type: ignore[arg-type]
    known = novelty_of_graph(model) if novelty else None
    score = None if known is None else NoveltyScore(known)
    return Deployable(model.module.cpu(), raw, answer_of(model), score).eval()


def input_spec(preprocess: Preprocess, *, cropped: bool = False) -> InputSpec:
    """Return the input of the graph for a kind of data. Traced with two items, since one would become constant."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    channels = 3 if preprocess.channels in (1, 3) else preprocess.channels
    if isinstance(preprocess, ImagePreprocess):
        if cropped:
            return InputSpec("pixels", noise(2, preprocess.channels, preprocess.crop, preprocess.crop), {0: "N"})
        return InputSpec("images", noise(2, 97, 131, channels), {0: "N", 1: "H", 2: "W"})
    if isinstance(preprocess, VideoPreprocess):
        frames = preprocess.frames
        if cropped:
            return InputSpec("pixels", noise(2, channels, frames, preprocess.crop, preprocess.crop), {0: "N"})
        return InputSpec("clips", noise(2, frames, 97, 131, channels), {0: "N", 2: "H", 3: "W"})
    if preprocess.kind == "signal":
        return InputSpec("series", torch.randn(2, preprocess.channels, 150, generator=generator), {0: "N", 2: "L"})
    tokens = torch.randint(1, 3, (2, 40), generator=generator)
    return InputSpec("tokens", tokens, {0: "N", 1: "L"})


def _for_export(network: ResNet) -> ResNet:
    """Replace layers that exporters fix to one size: a 1-D max pool becomes a 2-D one of height 1."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool1d):
                setattr(module, name, _FlatMaxPool(child))
    return network


class _FlatMaxPool(nn.Module):
    """A max pool along a series, as a 2-D pool of height 1."""

    def __init__(self, pool: nn.MaxPool1d) -> None:
        super().__init__()
        kernel, stride, padding = (_one(value) for value in (pool.kernel_size, pool.stride, pool.padding))
        self.pool = nn.MaxPool2d((1, kernel), (1, stride), (0, padding))

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(x.unsqueeze(2)).squeeze(2)
        return pooled


def _one(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
