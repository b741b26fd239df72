"""Features of images without a trained network: responses of random whitened patches (Coates & Ng 2011).

Patches drawn from the images themselves, normalised and whitened, are the filters of one convolution; its responses are
thresholded on both sides and averaged over the quadrants. A linear classifier on them reaches on small images about
what a small trained network does on a few thousand items, in seconds and without labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32
"""Side to which images are resized, pixels."""
_PATCH = 6
_MOST_FILTERS, _LEAST_FILTERS = 384, 64
_BUDGET = 2_560_000
"""Images times filters (about a minute on two cores): many images get fewer filters, since many labels make up."""
_SAMPLED = 20_000
_THRESHOLD = 0.25
"""Response below which a filter is silent; from Coates & Ng 2011."""
_NORMALISER = 10.0
"""Added to a patch's variance (grey levels squared), so that noise in flat areas is not amplified."""
_WHITENING = 0.1
_COMPONENTS, _MANY_COMPONENTS = 512, 256
"""Principal components of up to 20,000 images, and of more."""
_MANY = 20_000
_FITTED_ON = 5_000
"""Images from which the principal components are computed."""
_BATCH = 64


@dataclass(frozen=True)
class Filters:
    """One convolution with local contrast normalisation.

    Args:
        weight: ``[K, C, 6, 6]``, of mean 0, whitening included.
        offset: ``[K]``, subtracted from the responses.
        stride: of the convolution.
    """

    weight: Tensor
    offset: Tensor
    stride: int = 1

    def __call__(self, images: Tensor) -> Tensor:
        """Return thresholded responses averaged over quadrants: uint8 ``[N, C, H, W]`` to ``[N, 8 K]``."""
        pixels = images.float()
        mean = F.avg_pool2d(pixels.mean(1, keepdim=True), _PATCH, self.stride)
        square = F.avg_pool2d(pixels.square().mean(1, keepdim=True), _PATCH, self.stride)
        scale = (square - mean.square()).clamp_min_(0).add_(_NORMALISER).rsqrt_()
        responses = F.conv2d(pixels, self.weight, stride=self.stride).mul_(scale)
        responses = F.softshrink(responses.sub_(self.offset[:, None, None]), _THRESHOLD)
        signed = F.adaptive_avg_pool2d(responses, 2)  # the two sides' difference; below their sum
        return torch.cat([signed, F.adaptive_avg_pool2d(responses.abs_(), 2)], 1).flatten(1)


def patch_features(images: Tensor, seed: int = 0) -> Tensor:
    """Return the principal components of the patch responses, each item's row float32 ``[N, at most 512]``.

    Args:
        images: uint8 ``[N, C, 32, 32]``.
        seed: of the patches.

    Source: Coates & Ng, The Importance of Encoding Versus Training with Sparse Coding and Vector Quantization, 2011.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        filters = fitted_filters(images, random)
        chosen = torch.randperm(len(images), generator=random)[:_FITTED_ON]
        sample = torch.cat(list(_batches(images[chosen], filters)))
        center, scale = sample.mean(0), sample.std(0, unbiased=False)
        scale = (scale + 0.01 * scale.mean()).clamp_min(1e-12)
        most = _COMPONENTS if len(images) <= _MANY else _MANY_COMPONENTS
        components = _components((sample - center) / scale, most, seed)
        rows = torch.empty(len(images), components.shape[1])
        for start, part in enumerate(_batches(images, filters)):
            rows[start * _BATCH : start * _BATCH + len(part)] = ((part - center) / scale) @ components
        return rows.div_(rows.std().clamp_min(1e-12))


def fitted_filters(images: Tensor, random: torch.Generator) -> Filters:
    """Draw patches of the images, whiten them (ZCA), and return some of them, of unit length, as filters."""
    count = max(_LEAST_FILTERS, min(_MOST_FILTERS, _BUDGET // len(images)))
    stride = 1 if count * len(images) <= _BUDGET else 2
    patches = _patches(images, random)
    patches = patches - patches.mean(1, keepdim=True)
    patches = patches / (patches.var(1, unbiased=False, keepdim=True) + _NORMALISER).sqrt()
    center = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - center).T @ (patches - center) / len(patches))
    whiten = vectors @ torch.diag((values.clamp_min(0) + _WHITENING).rsqrt()) @ vectors.T
    chosen = (patches[torch.randperm(len(patches), generator=random)[:count]] - center) @ whiten
    weight = F.normalize(chosen, dim=1) @ whiten
    offset, weight = weight @ center, weight - weight.mean(1, keepdim=True)
    return Filters(weight.view(len(weight), images.shape[1], _PATCH, _PATCH), offset, stride)


def _patches(images: Tensor, random: torch.Generator) -> Tensor:
    """Return random patches, flattened, float32 ``[20000, C * 6 * 6]``."""
    room = images.shape[-1] - _PATCH + 1
    which = torch.randint(len(images), (_SAMPLED,), generator=random)
    corners = torch.randint(room, (2, _SAMPLED), generator=random)
    reach = torch.arange(_PATCH)
    rows = (corners[0][:, None] + reach)[:, :, None]
    columns = (corners[1][:, None] + reach)[:, None, :]
    cut = images[which[:, None, None], :, rows, columns]  # [20000, 6, 6, C]
    return cut.permute(0, 3, 1, 2).flatten(1).float()


def _components(sample: Tensor, most: int, seed: int) -> Tensor:
    """Return the first principal components ``[D, at most most]`` of centred rows."""
    count = min(most, *sample.shape)
    if count < most:
        whole: Tensor = torch.linalg.svd(sample, full_matrices=False).Vh
        return whole[:count].T
    with torch.random.fork_rng(devices=[]):  # svd_lowrank has no generator of its own
        torch.manual_seed(seed)
        components: Tensor = torch.svd_lowrank(sample, count + 20, niter=2)[2][:, :count]
        return components


def _batches(images: Tensor, filters: Filters) -> Iterator[Tensor]:
    for start in range(0, len(images), _BATCH):
        yield filters(images[start : start + _BATCH])
