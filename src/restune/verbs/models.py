"""models: list, describe, compare and draw networks of the zoo, of model files and of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restune.core.errors import UserError, did_you_mean
from restune.core.files import is_there, user_path, write_text
from restune.data.kinds import kind_of_network
from restune.networks import zoo
from restune.networks.describe import describe, describe_entry
from restune.networks.spec import ResNetSpec
from restune.networks.structure import ModelInfo
from restune.weights import hub
from restune.weights.load import Weights, infer_model, read_weights

SORT_KEYS = ("name", "parameters", "flops", "activations", "receptive_field", "accuracy")


def models(
    pattern: str = "*",
    *,
    image_size: int | None = None,
    sort: str | None = None,
    filter: str | None = None,
    **spec_overrides: Any,
) -> list[ModelInfo]:
    """Describe the networks whose names match, for square images of `image_size` pixels, or series and texts of that
    length (by default each network's own).

    Args:
        pattern: a name or pattern of the zoo, or a model file, a run's folder or published weights.
        image_size: side or length of the input.
        sort: one of `SORT_KEYS`, ascending; a minus before it: descending. By default the zoo's order.
        filter: a text that name, kind, source, weights or published data set must contain.
        **spec_overrides: those of `create_model`.

    Raises UserError when nothing matches.

    >>> (info,) = restune.models("resnet50")
    >>> info.description.parameters, info.description.receptive_field
    (25557032, (427, 427))
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"the image size must be at least 1, not {image_size}", where="--image-size")
    names = [] if is_there(user_path(pattern)) else zoo.list_models(pattern)
    if not names and (is_there(user_path(pattern)) or hub.is_published_reference(pattern)):
        found = [_of_weights(pattern, image_size, spec_overrides)]
    else:
        found = [_of_zoo(name, image_size, spec_overrides) for name in names or [zoo.find(pattern).name]]
    return _sorted([info for info in found if _contains(info, filter)], sort, filter)


def compare(
    one: str, two: str, *, image_size: int | None = None, spec_overrides: dict[str, Any] | None = None
) -> list[ModelInfo]:
    """Describe two networks. Overrides apply to both; if both are the same network, to the second only, so that the
    comparison shows what they change."""
    changes = spec_overrides or {}
    first = models(one, image_size=image_size, **({} if one == two else changes))
    second = models(two, image_size=image_size, **changes)
    for name, found in ((one, first), (two, second)):
        if len(found) != 1:
            raise UserError(
                f"{name!r} matches {len(found)} networks", where="models", fix="compare two networks by name"
            )
    return [*first, *second]


def draw(
    described: Sequence[ModelInfo],
    *,
    svg: str | Path | None = None,
    html: str | Path | None = None,
    lang: str = "en",
    command: str = "restune models",
) -> list[Path]:
    """Write the drawing of one network, or of two side by side, as SVG or as a page. Returns the paths.

    Raises UserError for more than two networks.
    """
    from restune.reporting.structure.draw import draw_svg
    from restune.reporting.structure.page import structure_page

    if not 1 <= len(described) <= 2:
        raise UserError(
            f"{len(described)} networks cannot be drawn together", where="models", fix="name one network, or two"
        )
    written = []
    if svg is not None:
        written.append(_write(svg, draw_svg(described, lang)))
    if html is not None:
        written.append(_write(html, structure_page(described, command, lang)))
    return written


def _write(target: str | Path, content: str) -> Path:
    path = user_path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, content)
    except OSError as error:
        raise UserError(f"this file cannot be written: {error.strerror or error}", where=str(path)) from error
    return path


def _of_zoo(name: str, image_size: int | None, overrides: dict[str, Any]) -> ModelInfo:
    entry = zoo.find(name)
    return ModelInfo(
        name=name,
        kind=entry.kind,
        source=entry.source,
        image_size=image_size or entry.crop or None,
        weights=hub.available(name),
        description=describe_entry(entry, image_size, entry.spec.override(**overrides)),
        published=None if overrides else hub.published_score(name),
        changes=_changes(overrides),
    )


