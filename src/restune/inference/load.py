"""Load a model from a bundle, a run's folder, or a zoo name with weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restune.core.console import note, warn
from restune.core.errors import UserError, did_you_mean
from restune.core.files import is_there, user_path
from restune.data.kinds import kind_of, kind_of_network
from restune.data.preprocess import Preprocess
from restune.inference.model import Model
from restune.networks import zoo
from restune.networks.custom import CustomNetwork, CustomSpec, load_custom
from restune.networks.layout import weights_layout
from restune.networks.spec import ResNetSpec
from restune.weights import hub
from restune.weights.bundle import BundleInfo, read_info, read_tensors
from restune.weights.load import (
    Weights,
    infer_model,
    loaded_network,
    read_weights,
    reject_other_structure,
)
from restune.weights.suffixes import WEIGHT_SUFFIXES


def load_model(
    model: str | Path | Model,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    module: nn.Module | None = None,
    **preprocess: Any,
) -> Model:
    """Load a model ready to predict, evaluate and embed; see `restune.load`."""
    settings = {key: value for key, value in preprocess.items() if value is not None}
    if module is not None:
        return _load_into_module(module, model, weights, device, settings)
    if isinstance(model, Model):
        return _adjusted(model, weights, device, settings)
    if not isinstance(model, str | Path):
        raise UserError(f"a model is a path or a name, not {model!r}", where="MODEL")
    found, name = _find(model, weights)
    network, report = loaded_network(_spec(found, name), found)
    if report.new:
        raise UserError(
            f"these weights have no head: {', '.join(report.new)} would be random",
            where=found.source,
            fix="restune.create_model(NAME, weights=..., num_classes=...) gives a network to train",
        )
    note(f"{name or 'network'} from {found.source}: {report}")
    info = found.info or _info(found, name, network.spec, told=bool(settings))
    info = replace(info, spec=network.spec)
    if settings:
        info = _with_settings(info, settings)
    reads = 1 if network.spec.vocabulary else network.spec.in_channels
    if info.preprocess.channels != reads:
        raise UserError(
            f"the network takes {reads} channels, its preprocessing gives {info.preprocess.channels}",
            where=found.source,
        )
    target = pick_device(device)
    network.eval().requires_grad_(False).to(target).to(memory_format=weights_layout(network.spec.dims))
    return Model(network, info, found.source, classes_known=found.classes is not None, device=target)


def _load_into_module(
    module: nn.Module, model: str | Path | Model, weights: str | Path | None, device: str, settings: dict[str, Any]
) -> Model:
    """Load a run or bundle of a module of one's own into that module, in place."""
    path = user_path(model) if isinstance(model, str | Path) and weights is None else None
    if path is not None and path.is_dir():
        path = path / "model.safetensors"
    if path is None or not path.is_file():
        raise UserError(
            "there is no such run or model", where=f"MODEL {model}", fix="name the run's folder or its file"
        )
    info = read_info(path)
    if info is None or not isinstance(info.spec, CustomSpec):
        raise UserError(
            "this model was not trained from a module of your own", where=str(path), fix="leave module= out"
        )
    network = CustomNetwork(module, info.spec)
    if settings:
        info = _with_settings(info, settings)
    load_custom(network, read_tensors(path), str(path))
    target = pick_device(device)
    network.eval().to(target).to(memory_format=weights_layout(network.spec.dims))
    return Model(network, info, str(path), device=target)


def _adjusted(model: Model, weights: str | Path | None, device: str, settings: dict[str, Any]) -> Model:
    """Return a loaded model with other preprocessing settings. Raises UserError for other weights or another device."""
    if weights is not None:
        raise UserError("this model is loaded and has its weights", where="weights", fix="load it with these weights")
    if device != "auto" and pick_device(device).type != model.device.type:
        raise UserError(f"this model is loaded on {model.device}", where="device", fix="load it on the other device")
    if not settings:
        return model
    # A runtime of another engine has the preprocessing inside.
    return replace(model, info=_with_settings(model.info, settings), runtime=None)


def _with_settings(info: BundleInfo, settings: dict[str, Any]) -> BundleInfo:
    """Return the header with other preprocessing; what it knows of its training data then no longer holds."""
    preprocess = info.preprocess.override(**settings)
    return replace(info, preprocess=preprocess, novelty=info.novelty if preprocess == info.preprocess else None)


def pick_device(device: str) -> torch.device:
    """Return the device to compute on. Raises UserError if it is not available."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {device!r}", where="--device", fix="use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device on this machine", where="--device cuda", fix="use --device cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _find(model: str | Path, weights: str | Path | None) -> tuple[Weights, str | None]:
    """Return the weights, and the zoo's name for their network (None: a bundle of a custom network)."""
    text = str(model)
    if weights is not None:
        return read_weights(weights), zoo.find(text).name
    path = user_path(model)
    if text in zoo.ZOO and not is_there(path):
        available = hub.available(text)
        examples = f"{available[-1]}, a file" if available else "a file"
        raise UserError(
            f"{text} is a network without weights", where="MODEL", fix=f"name them with --weights: {examples} or a run"
        )
    if not is_there(path) and not hub.is_published_reference(text):
        looks_like_path = path.suffix in WEIGHT_SUFFIXES or len(path.parts) > 1
        what = "there is no such file" if looks_like_path else f"{text!r} is not a file, a run or a network"
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings if looks_like_path else [*zoo.ZOO, *siblings])
        raise UserError(what, where=f"MODEL {text}", fix=hint or "`restune models` lists the networks")
    found = read_weights(model)
    return found, found.model if found.info or found.spec is not None else infer_model(found)


def _spec(found: Weights, name: str | None) -> ResNetSpec:
    if found.spec is not None and (name is None or name == found.model):
        return found.spec
    assert name is not None  # only a bundle may leave the name out, and it has a spec
    reject_other_structure(found, zoo.find(name).spec)
    changes = {"num_classes": found.num_classes, "in_channels": found.in_channels, "vocabulary": found.vocabulary}
    return zoo.find(name).spec.override(**{key: value for key, value in changes.items() if value is not None})


def _info(found: Weights, name: str | None, spec: ResNetSpec, *, told: bool) -> BundleInfo:
    """Complete the information on weights without a header: the zoo's preprocessing, and numbered classes."""
    preprocess = found.preprocess
    if preprocess is None:
        preprocess = zoo_preprocess(name, spec)
        if not told:
            one = kind_of(preprocess.kind).one
            note(f"these weights do not include preprocessing for {one}; using the default of {name}: {preprocess}")
    classes = found.classes
    if classes is None:
        classes = tuple(f"class {number}" for number in range(spec.num_classes))
    elif len(classes) != spec.num_classes:
        warn(f"{found.source} names {len(classes)} classes for {spec.num_classes} outputs; using class numbers instead")
        classes = tuple(f"class {number}" for number in range(spec.num_classes))
    return BundleInfo(
        spec=spec,
        name=name,
        classes=classes,
        preprocess=preprocess,
        licence=found.licence,
        training={"weights": found.source},
    )


def zoo_preprocess(name: str | None, spec: ResNetSpec) -> Preprocess:
    """Return the default preprocessing of a network whose weights do not include it. Raises UserError without one."""
    entry = zoo.ZOO.get(name or "")
    if entry is not None:
        return kind_of(entry.kind).default_preprocess(spec, entry.crop, entry.resize)
    return kind_of_network(spec).default_preprocess(spec, None, None)
