"""The weights to fine-tune where none are named: published, in the cache, bundled, or a choice of what is here."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors

from restune.core.console import note
from restune.core.errors import ChoiceError, UserError
from restune.core.files import user_path
from restune.data.dataset import Dataset
from restune.data.kinds import Kind, kind_of
from restune.networks import zoo
from restune.weights import bundled, hub
from restune.weights.load import Weights, read_weights
from restune.weights.suffixes import PICKLE_SUFFIXES

_MOST_CHOICES = 5
_MOST_SCANNED = 1000


def default_weights(model: str | None, dataset: Dataset) -> Weights:
    """Read the weights to fine-tune where none are named.

    Published weights of the network (of the kind's usual one where no network is named) are taken from the cache, else
    downloaded. Where they cannot be downloaded and no network is named, those of another network of the same input in
    the cache are taken, else for images those inside the package, with a note.

    Raises:
        ChoiceError: nothing can be taken without being asked for; names the runs, weights files and cached weights
            that are here.
    """
    kind = kind_of(dataset.kind)
    network = model or kind.pretrained
    published = hub.available(network) if network else ()
    reference = next((name for name in published if hub.cached(name)), None) or next(iter(published), None)
    if reference is None:
        what = f"there are no published weights for {model or kind.noun}"
        raise _choice(what, None, kind, dataset, model)
    try:
        return read_weights(reference)
    except UserError as error:
        other = None if model is not None or hub.cached(reference) else _cached_instead(reference, kind)
        if other is not None:
            note(f"weights: {other} (in the cache; {reference} cannot be downloaded)")
            return read_weights(other)
        inside = bundled.find(bundled.DEFAULT) if model is None and kind.name == "image" else None
        if inside is not None:
            note(_why_bundled(inside, reference))
            return read_weights(inside.reference)
        what = f"no weights are named, and {reference} cannot be downloaded: {error.what}"
        raise _choice(what, error, kind, dataset, model) from error


def _why_bundled(inside: bundled.BundledWeights, reference: str) -> str:
    """Say which weights are taken, and what better ones would need."""
    return (
        f"weights: {inside.reference}, bundled with restune (trained on {inside.data}, {inside.size / 1e6:.1f} MB), "
        f"because {reference} cannot be downloaded. ImageNet weights usually suit photos better: add "
        f"`--weights {reference}` on a machine with a network connection, or give a file with --weights"
    )


def cached_weights(kind: Kind) -> str | None:
    """Return published weights in the cache: of the kind's usual network, else of another with the same input."""
    if kind.pretrained is None:
        return None
    own = next((name for name in hub.available(kind.pretrained) if hub.cached(name)), None)
    return own or _cached_instead("", kind)


def _cached_instead(reference: str, kind: Kind) -> str | None:
    """Return cached weights of another network with the same input as the default's."""
    crop = zoo.find(kind.pretrained or "").crop
    same = (name for name, entry in zoo.ZOO.items() if entry.kind == kind.name and entry.crop == crop)
    return next(
        (name for network in same for name in hub.available(network) if name != reference and hub.cached(name)), None
    )


def _choice(
    what: str, cause: UserError | None, kind: Kind, dataset: Dataset, model: str | None
) -> ChoiceError:  # fmt: skip
    otherwise = f"train without pretrained weights: {shlex.join(['restune', 'train', dataset.source])}"
    if cause is not None and cause.fix:
        otherwise += f"\n    or {cause.fix}"
    choices = [(("--weights", name), brings) for name, brings in _here(kind, dataset, model)]
    where = "--weights" if cause is None else f"--weights (by default {cause.where})"
    return ChoiceError(what, where=where, choices=choices[:_MOST_CHOICES], otherwise=otherwise)


def _here(kind: Kind, dataset: Dataset, model: str | None) -> Iterator[tuple[str, str]]:
    """Yield weights that could be named, with what they are: runs (newest first), files nearby, cached ones."""
    yield from _runs(kind, model)
    beside = user_path(dataset.source).parent
    for folder in (Path(),) if beside.resolve() == Path().resolve() else (Path(), beside):
        yield from _files(folder, kind, model)
    for name, entry in zoo.ZOO.items():
        if entry.kind == kind.name and model in (None, name):
            cached = (reference for reference in hub.available(name) if hub.cached(reference))
            yield from ((reference, f"{name} for {entry.crop} pixels, {_where(reference)}") for reference in cached)


def _where(reference: str) -> str:
    return "in the cache" if bundled.file_of(reference) is None else "bundled with restune"


def _runs(kind: Kind, model: str | None) -> Iterator[tuple[str, str]]:
    """Yield the finished runs in ``runs/`` whose model takes this kind of data."""
    for file in finished_runs():
        about = _about(file, kind, model)
        if about is not None:
            yield str(file.parent), f"{about}, a run here"


def finished_runs() -> list[Path]:
    """Return the model files of the runs in ``runs/``, newest first."""
    files = [path for path in Path("runs").glob("*/model.safetensors") if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)


def _files(folder: Path, kind: Kind, model: str | None) -> Iterator[tuple[str, str]]:
    """Yield the weights files in a folder: model files of this kind, and checkpoints of images' networks."""
    try:
        paths = sorted(itertools.islice(folder.iterdir(), _MOST_SCANNED))
    except OSError:  # not a folder, or one that may not be listed
        return
    for path in paths:
        suffix = path.suffix.lower()
        if suffix == ".safetensors" and path.is_file():
            about = _about(path, kind, model)
            if about is not None:
                yield str(path), about
        elif suffix in PICKLE_SUFFIXES and suffix != ".tar" and path.is_file() and model is None:
            yield str(path), "a checkpoint; its network is recognised"


def _about(file: Path, kind: Kind, model: str | None) -> str | None:
    """Describe a model file from its header; None if it takes other data or is another network."""
    header = fitting_header(file, kind, model)
    return None if header is None else f"{header.get('name') or 'a network'} of {len(header['classes'])} classes"


def fitting_header(file: Path, kind: Kind, model: str | None) -> dict[str, Any] | None:
    """Return a model file's header; None if it is no model, takes other data or is another network."""
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            header: dict[str, Any] = json.loads((opened.metadata() or {})["restune"])
        name, _ = header.get("name"), len(header["classes"])
    except Exception:  # not a model of restune, or damaged
        return None
    return header if header.get("kind") == kind.name and model in (None, name) else None
