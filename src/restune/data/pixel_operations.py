"""The operations of TrivialAugment and RandAugment on uint8 pixels, bit for bit as torchvision's kernels do them.

They stand here in plain torch because importing torchvision takes longer than most commands. Every function takes and
returns uint8 ``[..., C, H, W]`` and treats the leading dimensions (the frames of a clip) as a batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample


def adjust_brightness(image: Tensor, factor: float) -> Tensor:
    """Multiply by `factor`: 0 is black, 1 the image."""
    return image.mul(factor).clamp_(0, 255).to(torch.uint8)


def adjust_saturation(image: Tensor, factor: float) -> Tensor:
    """Blend RGB with its luma: 0 is grey, 1 the image."""
    return _blend(image, _luma(image), factor)


def adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """Blend with the mean luma, or with the mean of all channels where they are not three: 1 is the image."""
    grey = _luma(image) if image.shape[-3] == 3 else image.to(torch.float32)
    return _blend(image, torch.mean(grey, dim=(-3, -2, -1), keepdim=True), factor)


def adjust_sharpness(image: Tensor, factor: float) -> Tensor:
    """Blend with a blurred copy: 0 is blurred, 1 the image, 2 sharpened; the outermost pixels stay."""
    channels, height, width = image.shape[-3:]
    if height <= 2 or width <= 2:
        return image
    a, b = 1.0 / 13.0, 5.0 / 13.0
    kernel = torch.tensor([[a, a, a], [a, b, a], [a, a, a]], device=image.device).expand(channels, 1, 3, 3)
    sharpened = image.to(torch.float32).flatten(0, -4) if image.ndim > 4 else image.to(torch.float32)
    blurred = conv2d(sharpened, kernel, groups=channels).round_()
    inner = sharpened[..., 1:-1, 1:-1]
    inner.add_(blurred.sub_(inner), alpha=1.0 - factor)
    return sharpened.clamp_(0, 255).to(torch.uint8).view(image.shape)


def posterize(image: Tensor, bits: int) -> Tensor:
    """Keep the highest `bits` of each value."""
    return image if bits >= 8 else image & ((1 << bits) - 1 << 8 - bits)


def solarize(image: Tensor, threshold: float) -> Tensor:
    """Invert the values from `threshold` on."""
    return torch.where(image >= threshold, image.bitwise_not(), image)


def autocontrast(image: Tensor) -> Tensor:
    """Stretch each channel to 0..255; one of a single value stays."""
    pixels = image.to(torch.float32)
    low = pixels.amin(dim=(-2, -1), keepdim=True)
    high = pixels.amax(dim=(-2, -1), keepdim=True)
    flat = high == low
    scale = high.sub_(low).mul_(1.0 / 255)
    low[flat], scale[flat] = 0.0, 1.0
    return pixels.sub_(low).div_(scale).clamp_(0, 255).to(torch.uint8)


def equalize(image: Tensor) -> Tensor:
    """Make each channel's histogram flat, with Pillow's rounding; one with too few values stays."""
    flat = image.flatten(start_dim=-2).to(torch.long)
    histogram = flat.new_zeros((*image.shape[:-2], 256), dtype=torch.int32)
    histogram.scatter_add_(dim=-1, index=flat, src=histogram.new_ones(1).expand_as(flat))
    cumulative = histogram.cumsum(dim=-1)
    brightest = cumulative.argmax(dim=-1, keepdim=True)
    step = (flat.shape[-1] - histogram.gather(dim=-1, index=brightest)).div_(255, rounding_mode="floor")
    # A value is looked up by how many pixels are darker than it.
    darker = cumulative[..., :-1].add(step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    table = torch.nn.functional.pad(darker.to(torch.uint8), (1, 0))
    return torch.where(step.ne(0).unsqueeze(-1), table.gather(dim=-1, index=flat).view_as(image), image)


def rotate(image: Tensor, angle: float) -> Tensor:
    """Turn counter-clockwise by `angle` degrees around the centre; black where nothing was."""
    angle %= 360
    if angle == 0:
        return image.clone()
    if angle == 180 or (angle in (90, 270) and image.shape[-1] == image.shape[-2]):
        return torch.rot90(image, k=int(angle) // 90, dims=(-2, -1))
    return _resample(image, _inverse_affine((0.0, 0.0), -angle, (0.0, 0.0), (0.0, 0.0)))


def translate(image: Tensor, x: int, y: int) -> Tensor:
    """Move by whole pixels right and down; black where nothing was."""
    return _resample(image, _inverse_affine((0.0, 0.0), 0.0, (float(x), float(y)), (0.0, 0.0)))


def shear(image: Tensor, x: float, y: float) -> Tensor:
    """Shear by angles in degrees; the top left corner stays, as in the AutoAugment paper's code."""
    height, width = image.shape[-2:]
    return _resample(image, _inverse_affine((-width / 2, -height / 2), 0.0, (0.0, 0.0), (x, y)))


def _luma(image: Tensor) -> Tensor:
    """float32 ``[..., 1, H, W]`` of whole numbers."""
    red, green, blue = image.unbind(dim=-3)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze(dim=-3).floor_()


def _blend(image: Tensor, other: Tensor, ratio: float) -> Tensor:
    return image.mul(ratio).add_(other, alpha=1.0 - ratio).clamp_(0, 255).to(torch.uint8)


def _inverse_affine(
    center: tuple[float, float], angle: float, translate: tuple[float, float], shear: tuple[float, float]
) -> list[float]:
    """The six numbers that lead from a pixel to where it came from; places count from the image's centre."""
    rotation, (shear_x, shear_y) = math.radians(angle), map(math.radians, shear)
    (cx, cy), (tx, ty) = center, translate
    a = math.cos(rotation - shear_y) / math.cos(shear_y)
    b = -(a * math.tan(shear_x) + math.sin(rotation))
    c = math.sin(rotation - shear_y) / math.cos(shear_y)
    d = math.cos(rotation) - c * math.tan(shear_x)
    x, y = cx + tx, cy + ty
    return [d, -b, cx - d * x + b * y, -c, a, cy + c * x - a * y]


def _resample(image: Tensor, matrix: list[float]) -> Tensor:
    """Take each pixel from the nearest to where `matrix` says it came from."""
    height, width = image.shape[-2:]
    theta = torch.tensor(matrix, device=image.device).reshape(1, 2, 3)
    base = torch.ones(1, height, width, 3, device=image.device)
    base[..., 0] = torch.linspace((1.0 - width) * 0.5, (width - 1.0) * 0.5, steps=width, device=image.device)
    rows = torch.linspace((1.0 - height) * 0.5, (height - 1.0) * 0.5, steps=height, device=image.device)
    base[..., 1] = rows.unsqueeze(-1)
    halves = torch.tensor([0.5 * width, 0.5 * height], device=image.device)
    grid = base.view(1, height * width, 3).bmm(theta.transpose(1, 2).div(halves)).view(1, height, width, 2)
    batch = image.reshape(-1, *image.shape[-3:]).to(torch.float32)
    taken = grid_sample(
        batch, grid.expand(len(batch), -1, -1, -1), mode="nearest", padding_mode="zeros", align_corners=False
    )
    return taken.round_().to(torch.uint8).reshape(image.shape)
