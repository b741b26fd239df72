"""What every kind of preprocessing can do, and how one is made from what a model's file says."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from restune.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_CLASSES = {
    "image": "restune.data.preprocess.image:ImagePreprocess",
    "signal": "restune.data.preprocess.signal:SignalPreprocess",
    "text": "restune.data.preprocess.text:TextPreprocess",
    "video": "restune.data.preprocess.video:VideoPreprocess",
}
"""The union's tags, and what they stand for."""


KINDS = tuple(_CLASSES)
NOUNS = {"image": "images", "signal": "series", "text": "texts", "video": "videos"}
"""What messages call items of each kind."""
SAMPLE_NOUNS = {**NOUNS, "video": "clips"}
"""What a step sees of them."""


class Preprocess(Protocol):
    """From an item's content to the network's input, serialisable.

    A *sample* is one item as a compact tensor: an image is uint8 ``[C, H, W]``, a series float32 ``[C, L]``, a text
    int32 tokens ``[L]``, a clip uint8 ``[C, T, H, W]``. A *batch* is several of them stacked, padded where lengths
    differ. A *whole* is what random training views of an item are cut from.
    """

    @property
    def kind(self) -> str:
        """The union's tag: ``image``, ``signal``, ``text`` or ``video``."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the network's input; of a text 1."""
        ...

    def apply(self, content: Any) -> Tensor:
        """The sample that the network sees at inference. Raises `DecodeError`."""
        ...

    def whole(self, content: Any) -> Tensor:
        """All that training views are cut from. Raises `DecodeError`."""
        ...

    def view(self, whole: Tensor) -> Tensor:
        """The inference sample of a whole."""
        ...

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """One batch; what is shorter than the longest is padded at its end."""
        ...

    def inputs(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's input on the device the batch is on, and its mask ``[N, L]``: True where there is an item,
        False where there is padding; None where nothing is padded."""
        ...

    def with_channels(self, channels: int) -> Preprocess:
        """The same for another number of input channels."""
        ...

    @property
    def override(self) -> Callable[..., Preprocess]:
        """Called with settings by name gives a copy with these changed, None meaning no change. Raises UserError for
        one that it does not have."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` is its inverse."""
        ...


def from_dict(content: Mapping[str, Any]) -> Preprocess:
    """The preprocessing a model's file describes. Raises UserError for a kind this version does not know."""
    kind = content.get("kind")
    if kind not in _CLASSES:
        raise UserError(
            f"this model reads {kind!r}, which this version of restune does not know",
            fix="upgrade restune",
        )
    module, name = _CLASSES[kind].split(":")
    cls = getattr(importlib.import_module(module), name)
    unknown = sorted(set(content) - set(cls.__dataclass_fields__))
    if unknown:
        raise UserError(f"unknown preprocessing setting {unknown[0]!r}", where="preprocess", fix="upgrade restune")
    missing = sorted({"mean", "std"} & set(cls.__dataclass_fields__) - set(content))
    if missing:  # a guess would be taken for what the network was trained with
        raise UserError(f"the preprocessing settings say no {missing[0]}", where="preprocess")
    try:
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        made: Preprocess = cls(**values)
    except (KeyError, TypeError) as error:
        raise UserError(f"the preprocessing settings cannot be read: {error}", where="preprocess") from error
    return made