def _of_weights(reference: str, image_size: int | None, overrides: dict[str, Any]) -> ModelInfo:
    """Describe the network of a model file, a run or published weights, on the input of its preprocessing."""
    found = read_weights(reference)
    spec, name = _structure(found)
    spec = spec.override(**overrides)
    kind = kind_of_network(spec)
    return ModelInfo(
        name=reference,
        kind=kind.name,
        source=f"{found.source} ({name})" if name else found.source,
        image_size=image_size or getattr(found.preprocess, "image_size", None),
        weights=(),
        description=describe(spec, _positions(found, spec, name, image_size)),
        changes=_changes(overrides),
        header=_header(found),
    )


def _header(found: Weights) -> dict[str, Any] | None:
    """Return what a model file's header says of its training; None for other files."""
    info, file = found.info, found.file
    if info is None:
        return None
    training = info.training
    recipe = training.get("recipe") or {}
    return {
        "scores": [dict(score) for score in info.scores],
        "data": training.get("data"),
        "recipe": training.get("recipe_name"),
        "seed": recipe.get("seed"),
        "epochs": training.get("epochs"),
        "licence": info.licence,
        "source": training.get("source"),
        "preprocess": str(info.preprocess),
        "classes": list(info.classes),
        "bytes": None if file is None else file.stat().st_size,
    }


def _structure(found: Weights) -> tuple[ResNetSpec, str | None]:
    """Return the spec of weights: their own, or that of the zoo's network that they fit."""
    if found.spec is not None:
        return found.spec, found.model
    name = found.model or infer_model(found)
    changes = {"num_classes": found.num_classes, "in_channels": found.in_channels, "vocabulary": found.vocabulary}
    return zoo.find(name).spec.override(**{key: value for key, value in changes.items() if value is not None}), name


def _positions(found: Weights, spec: ResNetSpec, name: str | None, image_size: int | None) -> tuple[int, ...]:
    """Return the input's size per axis: as given, as the preprocessing says, or as is usual for the network."""
    entry = zoo.ZOO.get(name or "")
    preprocess = found.preprocess
    side = image_size or getattr(preprocess, "image_size", None) or (entry.crop if entry else 0) or 224
    if spec.dims == 1:
        usual = (entry.length if entry else 0) or 128
        return (image_size or getattr(preprocess, "length", None) or usual,)
    if spec.dims == 2:
        return (side, side)
    frames = getattr(preprocess, "frames", None) or (entry.frames if entry else 0) or 16
    return (frames, side, side)


def _changes(overrides: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={_shown(value)}" for key, value in overrides.items())


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(", ", ",")


def _contains(info: ModelInfo, text: str | None) -> bool:
    if text is None:
        return True
    published = info.published.data if info.published else ""
    return text.lower() in " ".join((info.name, info.kind, info.source, published, *info.weights)).lower()


def _sorted(found: list[ModelInfo], key: str | None, filter: str | None) -> list[ModelInfo]:
    if not found:
        raise UserError(f"no network contains {filter!r}", where="--filter", fix="`restune models` lists them")
    if key is None:
        return found
    name = key.removeprefix("-")
    if name not in SORT_KEYS:
        fix = did_you_mean(name, SORT_KEYS) or f"use one of {', '.join(SORT_KEYS)}"
        raise UserError(f"networks cannot be sorted by {name!r}", where="--sort", fix=fix)
    descending = key.startswith("-")
    known = [info for info in found if name != "accuracy" or info.published is not None]
    ordered = sorted(known, key=lambda info: _value(info, name), reverse=descending)
    return ordered + [info for info in found if info not in known]


def _value(info: ModelInfo, name: str) -> Any:
    if name == "name":
        return info.name
    if name == "accuracy":
        return info.published.accuracy if info.published else 0.0
    value = getattr(info.description, name)
    return max(value) if isinstance(value, tuple) else value
