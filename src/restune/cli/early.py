"""Check a command's options before data is read and before torch is imported: wrong ones are reported at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError, did_you_mean
from restune.core.files import is_there, user_path
from restune.data.kinds import KINDS, kind_of
from restune.inference.engines.names import is_installed, not_installed
from restune.networks import zoo

if TYPE_CHECKING:
    from restune.data.dataset import DataOptions

_NOT_SETTINGS = ("out", "recipe", "resume", "accept_changes", "set", "seeds")


def check_request(verb: str, data: str | None, settings: dict[str, Any], reading: DataOptions) -> None:
    """Raise UserError for wrong settings of a training run, and for files that do not exist."""
    from restune.data.sources import reject_missing
    from restune.runs.folder import reject_used_folder
    from restune.runs.record import no_data, stored_recipe
    from restune.runs.request import Request

    if data is not None:
        check_data(data, reading)
    elif not settings["resume"]:
        raise no_data(None, verb)
    if settings.get("weights") not in (None, "auto"):
        check_weights(settings["weights"])
    if settings.get("teacher") is not None:
        check_model(settings["teacher"], None)
    wanted = {key: value for key, value in settings.items() if key not in _NOT_SETTINGS}
    stored = stored_recipe(settings["out"], resume=settings["resume"])
    Request(verb, settings["recipe"], wanted, settings["set"], stored)
    if settings["model"] is not None:
        check_networks([settings["model"]], "--model")
    for option in ("val", "test"):
        if isinstance(settings[option], str):
            reject_missing(settings[option])
    if not settings["resume"]:
        reject_used_folder(settings["out"])


def complete_resumed(settings: dict[str, Any]) -> None:
    """Set the number of seeds as the runs to resume have it, unless it is named."""
    from restune.runs.record import read_run_record

    if settings["resume"] and settings["seeds"] is None and settings["out"] is not None:
        record = read_run_record(user_path(settings["out"]))
        settings["seeds"] = len(record.seeds) or None if record is not None else None


def check_data(data: str, reading: DataOptions) -> None:
    """Raise UserError for data that does not exist, and for an unknown kind, encoding or root."""
    from restune.data.decisions import read_decisions, read_exclusions
    from restune.data.encodings import check_encoding
    from restune.data.sources import reject_missing

    if reading.kind is not None:
        kind_of(reading.kind)
    if reading.encoding is not None:
        check_encoding(reading.encoding)
    if reading.root is not None and not is_there(user_path(reading.root)):
        raise _missing("there is no such folder", "--root", user_path(reading.root))
    for option, read in (("exclude", read_exclusions), ("decisions", read_decisions)):
        path = getattr(reading, option)
        if path is not None and not is_there(user_path(path)):
            raise _missing("there is no such file", f"--{option}", user_path(path))
        if path is not None:
            read(path)
    reject_missing(data)


def check_inference(model: str, options: dict[str, Any]) -> None:
    """Raise UserError for a model that cannot exist, and for views and input settings that no model takes.

    Args:
        options: of the groups `on_inference` and, where the verb has them, `on_views` and `on_engine`.
    """
    check_engine(options.get("engine"))
    check_model(model, options["weights"])
    _check_views(options.get("views"), model)
    _check_input(options)


def check_engine(engine: str | None) -> None:
    """Raise UserError for an engine that is not installed."""
    if engine not in (None, "auto") and not is_installed(str(engine)):
        raise not_installed(str(engine))


def check_model(model: str, weights: str | None) -> None:
    """Raise UserError for a MODEL that is not a file, a run, a published name, or a network with weights."""
    from restune.weights import hub

    path = user_path(model)
    if weights is not None:
        check_weights(weights)
        check_networks([model], "MODEL")
    elif is_there(path):
        _check_file(path, f"MODEL {model}")
    elif hub.is_published_reference(model):
        hub.reject_unknown(model)
    elif model in zoo.ZOO:
        examples = f"{hub.available(model)[0]}, a file" if hub.available(model) else "a file"
        raise UserError(
            f"{model} is a network without weights", where="MODEL", fix=f"name them with --weights: {examples} or a run"
        )
    elif _looks_like_path(path):
        raise _missing("there is no such file", f"MODEL {model}", path)
    else:
        raise UserError(
            f"{model!r} is not a file, a run or a network",
            where=f"MODEL {model}",
            fix=did_you_mean(model, [*zoo.ZOO, *_beside(path)]) or "`restune models` lists the networks",
        )


def check_weights(weights: str) -> None:
    """Raise UserError for weights that are neither a file, nor a run's folder, nor published."""
    from restune.weights import hub

    reference = weights.removeprefix("inflate:")
    path = user_path(reference)
    if is_there(path):
        _check_file(path, f"--weights {weights}")
    elif hub.is_published_reference(reference):
        hub.reject_unknown(reference)
    elif _looks_like_path(path):
        raise _missing("there is no such file", f"--weights {weights}", path)
    elif reference in zoo.ZOO:
        published = hub.available(reference)
        raise UserError(
            f"{reference} is a network, not the name of weights",
            where=f"--weights {weights}",
            fix=f"name published ones: {', '.join(published)}" if published else "name a file or a run's folder",
        )
    else:
        names = [name for network in zoo.ZOO for name in hub.available(network)]
        raise UserError(
            f"{reference!r} is not the name of any weights",
            where=f"--weights {weights}",
            fix=did_you_mean(reference, [*names, *_beside(path)]) or "name a file, a run's folder or published ones",
        )


