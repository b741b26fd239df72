"""Images: decode, resize, crop the centre, normalise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError, did_you_mean
from restune.data.preprocess.settings import averaged, framed, per_channel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class ImagePreprocess:
    """Decode, resize, crop the centre, scale to 0..1, normalise: torchvision's evaluation transform.

    Args:
        crop: side of the square that the network sees, pixels.
        resize: the shorter side is resized to this, then the centre is cropped; None: the whole image is
            resized to ``crop x crop``, whatever its shape.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``, with antialiasing.
        mean, std: one number a channel, on the 0..1 scale; their length is the number of channels.
    """

    crop: int
    resize: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    kind: str = "image"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            hint = did_you_mean(self.interpolation, INTERPOLATIONS) or f"one of {', '.join(INTERPOLATIONS)}"
            raise UserError(f"unknown interpolation {self.interpolation!r}", where="--interpolation", fix=hint)
        sizes = (self.crop,) if self.resize is None else (self.crop, self.resize)
        if not all(isinstance(size, int) for size in sizes):
            raise UserError(f"sizes are whole numbers of pixels, not {sizes}", where="preprocess")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise UserError("mean and std must be finite", where="--mean, --std")
        if not 1 <= self.crop <= 4096:
            raise UserError(f"the image size must be 1 to 4096 pixels, not {self.crop}", where="--image-size")
        if self.resize is not None and not self.crop <= self.resize <= 2 * 4096:
            raise UserError(
                f"a crop of {self.crop} pixels does not fit in images resized to {self.resize}",
                where="preprocess",
            )
        if len(self.mean) != len(self.std) or not self.mean:
            raise UserError("mean and std need one number a channel each", where="--mean, --std")
        if any(value < 1e-6 for value in self.std):
            raise UserError("every std must be above 0.000001", where="--std")

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)

    def apply(self, content: bytes | NDArray[np.generic]) -> Tensor:
        """uint8 ``[C, crop, crop]`` from an encoded image or an array. Raises `decode.DecodeError`."""
        from restune.data.decode import decode_image
        from restune.data.resize import resize_and_crop

        def fewer(pixels: Tensor) -> Tensor:
            return resize_and_crop(pixels, self.resize, self.crop, self.interpolation)

        return decode_image(content, self.channels, then=fewer)

    def whole(self, content: bytes | NDArray[np.generic]) -> Tensor:
        """uint8 ``[C, H, W]``: the whole image. Raises `decode.DecodeError`."""
        from restune.data.decode import decode_image

        return decode_image(content, self.channels)

    def view(self, whole: Tensor) -> Tensor:
        """``[C, H, W]`` to ``[C, crop, crop]``."""
        from restune.data.resize import resize_and_crop

        return resize_and_crop(whole, self.resize, self.crop, self.interpolation)

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """uint8 ``[N, C, crop, crop]``."""
        import torch

        return torch.stack(list(samples))

    def inputs(self, batch: Tensor) -> tuple[Tensor, None]:
        """The normalised images; nothing of them is padding."""
        return self.normalize(batch), None

    def normalize(self, images: Tensor) -> Tensor:
        """float32 ``[N, C, H, W]``, normalised, from uint8, on the device the batch is on."""
        import torch

        shape = (1, self.channels, 1, 1)
        mean = torch.tensor(self.mean, device=images.device).view(shape)
        std = torch.tensor(self.std, device=images.device).view(shape)
        return images.float().div_(255).sub_(mean).div_(std)

    def override(
        self,
        *,
        image_size: int | None = None,
        crop: float | None = None,
        interpolation: str | None = None,
        mean: float | tuple[float, ...] | None = None,
        std: float | tuple[float, ...] | None = None,
    ) -> ImagePreprocess:
        """A copy with some settings changed.

        Args:
            image_size: new `crop`; `resize` keeps its ratio to it.
            crop: share of the resized shorter side that the centre crop keeps, as timm's crop_pct; 0: no crop,
                the whole image is resized to the square.
            interpolation, mean, std: as the fields. One number stands for all channels.
        """
        side, resize = framed(self.crop, self.resize, image_size, crop)
        return replace(
            self,
            crop=side,
            resize=resize,
            interpolation=self.interpolation if interpolation is None else interpolation,
            mean=self.mean if mean is None else per_channel(mean, self.channels, "--mean"),
            std=self.std if std is None else per_channel(std, self.channels, "--std"),
        )

    def with_channels(self, channels: int) -> ImagePreprocess:
        """The same for another number of channels: their mean and std are the average over the present ones."""
        return replace(self, mean=averaged(self.mean, channels), std=averaged(self.std, channels))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `base.from_dict` is its inverse."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def __str__(self) -> str:
        size = f"{self.crop} pixels"
        how = "whole image" if self.resize is None else f"shorter side to {self.resize}, centre crop"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{size} ({how}, {self.interpolation}), mean {mean}, std {std}"
