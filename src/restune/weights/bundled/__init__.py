"""The weights inside this package: small networks for images, to fine-tune without a network connection.

The files are model files (see `restune.weights.bundle`) in bfloat16: ``NETWORK-DATA.safetensors`` is loaded by the name
``NETWORK:DATA``. `benchmarks/bundle_weights.py` makes them from finished runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DEFAULT = "wide_resnet8:cifar10"
"""The weights that fine-tuning on images takes where better ones can be neither found nor downloaded."""
_HEADER_KEY = "restune"


@dataclass(frozen=True, kw_only=True)
class BundledWeights:
    """Weights inside the package, as their header describes them.

    Args:
        reference: the name to load them by.
        file: the model file.
        size: of the file, bytes.
        header: the model file's header.
    """

    reference: str
    file: Path
    size: int
    header: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The zoo's name of the network."""
        return str(self.header["name"])

    @property
    def licence(self) -> str | None:
        """Licence of the weights."""
        licence = self.header["licence"]
        return None if licence is None else str(licence)

    @property
    def data(self) -> str:
        """Name of the data set that they were trained on."""
        return str(self.header["training"]["data"]["name"])

    @property
    def source(self) -> str:
        """Who trained them, and how."""
        return str(self.header["training"]["source"])

    @property
    def test(self) -> Mapping[str, Any] | None:
        """The test score: ``accuracy``, ``n``, ``interval``, ``data``."""
        return next((score for score in self.header["scores"] if score.get("side") == "test"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return its entry in ``restune models --json``."""
        return {
            "reference": self.reference,
            "model": self.model,
            "bytes": self.size,
            "licence": self.licence,
            "data": self.header["training"]["data"],
            "test": None if self.test is None else dict(self.test),
        }


def find(reference: str) -> BundledWeights | None:
    """Return the bundled weights of that name; None if there are none."""
    file = file_of(reference)
    return next((one for one in listed() if one.file == file), None) if file is not None else None


def listed() -> tuple[BundledWeights, ...]:
    """Return all weights inside the package, by name. Imports no torch."""
    return tuple(_described(file) for file in _files())


def references() -> tuple[str, ...]:
    """Return the names of all weights inside the package, without reading them."""
    return tuple(_reference(file) for file in _files())


def file_of(reference: str) -> Path | None:
    """Return the file of bundled weights; None if there are none of that name."""
    return next((file for file in _files() if _reference(file) == reference), None)


def _files() -> list[Path]:
    return sorted(FOLDER.glob("*.safetensors"))


def _reference(file: Path) -> str:
    network, _, data = file.stem.rpartition("-")
    return f"{network}:{data}"


@lru_cache(maxsize=64)
def _described(file: Path) -> BundledWeights:
    with file.open("rb") as opened:  # the format: the header's length in 8 bytes, then the header as JSON
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    content = json.loads(header["__metadata__"][_HEADER_KEY])
    return BundledWeights(reference=_reference(file), file=file, size=file.stat().st_size, header=content)
