"""What every kind of preprocessing can do, and how one is made from what a model's file says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from restune.data.augment import Augment, RandomKey
    from restune.data.dataset import Item


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """A recipe's settings of the network's input.

    Args:
        image_size: side of the square of images and frames, pixels; None: the default.
        in_channels: of the network, where the recipe sets them; None: as the data or the weights have.
        weights_channels: input channels of the weights that the network starts from.
        section: the kind's own section of the recipe.
        encoding: of text files; None: each file's own.
        from_weights: whether the network starts from weights, whose preprocessing then holds.
    """

    image_size: int | None = None
    in_channels: int | None = None
    weights_channels: int | None = None
    section: Mapping[str, Any] = field(default_factory=dict)
    encoding: str | None = None
    from_weights: bool = False


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

    @property
    def image_size(self) -> int | None:
        """Side of the square that the network sees, pixels; None of series and texts."""
        ...

    @property
    def has_fixed_shape(self) -> bool:
        """Whether all samples have the same shape."""
        ...

    def apply(self, content: Any) -> Tensor:
        """The sample that the network sees at inference. Raises `DecodeError`."""
        ...

    def views(self, content: Any, mode: str) -> Tensor:
        """Evaluation views ``[V, *sample]`` of an item; ``single`` is one, `apply`'s. Raises `DecodeError`.

        Args:
            mode: one of the kind's `view_modes`.
        """
        ...

    def cost(self, mode: str) -> int:
        """How many times the memory of a single image an item takes in a forward pass over its views, roughly."""
        ...

    def whole(self, content: Any) -> Tensor:
        """All that training views are cut from. Raises `DecodeError`."""
        ...

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """The whole where so many bytes fit; else None, once it is clear that the content can be read.

        Raises `DecodeError`.
        """
        ...

    def view(self, whole: Tensor) -> Tensor:
        """The inference sample of a whole."""
        ...

    def needs_wholes(self, augment: Augment) -> bool:
        """Whether training views are cut from wholes, rather than made of inference samples."""
        ...

    def training_source(
        self, kept: Tensor | None, read: Callable[[], Tensor], content: Callable[[], Any], key: RandomKey
    ) -> Tensor:
        """The tensor of one item that `training_views` starts from: a whole, an inference sample, or a clip.

        Args:
            kept: the item in memory; None where it is not.
            read: reads it, as a whole or as an inference sample.
            content: reads its content, not decoded.
            key: of this item alone. Raises `DecodeError`, OSError.
        """
        ...

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """A batch of samples, augmented at random: a pure function of content and key.

        Args:
            sources: one per item, from `training_source`.
            key: of the batch.
        """
        ...

    def fit(self, items: Sequence[Item], settings: InputSettings) -> Preprocess:
        """The same with what only training items may tell: a vocabulary, the mean and spread of channels."""
        ...

    def spec_fields(self) -> dict[str, Any]:
        """Fields of the network's spec that follow from this input."""
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
        """Plain values; `stored.preprocess_from_dict` is its inverse."""
        ...
