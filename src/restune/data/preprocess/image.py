"""Preprocess images: decode, resize, centre-crop, normalise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError, did_you_mean
from restune.data.preprocess.settings import averaged, framed, per_channel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from restune.data.augment import Augment, RandomKey
    from restune.data.dataset import Dataset, Item
    from restune.data.preprocess.base import InputSettings, Preprocess
    from restune.networks.spec import ResNetSpec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class ImagePreprocess:
    """Decode, resize, centre-crop, scale to 0..1, normalise: torchvision's evaluation transform.

    Args:
        crop: side of the square network input, pixels.
        resize: shorter side of the image before the centre crop, pixels; None: the whole image is resized to
            ``crop x crop``, whatever its aspect ratio.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``, with antialiasing.
        mean, std: one value per channel, for pixels in 0..1; their length is the number of channels.

    >>> preprocess = restune.ImagePreprocess(crop=224, resize=256)
    >>> preprocess.apply(photo.read_bytes()).shape
    torch.Size([3, 224, 224])
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
            raise UserError(f"sizes must be whole numbers of pixels, not {sizes}", where="preprocess")
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
            raise UserError("mean and std need one value per channel", where="--mean, --std")
        if any(value < 1e-6 for value in self.std):
            raise UserError("every std must be above 0.000001", where="--std")

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return len(self.mean)

    @property
    def image_size(self) -> int:
        """Side of the square network input, pixels."""
        return self.crop

    @property
    def has_fixed_shape(self) -> bool:
        """True: all samples are squares of the same size."""
        return True

    def apply(self, content: bytes | NDArray[np.generic]) -> Tensor:
        """Convert an encoded image or an array to uint8 ``[C, crop, crop]``. Raises `decode.DecodeError`."""
        from restune.data.decode import decode_image
        from restune.data.resize import resize_and_crop

        def shrink(pixels: Tensor) -> Tensor:
            return resize_and_crop(pixels, self.resize, self.crop, self.interpolation)

        return decode_image(content, self.channels, then=shrink)

    def views(self, content: bytes | NDArray[np.generic], mode: str) -> Tensor:
        """Return the evaluation views, uint8 ``[V, C, crop, crop]``. Raises `decode.DecodeError`.

        Args:
            mode: ``single``: the centre crop; ``flip``: the centre crop and its mirror image; ``five-crop``: corners
                and centre of the image (Krizhevsky et al. 2012), resized to `resize`, or 8/7 of the crop if it is None.
        """
        import torch

        from restune.data.decode import decode_image

        if mode == "five-crop":
            return decode_image(content, self.channels, then=self._five_crops)
        single = self.apply(content)
        return torch.stack([single, single.flip(-1)]) if mode == "flip" else single.unsqueeze(0)

    def cost(self, mode: str) -> int:
        """Return the number of views."""
        return {"single": 1, "flip": 2, "five-crop": 5}[mode]

    def whole(self, content: bytes | NDArray[np.generic]) -> Tensor:
        """Decode the whole image to uint8 ``[C, H, W]``. Raises `decode.DecodeError`."""
        from restune.data.decode import decode_image

        return decode_image(content, self.channels)

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """Return `whole` if its size in bytes fits, else None. Raises DecodeError."""
        whole = self.whole(content)
        return whole if fits(whole.nbytes) else None

    def view(self, whole: Tensor) -> Tensor:
        """Resize and crop ``[C, H, W]`` to ``[C, crop, crop]``."""
        from restune.data.resize import resize_and_crop

        return resize_and_crop(whole, self.resize, self.crop, self.interpolation)

    def needs_wholes(self, augment: Augment) -> bool:
        """Return whether random resized crops are on: only they are cut from whole images, not the inference crop."""
        return augment.crop_scale is not None

    def training_source(
        self,
        cached: Tensor | None,
        read: Callable[[], Tensor],
        content: Callable[[], Any],  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> Tensor:
        """Return the image, from memory or read."""
        return read() if cached is None else cached

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """Return the augmented batch, uint8 ``[N, C, crop, crop]``."""
        from restune.data.augment import augment_pixels, random_crops

        if augment.crop_scale is not None:
            images = random_crops(sources, augment, self.crop, self.interpolation, key)
        else:
            images = self.stack(sources)
        return augment_pixels(images, augment, key)

    def fit(self, items: Sequence[Item], settings: InputSettings) -> ImagePreprocess:  # noqa: ARG002
        """Return this preprocessing unchanged: mean and std are those of the weights or of ImageNet."""
        return self

    def draft(self) -> None:
        """Return None: items are decoded alike before and after `fit`."""

    def spec_fields(self) -> dict[str, Any]:
        """Return the network's input channels."""
        return {"in_channels": self.channels}

    def _five_crops(self, pixels: Tensor) -> Tensor:
        import torch

        from restune.data.resize import resize_shorter_side, resize_to

        size = self.crop
        margin = self.resize or max(size, round(size * 8 / 7))
        if self.resize is None:
            resized = resize_to(pixels, margin, margin, self.interpolation)
        else:
            resized = resize_shorter_side(pixels, margin, self.interpolation)
        height, width = resized.shape[-2:]
        top, left = round((height - size) / 2.0), round((width - size) / 2.0)
        corners = [(0, 0), (0, width - size), (height - size, 0), (height - size, width - size), (top, left)]
        return torch.stack([resized[:, y : y + size, x : x + size] for y, x in corners])

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """Stack samples to uint8 ``[N, C, crop, crop]``."""
        import torch

        return torch.stack(list(samples))

    def inputs(self, batch: Tensor) -> tuple[Tensor, None]:
        """Return the normalised images and no mask, since images are not padded."""
        return self.normalize(batch), None

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise uint8 images to float32 ``[N, C, H, W]``, on their device."""
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
        """Return a copy with some settings changed.

        Args:
            image_size: new `crop`; `resize` keeps its ratio to it.
            crop: share of the resized shorter side that the centre crop keeps, as timm's crop_pct; 0: no crop,
                the whole image is resized to the square.
            interpolation, mean, std: as the fields; a single number applies to all channels.
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
        """Return a copy for another number of channels, each with the average of the present mean and std."""
        return replace(self, mean=averaged(self.mean, channels), std=averaged(self.std, channels))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `stored.preprocess_from_dict` is the inverse."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def __str__(self) -> str:
        size = f"{self.crop} pixels"
        how = "whole image" if self.resize is None else f"shorter side to {self.resize}, centre crop"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{size} ({how}, {self.interpolation}), mean {mean}, std {std}"


PREPROCESS = ImagePreprocess


def default_preprocess(spec: ResNetSpec, crop: int | None, resize: int | None) -> ImagePreprocess:
    """Return the zoo entry's crop, else a 224-pixel crop of 256 pixels, with ImageNet's mean and std."""
    crop, resize = (crop, resize) if crop else (224, 256)
    return ImagePreprocess(crop=crop, resize=resize).with_channels(spec.in_channels)


def initial_preprocess(base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:
    """Return the preprocessing of the weights or the zoo, with the data's channels and the recipe's image size."""
    assert base is not None
    channels = settings.in_channels or array_channels(dataset) or settings.weights_channels or base.channels
    return base.with_channels(channels).override(image_size=settings.image_size)


def array_channels(dataset: Dataset) -> int | None:
    """Return the channels of array items that are not greyscale, RGB or RGBA; None for those and for image files."""
    from restune.data.dataset import ArrayLocation

    location = dataset.items[0].location
    if not isinstance(location, ArrayLocation):
        return None
    first = location.read()
    return None if first.ndim == 2 or first.shape[2] in (1, 3, 4) else int(first.shape[2])
