"""Parameters and multiply-adds of networks, residual ones and VGG-16, computed from their layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from restune.networks.describe import describe
from restune.networks.spec import ResNetSpec


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Args:
        parameters: all of them.
        linear: those of linear layers.
        multiply_adds: of one forward pass on one image.
    """

    parameters: int
    linear: int
    multiply_adds: int


def cost_of(spec: ResNetSpec, size: int) -> Cost:
    """Return the cost of a residual network for square images.

    >>> from restune.networks.zoo import find
    >>> cost_of(find("resnet50").spec, 224)
    Cost(parameters=25557032, linear=2049000, multiply_adds=4089184256)
    """
    found = describe(spec, size)
    linear = (spec.num_features + 1) * spec.num_classes
    return Cost(found.parameters, linear, found.flops)


_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG-16's 3x3 convolutions; a max pool halves the resolution after each group."""
_VGG16_LINEAR = (512 * 7 * 7, 4096, 4096, 1000)


def _vgg16() -> Cost:
    """Return VGG-16's cost at 224 pixels (Simonyan and Zisserman 2015, table 1, configuration D)."""
    parameters = multiply_adds = 0
    before, side = 3, 224
    for group in _VGG16:
        for after in group:
            weights = 9 * before * after
            parameters += weights + after  # with biases
            multiply_adds += weights * side**2
            before = after
        side //= 2
    products = sum(one * other for one, other in pairwise(_VGG16_LINEAR))
    linear = products + sum(_VGG16_LINEAR[1:])
    return Cost(parameters + linear, linear, multiply_adds + products)


VGG16 = _vgg16()


def with_global_pool(vgg: Cost) -> Cost:
    """Return VGG-16's cost with global average pooling and one linear layer, as in residual networks."""
    old = sum(one * other for one, other in pairwise(_VGG16_LINEAR))
    new = _VGG16[-1][-1] * _VGG16_LINEAR[-1]
    linear = new + _VGG16_LINEAR[-1]
    return replace(
        vgg, parameters=vgg.parameters - vgg.linear + linear, linear=linear, multiply_adds=vgg.multiply_adds - old + new
    )