def check_networks(names: Iterable[str], where: str) -> None:
    """Raise UserError for a name that is not a network's."""
    for name in names:
        if name not in zoo.ZOO:
            fix = did_you_mean(name, zoo.ZOO) or "`restune models` lists the networks"
            raise UserError(f"unknown network {name!r}", where=where, fix=fix)


def _check_file(path: Path, where: str) -> None:
    from restune.exported.files import is_export
    from restune.weights.suffixes import WEIGHT_SUFFIXES

    if is_export(path):
        raise UserError(
            "this is an export, which only predict and evaluate take",
            where=where,
            fix="use the run's folder or its model.safetensors",
        )
    if path.is_dir() and not (path / "model.safetensors").is_file():
        fix = "name the folder of a finished run, or a weights file in it"
        if (path / "recipe.yaml").is_file():
            fix = "this run is not finished: go on with --resume, then use it"
        raise UserError("this folder does not contain model.safetensors", where=where, fix=fix)
    if path.is_file() and path.suffix.lower() not in WEIGHT_SUFFIXES:
        raise UserError(
            f"a file ending in {path.suffix!r} is not a weights file",
            where=where,
            fix=f"weights end in {', '.join(WEIGHT_SUFFIXES)}",
        )


def _check_views(views: str | None, model: str) -> None:
    """Raise UserError for views that the model's kind of data does not have, or, where it is unknown, that none has."""
    if views is None:
        return
    kind = _kind_of_model(model)
    if kind is not None:
        kind_of(kind).view_mode(views)
        return
    known = list(dict.fromkeys(mode for each in KINDS.values() for mode in each.view_modes))
    if views not in known:
        raise UserError(
            f"unknown views {views!r}",
            where="--views",
            fix=f"{did_you_mean(views, known)} allowed: {', '.join(known)}".strip(),
        )


def _kind_of_model(model: str) -> str | None:
    """The kind of data that a network, published weights, a model file or a run takes; None if it is not known yet."""
    network = model.partition(":")[0]
    if network in zoo.ZOO:
        return zoo.ZOO[network].kind
    path = user_path(model)
    file = path / "model.safetensors" if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    import safetensors

    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            kind = json.loads((opened.metadata() or {})["restune"])["kind"]
    except Exception:  # a damaged file is reported when it is loaded
        return None
    return kind if kind in KINDS else None


def _check_input(options: dict[str, Any]) -> None:
    """Raise UserError for values of the input settings that no kind of data accepts."""
    crop, interpolation = options["crop"], options["interpolation"]
    if crop is not None and not 0 <= crop <= 1:
        raise UserError(
            f"the crop must be a share from 0 to 1, not {crop:g}", where="--crop", fix="0.875 is usual; 0: no crop"
        )
    known = ("nearest", "bilinear", "bicubic")
    if interpolation is not None and interpolation not in known:
        raise UserError(
            f"unknown interpolation {interpolation!r}",
            where="--interpolation",
            fix=f"{did_you_mean(interpolation, known)} allowed: {', '.join(known)}".strip(),
        )
    for option in ("mean", "std"):
        values = options[option] or ()
        if not all(map(math.isfinite, values)):
            raise UserError("mean and std must be finite", where=f"--{option}", fix="write it like 0.485,0.456,0.406")
        if option == "std" and any(value < 1e-6 for value in values):
            raise UserError("every std must be above 0.000001", where="--std", fix="write it like 0.229,0.224,0.225")


def _looks_like_path(path: Path) -> bool:
    from restune.weights.suffixes import WEIGHT_SUFFIXES

    return path.suffix.lower() in WEIGHT_SUFFIXES or len(path.parts) > 1


def _missing(what: str, where: str, path: Path) -> UserError:
    """The error for a path where nothing is, with the nearest name beside it."""
    state = "exists" if is_there(path.parent) else "does not exist"
    hint = did_you_mean(path.name, _beside(path)) or f"check the path; the folder {path.parent} {state}"
    return UserError(what, where=where if str(path) in where else f"{where} {path}", fix=hint)


def _beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
