"""What `Model.explain` returns: a map, and how it lies on the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.inference.attribution.placement import Placement, on_original


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """How much each position of an input adds to the logit of one class.

    Args:
        input: the input's path, or ``input 3`` for one passed as content.
        label: the explained class.
        probability: of that class.
        logit: of that class.
        method: ``cam``, ``gradcam``, ``occlusion`` or ``integrated-gradients``.
        stage: the stage whose activations are explained, 0 for the stem; None for the input itself.
        map: float32, in the network's input coordinates: ``[H, W]`` of an image, ``[L]`` of a series, a value per token
            of a text, ``[T, H, W]`` of a clip. Positive values speak for the class, negative ones against it.
        positions: the map as the stage has it, before it is enlarged to the input.
        place: where the network's input lies in the original.
        characters: of a text, the start and end of each token in `text`.
        text: of a text, what the characters count in: the text with composed accents (Unicode NFC).

    >>> import restune
    >>> (explanation,) = restune.load(run_folder).explain(photo)
    >>> explanation.label, explanation.map.shape, explanation.on_original().shape
    ('red', (16, 16), (20, 20))
    """

    input: str
    label: str
    probability: float
    logit: float
    method: str
    stage: int | None
    map: NDArray[np.float32] = field(repr=False)
    positions: NDArray[np.float32] = field(repr=False)
    place: Placement | None = field(default=None, repr=False)
    characters: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    text: str | None = field(default=None, repr=False)

    def on_original(self, size: tuple[int, ...] | None = None) -> NDArray[np.float32]:
        """Return the map on the original; NaN where the network saw nothing, such as outside the centre crop.

        Args:
            size: of the result, such as the pixels of a thumbnail; by default that of the original.

        Returns ``[H, W]`` over the upright photo's pixels, ``[L]`` over all values of a series, one value per character
        of `text`, and `map` itself for a clip, whose original is the frames that the network saw.
        """
        if self.text is not None:
            return self._on_characters(self.text)
        if self.place is None:
            return self.map
        return on_original(self.map, self.place, size or self.place.size)

    def to_dict(self) -> dict[str, Any]:
        """Return label, probability, logit, method, stage and the map of the stage, as plain values."""
        return {
            "input": self.input, "label": self.label, "probability": self.probability, "logit": self.logit,
            "method": self.method, "stage": self.stage, "positions": self.positions.tolist(),
        }  # fmt: skip

    def _on_characters(self, text: str) -> NDArray[np.float32]:
        """Return the mean of the values of each character's tokens; NaN for characters without a token."""
        sums, counts = np.zeros(len(text), np.float64), np.zeros(len(text), np.int64)
        for (start, end), value in zip(self.characters, self.map, strict=True):
            sums[start:end] += value
            counts[start:end] += 1
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
