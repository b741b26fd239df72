"""Images: decode, resize, crop the centre, normalise."""

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
    """Decode, resize, crop the centre, scale to 0..1, normalise: torchvision's evaluation transform.

    Args:
        crop: side of the square that the network sees, pixels.
        resize: the shorter side is resized to this, then the centre is cropped; None: the whole image is
            resized to ``crop x crop``, whatever its shape.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``, with antialiasing.
        mean, std: one number a channel, on the 0..1 scale; their length is the number of channels.

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

    @property
    def image_size(self) -> int:
        """Side of the square that the network sees, pixels."""
        return self.crop

    @property
    def has_fixed_shape(self) -> bool:
        """All samples are squares of one size."""
        return True

    def apply(self, content: bytes | NDArray[np.generic]) -> Tensor:
        """uint8 ``[C, crop, crop]`` from an encoded image or an array. Raises `decode.DecodeError`."""
        from restune.data.decode import decode_image
        from restune.data.resize import resize_and_crop

        def fewer(pixels: Tensor) -> Tensor:
            return resize_and_crop(pixels, self.resize, self.crop, self.interpolation)

        return decode_image(content, self.channels, then=fewer)

    def views(self, content: bytes | NDArray[np.generic], mode: str) -> Tensor:
        """uint8 ``[V, C, crop, crop]``. Raises `decode.DecodeError`.

        Args:
            mode: ``single``; ``flip``: that and its mirror image; ``five-crop``: corners and centre of the resized
                image (Krizhevsky et al. 2012), which is resized to 8/7 of the crop where there is no margin.
        """
        import torch

        from restune.data.decode import decode_image

        if mode == "five-crop":
            return decode_image(content, self.channels, then=self._five_crops)
        single = self.apply(content)
        return torch.stack([single, single.flip(-1)]) if mode == "flip" else single.unsqueeze(0)

    def cost(self, mode: str) -> int:
        """One image per view."""
        return {"single": 1, "flip": 2, "five-crop": 5}[mode]

    def whole(self, content: bytes | NDArray[np.generic]) -> Tensor:
        """uint8 ``[C, H, W]``: the whole image. Raises `decode.DecodeError`."""
        from restune.data.decode import decode_image

        return decode_image(content, self.channels)

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """`whole` where so many bytes fit; else None. Raises DecodeError."""
        whole = self.whole(content)
        return whole if fits(whole.nbytes) else None

    def view(self, whole: Tensor) -> Tensor:
        """``[C, H, W]`` to ``[C, crop, crop]``."""
        from restune.data.resize import resize_and_crop

        return resize_and_crop(whole, self.resize, self.crop, self.interpolation)

    def needs_wholes(self, augment: Augment) -> bool:
        """Random resized crops are cut from whole images, everything else is done on the inference crop."""
        return augment.crop_scale is not None

    def training_source(
        self,
        kept: Tensor | None,
        read: Callable[[], Tensor],
        content: Callable[[], Any],  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> Tensor:
        """The image, from memory or read."""
        return read() if kept is None else kept

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """uint8 ``[N, C, crop, crop]``, augmented."""
        from restune.data.augment import augment_pixels, random_crops

        if augment.crop_scale is not None:
            images = random_crops(sources, augment, self.crop, self.interpolation, key)
        else:
            images = self.stack(sources)
        return augment_pixels(images, augment, key)

    def fit(self, items: Sequence[Item], settings: InputSettings) -> ImagePreprocess:  # noqa: ARG002
        """The same: mean and std are the weights', or ImageNet's."""
        return self

    def spec_fields(self) -> dict[str, Any]:
        """The network's input channels."""
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
        """Plain values; `stored.preprocess_from_dict` is its inverse."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def __str__(self) -> str:
        size = f"{self.crop} pixels"
        how = "whole image" if self.resize is None else f"shorter side to {self.resize}, centre crop"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{size} ({how}, {self.interpolation}), mean {mean}, std {std}"


PREPROCESS = ImagePreprocess


def default_preprocess(spec: ResNetSpec, crop: int | None, resize: int | None) -> ImagePreprocess:
    """The zoo entry's crop, else 224 of 256 pixels; ImageNet's mean and std."""
    crop, resize = (crop, resize) if crop else (224, 256)
    return ImagePreprocess(crop=crop, resize=resize).with_channels(spec.in_channels)


def initial_preprocess(base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:
    """The weights' or the zoo's, for the data's channels and the recipe's size."""
    assert base is not None
    channels = settings.in_channels or array_channels(dataset) or settings.weights_channels or base.channels
    return base.with_channels(channels).override(image_size=settings.image_size)


def array_channels(dataset: Dataset) -> int | None:
    """Channels of a source whose items are arrays with more than colours; None where files are decoded to RGB."""
    from restune.data.dataset import ArrayLocation

    location = dataset.items[0].location
    if not isinstance(location, ArrayLocation):
        return None
    first = location.read()
    return None if first.ndim == 2 or first.shape[2] in (1, 3, 4) else int(first.shape[2])
