"""models: list and describe the networks of the zoo."""

from __future__ import annotations

from typing import Any

from restune.core.errors import UserError
from restune.networks import zoo
from restune.networks.describe import ModelInfo, describe_entry
from restune.weights import hub


def models(pattern: str = "*", *, image_size: int | None = None, **spec_overrides: Any) -> list[ModelInfo]:
    """Describe the networks whose names match, for square images of `image_size` pixels, or series and texts of that
    length (by default each network's own).

    `spec_overrides` are those of `create_model`. Raises UserError when no name matches.

    >>> (info,) = restune.models("resnet50")
    >>> info.description.parameters
    25557032
    """
    names = zoo.list_models(pattern) or [zoo.find(pattern).name]
    if image_size is not None and image_size < 1:
        raise UserError(f"the image size must be at least 1, not {image_size}", where="--image-size")
    found = []
    for name in names:
        entry = zoo.find(name)
        found.append(
            ModelInfo(
                name=name,
                kind=entry.kind,
                source=entry.source,
                image_size=image_size or entry.crop or None,
                weights=hub.available(name),
                description=describe_entry(entry, image_size, entry.spec.override(**spec_overrides)),
            )
        )
    return found
