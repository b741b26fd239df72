"""The suffixes of weights files."""

from __future__ import annotations

PICKLE_SUFFIXES = (".pth", ".pt", ".th", ".tar", ".ckpt", ".bin")
WEIGHT_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
