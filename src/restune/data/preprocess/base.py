"""The interface of preprocessing for every kind of data, and the recipe settings that it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from restune.data.augment import Augment, RandomKey
    from restune.data.dataset import Item
    from restune.data.preprocess.text_draft import TextDraft


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """A recipe's settings of the network's input.

    Args:
        image_size: side of the square input image or frame, pixels; None: the default.
        in_channels: the network's input channels if the recipe sets them; None: those of the data or the weights.
        weights_channels: input channels of the initial weights.
        section: the recipe's section for this kind of data, such as ``signal``.
        encoding: encoding of text files; None: detected for each file.
        from_weights: whether the network starts from weights; their preprocessing is then used.
    """

    image_size: int | None = None
    in_channels: int | None = None
    weights_channels: int | None = None
    section: Mapping[str, Any] = field(default_factory=dict)
    encoding: str | None = None
    from_weights: bool = False


class Preprocess(Protocol):
    """Converts an item's content to the network's input; serialisable.

    A *sample* is one item as a compact tensor: an image is uint8 ``[C, H, W]``, a series float32 ``[C, L]``, a text
    int32 tokens ``[L]``, a clip uint8 ``[C, T, H, W]``. A *batch* is several samples stacked, padded if lengths
    differ. A *whole* is the decoded item before it is cropped: random training views are cut from it.
    """

    @property
    def kind(self) -> str:
        """Name of the kind of data: ``image``, ``signal``, ``text`` or ``video``."""
        ...

    @property
    def channels(self) -> int:
        """Input channels of the network; 1 for texts."""
        ...

    @property
    def image_size(self) -> int | None:
        """Side of the square network input, pixels; None for series and texts."""
        ...

    @property
    def has_fixed_shape(self) -> bool:
        """Whether all samples have the same shape."""
        ...

    def apply(self, content: Any) -> Tensor:
        """Return the sample used at inference. Raises `DecodeError`."""
        ...

    def views(self, content: Any, mode: str) -> Tensor:
        """Return the evaluation views ``[V, *sample]`` of an item. Raises `DecodeError`.

        Args:
            mode: one of the kind's `view_modes`; ``single`` is one view, the same as `apply`.
        """
        ...

    def cost(self, mode: str) -> int:
        """Estimate the memory of a forward pass over one item's views, as a multiple of one image's."""
        ...

    def whole(self, content: Any) -> Tensor:
        """Decode the whole item, from which training views are cut. Raises `DecodeError`."""
        ...

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """Return the whole if its size in bytes fits; else None, after checking that the content can be read.

        Raises `DecodeError`.
        """
        ...

    def view(self, whole: Tensor) -> Tensor:
        """Return the inference sample of a whole."""
        ...

    def needs_wholes(self, augment: Augment) -> bool:
        """Return whether training views are cut from wholes rather than made from inference samples."""
        ...

    def training_source(
        self, cached: Tensor | None, read: Callable[[], Tensor], content: Callable[[], Any], key: RandomKey
    ) -> Tensor:
        """Return the tensor of one item that `training_views` starts from: a whole, an inference sample, or a clip.

        Args:
            cached: the item's tensor if it is in memory, else None.
            read: decodes the item to a whole or an inference sample.
            content: reads the item's content without decoding it.
            key: random key of this item only.

        Raises `DecodeError`, OSError.
        """
        ...

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """Return a batch of randomly augmented samples: a pure function of sources, augmentation and key.

        Args:
            sources: one per item, from `training_source`.
            augment: the augmentation.
            key: random key of the batch.
        """
        ...

    def fit(self, items: Sequence[Item], settings: InputSettings) -> Preprocess:
        """Return a copy fitted to the training items: with a vocabulary, or each channel's mean and deviation."""
        ...

    def draft(self) -> TextDraft | None:
        """Return what makes samples until the preprocessing is fitted, if that differs from `apply`; else None."""
        ...

    def spec_fields(self) -> dict[str, Any]:
        """Return the `ResNetSpec` fields that this input determines."""
        ...

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """Stack samples to one batch; shorter ones are padded at the end."""
        ...

    def inputs(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the network's input, on the batch's device, and its mask ``[N, L]``: True for data, False for padding;
        None if nothing is padded."""
        ...

    def with_channels(self, channels: int) -> Preprocess:
        """Return a copy for another number of input channels."""
        ...

    @property
    def override(self) -> Callable[..., Preprocess]:
        """Function that takes settings by name and returns a copy with them changed; None leaves a setting unchanged.
        Raises UserError for an unknown setting."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `stored.preprocess_from_dict` is the inverse."""
        ...
