"""What turns an item's content into the network's input; it travels inside the model's file. One module a kind of data."""

from __future__ import annotations

from restune.data.preprocess.base import KINDS, Preprocess, from_dict
from restune.data.preprocess.image import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS, ImagePreprocess

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "INTERPOLATIONS", "KINDS", "ImagePreprocess", "Preprocess", "preprocess_from_dict"]

preprocess_from_dict = from_dict
