"""What turns an item's content into the network's input, and travels inside the model's file; a module a kind."""

from __future__ import annotations

from restune.data.preprocess.base import KINDS, NOUNS, SAMPLE_NOUNS, Preprocess, from_dict
from restune.data.preprocess.image import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS, ImagePreprocess

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INTERPOLATIONS",
    "KINDS",
    "NOUNS",
    "SAMPLE_NOUNS",
    "ImagePreprocess",
    "Preprocess",
    "preprocess_from_dict",
]

preprocess_from_dict = from_dict
