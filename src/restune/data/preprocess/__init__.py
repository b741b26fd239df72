"""Convert an item's content to the network's input, by settings stored in the model; one module per kind of data."""

from __future__ import annotations

from restune.data.preprocess.base import InputSettings, Preprocess
from restune.data.preprocess.image import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS, ImagePreprocess
from restune.data.preprocess.stored import preprocess_from_dict

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INTERPOLATIONS",
    "ImagePreprocess",
    "InputSettings",
    "Preprocess",
    "preprocess_from_dict",
]
