"""The loaded model: a network with its classes and preprocessing, ready to predict."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.allocator import freed_memory_kept
from restune.core.console import progress
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.data.dataset import ArrayLocation, FileLocation, Item, Location
from restune.data.loader import Batch, read_batches
from restune.data.preprocess import Preprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.data.sources.clips import ClipLocation
from restune.inference.features import FeatureCache
from restune.networks.layout import in_parts, joined, laid_out
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec
from restune.weights.bundle import BundleInfo, write_bundle

if TYPE_CHECKING:
    from PIL import Image

    Input = str | Path | bytes | NDArray[Any] | Image.Image


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the model says about one input.

    Args:
        input: its path, or ``input 3`` for one given as content.
        label: the most probable class; None when the input could not be read.
        probability: of that class.
        top: the most probable classes with their probabilities, in falling order.
        error: why the input could not be read.
    """

    input: str
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """``{"input", "label", "probability", "top"}``, or ``{"input", "error"}``."""
        if self.error is not None:
            return {"input": self.input, "error": self.error}
        top = [[label, probability] for label, probability in self.top]
        return {"input": self.input, "label": self.label, "probability": self.probability, "top": top}


@dataclass(frozen=True)
class Model:
    """A network with everything needed to use it.

    Args:
        module: the network, in eval mode and float32.
        info: its classes, preprocessing, structure and history.
        source: where it came from, for messages.
        classes_known: False when the weights did not say their classes and numbers stand in for names.
        device: where it computes.
    """

    module: ResNet
    info: BundleInfo
    source: str
    classes_known: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.info.classes

    @property
    def preprocess(self) -> Preprocess:
        """What turns an input into the network's tensor."""
        return self.info.preprocess

    @property
    def spec(self) -> ResNetSpec:
        """The network's structure."""
        return self.module.spec

    def with_classes(self, classes: Sequence[str]) -> Model:
        """The same model with its classes named, in the order of the logits. Raises UserError unless they fit."""
        if len(set(classes)) != self.spec.num_classes or len(classes) != self.spec.num_classes:
            raise UserError(f"{self.spec.num_classes} different class names are needed, not {len(classes)}")
        return replace(self, info=replace(self.info, classes=tuple(classes)), classes_known=True)

    def predict(self, inputs: Input | Iterable[Input], topk: int = 5, *, batch_size: int = 64) -> list[Prediction]:
        """Labels and probabilities, one prediction an input, in order.

        Args:
            inputs: one or many. For images paths, encoded images, arrays (``[H, W]`` or ``[H, W, C]``), or PIL images;
                for signals arrays (``[L]`` or ``[C, L]``) or paths of .wav files; for texts a ``str`` is text and a
                ``Path`` a file; for videos paths of files or of folders of frames.
            topk: how many classes `Prediction.top` lists.
            batch_size: inputs computed at a time.

        Raises UserError for an input that cannot be read; `restune.predict` reports it in its place instead.
        """
        items = as_items(inputs, self.preprocess.kind)
        return [_raise_error(prediction) for prediction in self.predict_items(items, topk, batch_size=batch_size)]

    def predict_items(
        self, items: Sequence[Item], topk: int = 5, *, batch_size: int = 64, workers: int | None = None
    ) -> Iterator[Prediction]:
        """Predictions of data-set items as they are made, unreadable ones with their `error`."""
        topk = max(1, min(topk, len(self.classes)))
        for batch, logits in self.logits_of(items, batch_size=batch_size, workers=workers):
            probabilities, indices = logits.softmax(dim=1).topk(topk, dim=1)
            rows = zip(probabilities.tolist(), indices.tolist(), strict=True)
            for position, item in enumerate(batch.items):
                if position in batch.failures:
                    yield Prediction(input=item.id, error=batch.failures[position])
                    continue
                values, places = next(rows)
                top = tuple((self.classes[place], value) for place, value in zip(places, values, strict=True))
                yield Prediction(input=item.id, label=top[0][0], probability=top[0][1], top=top)

    def embed(self, inputs: Input | Iterable[Input], *, batch_size: int = 64) -> NDArray[np.float32]:
        """What the head reads: float32 ``[N, num_features]``, from the cache as far as it is known.

        Raises UserError for an unreadable input.
        """
        found = self.features(batch_size=batch_size).of(as_items(inputs, self.preprocess.kind))
        for name, reason in found.failures.items():
            raise _cannot_read(name, reason)
        return found.rows[0 : len(found.rows)].numpy().reshape(-1, self.spec.num_features)

    def features(self, *, batch_size: int = 64, workers: int | None = None) -> FeatureCache:
        """The cache of what this model's head reads."""
        return FeatureCache(self.module, self.preprocess, device=self.device, batch_size=batch_size, workers=workers)

    def logits_of(
        self, items: Sequence[Item], *, batch_size: int = 64, workers: int | None = None, description: str = "predict"
    ) -> Iterator[tuple[Batch, Tensor]]:
        """Batches with their logits ``[N, num_classes]`` on the CPU; N counts the items that could be read.

        A video's are the logarithms of its clips' mean probabilities.
        """
        for batch, logits in self.clip_logits_of(
            items, batch_size=batch_size, workers=workers, description=description
        ):
            yield batch, together(logits)

    def clip_logits_of(
        self, items: Sequence[Item], *, batch_size: int = 64, workers: int | None = None, description: str = "predict"
    ) -> Iterator[tuple[Batch, Tensor]]:
        """As `logits_of`, but of a video's clips each its own: ``[N, clips, num_classes]``."""
        if isinstance(self.preprocess, VideoPreprocess):  # each item is as many inputs as it has clips
            batch_size = max(1, batch_size // (4 * self.preprocess.clips))
        # One batch leaves nothing to keep for a next one, and giving its memory back takes longer than a small network.
        memory = freed_memory_kept() if len(items) > batch_size else nullcontext()
        with memory, progress(description, len(items)) as advance:
            for batch in read_batches(items, self.preprocess, batch_size=batch_size, workers=workers):
                yield batch, self._run(batch)
                advance(len(batch.items))

    def save(self, path: str | Path) -> Path:
        """Write the model as one .safetensors file that `restune.load` reads with nothing else. Raises UserError."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError("a model is saved as .safetensors", where=str(path), fix=f"name it {path.stem}.safetensors")
        write_bundle(path, self.module.state_dict(), self.info)
        return path

    def _run(self, batch: Batch) -> Tensor:
        if batch.samples is None:
            return torch.zeros(0, self.spec.num_classes)
        samples, clips = batch.samples, None
        if samples.ndim == 6:  # clips of videos
            clips = samples.shape[:2]
            samples = samples.flatten(0, 1)
        with torch.inference_mode():
            parts = in_parts(*self.preprocess.inputs(samples.to(self.device)))
            outputs = joined([self.module(laid_out(x), mask).float().cpu() for x, mask in parts])
        if not bool(torch.isfinite(outputs).all()):
            raise UserError("the network answers with NaN or Inf", where=self.source, fix="check its weights and --std")
        return outputs if clips is None else outputs.reshape(*clips, -1)


def together(logits: Tensor) -> Tensor:
    """Logits ``[N, classes]`` as they are; of clips ``[N, clips, classes]`` the logarithm of their mean probability."""
    return logits if logits.ndim == 2 else logits.softmax(dim=2).mean(dim=1).log()


@dataclass(frozen=True, slots=True)
class Given:
    """An encoded file or a text given by the caller rather than found somewhere."""

    content: bytes | str

    def read(self) -> bytes | str:
        return self.content

    def signature(self) -> str:
        return str(len(self.content))


def as_items(inputs: Input | Iterable[Input], kind: str = "image") -> list[Item]:
    """Inputs of any form as items without a target; an id is the path, or the position of given content."""
    one = _is_one(inputs, kind)
    if not one and not isinstance(inputs, Iterable):
        raise _no_input(inputs, kind)
    listed = [inputs] if one else list(inputs)  # type: ignore[arg-type]
    return [_as_item(position, value, kind) for position, value in enumerate(listed)]


def _as_item(position: int, value: Any, kind: str) -> Item:
    if kind == "text" and isinstance(value, str):
        return Item(id=f"input {position}", location=Given(value), target=-1)
    if isinstance(value, str | Path):
        path = user_path(value)
        location: Location = ClipLocation(path) if kind == "video" else FileLocation(path)
        return Item(id=str(value), location=location, target=-1)
    return Item(id=f"input {position}", location=_location(value, kind), target=-1)


def _location(value: Any, kind: str) -> Location:
    if isinstance(value, bytes | bytearray) and kind != "video":
        return Given(bytes(value))
    if kind in ("text", "video"):
        raise _no_input(value, kind)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, np.ndarray):
        return ArrayLocation(value[None], 0)
    if kind == "image" and hasattr(value, "getbands"):
        return Given(_encoded(value))
    raise _no_input(value, kind)


_PLAIN = {"La": "LA", "RGBa": "RGBA"}
"""Pillow's modes of premultiplied transparency, which convert to no other."""


def _encoded(image: Image.Image) -> bytes:
    """A PIL image as a lossless file: the decoder knows what to do with every mode, orientation and transparency."""
    keeps = image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK")
    form = "TIFF" if image.mode in ("I", "F", "CMYK") else "PNG"
    buffer = io.BytesIO()
    try:
        (image if keeps else image.convert(_PLAIN.get(image.mode, "RGB"))).save(
            buffer, format=form, compress_level=0, exif=image.getexif()
        )
    except (OSError, ValueError) as error:
        raise UserError(f"this image cannot be read: {error}", where="a PIL image") from error
    return buffer.getvalue()


_TAKEN = {
    "image": "a path, bytes, an array, or a PIL image",
    "signal": "an array, the path of a .wav file, or its bytes",
    "text": "a str, which is a text, the Path of a file, or its bytes",
    "video": "the path of a file or of a folder of frames",
}


def _no_input(value: Any, kind: str) -> UserError:
    return UserError(f"an input cannot be a {type(value).__name__}", fix=f"give {_TAKEN[kind]}")


def _is_one(inputs: Any, kind: str) -> bool:
    if isinstance(inputs, np.ndarray) and inputs.ndim and inputs.dtype.kind in "UTSO":
        return False  # of texts or paths
    if isinstance(inputs, np.ndarray | Tensor):
        return inputs.ndim <= (2 if kind == "signal" else 3)
    return isinstance(inputs, str | Path | bytes | bytearray) or hasattr(inputs, "getbands")


def _raise_error(prediction: Prediction) -> Prediction:
    if prediction.error is not None:
        raise _cannot_read(prediction.input, prediction.error)
    return prediction


def _cannot_read(where: str, reason: str) -> UserError:
    return UserError(f"this input cannot be read: {reason}", where=where, fix="remove it, or mend the file")
