"""Published weights and those inside the package: list them by network, and download published ones to the cache."""

from __future__ import annotations

import functools
import json
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from restune.core import console
from restune.core.errors import UserError, did_you_mean
from restune.core.files import cache_folder, is_there
from restune.networks.structure import PublishedScore
from restune.weights import bundled
from restune.weights.download import by_hand, download


@dataclass(frozen=True)
class PublishedWeights:
    """Published weights as a local file.

    Args:
        reference: the short name to fetch them by.
        model: the publisher's name of the network.
        file: the local file.
        classes: names in the order of the logits; None if the publisher does not list them.
        preprocess: the input they were evaluated with: ``kind`` "image", ``resize`` (shorter side, pixels),
            ``crop`` (pixels), ``interpolation``, ``mean`` and ``std``; or ``kind`` "video" with ``frames`` and
            ``rate`` beside these; None where unknown.
        licence: the publisher's licence of the weights; None if not stated.
        source: the URL of publication.
    """

    reference: str
    model: str
    file: Path
    classes: tuple[str, ...] | None
    preprocess: dict[str, Any] | None
    licence: str | None
    source: str


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """Properties of published weights known before they are fetched."""

    reference: str
    model: str
    folder: str
    address: str
    sha256: str | None
    classes: tuple[str, ...]
    preprocess: dict[str, Any] | None = None
    licence: str | None = None
    score: PublishedScore | None = None


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models"


def _cifar(model: str, sha256: str, error: float) -> _Entry:
    """Describe weights of that repository; its README gives the test error in percent."""
    return _Entry(
        reference=f"{model}:cifar10",
        model=model,
        folder="pytorch_resnet_cifar10",
        address=f"{_AKAMASTER}/{model}-{sha256[:8]}.th",
        sha256=sha256,
        classes=_CIFAR10,
        licence="BSD-2-Clause",
        score=PublishedScore(
            accuracy=round(1 - error / 100, 4), data="CIFAR-10", source="github.com/akamaster/pytorch_resnet_cifar10"
        ),
    )


_CIFAR = {
    entry.reference: entry
    for entry in (
        _cifar("resnet20", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", 8.27),
        _cifar("resnet32", "d509ac18", 7.37),
        _cifar("resnet44", "014dd654", 6.90),
        _cifar("resnet56", "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367", 6.61),
        _cifar("resnet110", "1d1ed7c2", 6.32),
    )
}

_TIMM = {
    "resnet50": ("a1_in1k",),
    "resnet18d": ("ra2_in1k",),
    "resnet34d": ("ra2_in1k",),
    "resnet50d": ("a1_in1k", "ra2_in1k"),
    "resnet101d": ("ra2_in1k",),
    "seresnet50": ("a1_in1k", "ra2_in1k"),
    "ecaresnet50d": ("miil_in1k",),
}
"""Some of timm's weights by network, to list those that torchvision lacks; any others can be fetched, too."""

_TORCHVISION = {
    "resnet18": ("ResNet18", ("v1",)),
    "resnet34": ("ResNet34", ("v1",)),
    "resnet50": ("ResNet50", ("v1", "v2")),
    "resnet101": ("ResNet101", ("v1", "v2")),
    "resnet152": ("ResNet152", ("v1", "v2")),
    "resnext50_32x4d": ("ResNeXt50_32X4D", ("v1", "v2")),
    "resnext101_32x8d": ("ResNeXt101_32X8D", ("v1", "v2")),
    "resnext101_64x4d": ("ResNeXt101_64X4D", ("v1",)),
    "wide_resnet50_2": ("Wide_ResNet50_2", ("v1", "v2")),
    "wide_resnet101_2": ("Wide_ResNet101_2", ("v1", "v2")),
    "r3d_18": ("R3D_18", ("v1",)),
    "mc3_18": ("MC3_18", ("v1",)),
    "r2plus1d_18": ("R2Plus1D_18", ("v1",)),
}
"""torchvision's enumeration and its weights by network, so that names are checked before it is imported."""

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_REFERENCE = re.compile(r"timm:.*|[A-Za-z]\w+:\w+|\w+_Weights\.[A-Z][A-Z0-9_]*", re.ASCII)
_TIMM_NAME = re.compile(r"\w(?:[\w-]|\.(?!\.))*", re.ASCII)


def is_published_reference(text: str) -> bool:
    """Return whether `text` has the form of a published name, whether or not such weights exist."""
    return _REFERENCE.fullmatch(text) is not None


def _cifar_table() -> dict[str, _Entry]:
    """Map references to akamaster's weights; ``NAME_akamaster`` where the package has weights of that name itself."""
    own = bundled.references()
    named = (replace(e, reference=f"{e.reference}_akamaster") if e.reference in own else e for e in _CIFAR.values())
    return {entry.reference: entry for entry in named}


def available(model: str) -> tuple[str, ...]:
    """List the references for a network: bundled, then published, most usual first.

    Works offline, and may lack some of timm's.
    """
    inside = [reference for reference in bundled.references() if reference.partition(":")[0] == model]
    own = [*inside, *(reference for reference, entry in _cifar_table().items() if entry.model == model)]
    _, tags = _TORCHVISION.get(model, ("", ()))
    timm = [f"timm:{model}.{tag}" for tag in _TIMM.get(model, ())]
    return (*own, *(f"{model}:{tag}" for tag in tags), *timm)


def reject_unknown(reference: str) -> None:
    """Raise UserError for a name of no published weights; of timm's, check the form only. Imports no torch."""
    if reference.startswith("timm:"):
        _timm_name(reference)
        return
    members = [
        f"{enum}_Weights.{member}"
        for model, (enum, tags) in _TORCHVISION.items()
        for member in ("DEFAULT", *(f"{'KINETICS400' if model in _VIDEO else 'IMAGENET1K'}_{t.upper()}" for t in tags))
    ]
    cifar = [*(name.partition(":")[0] for name in bundled.references()), *(entry.model for entry in _CIFAR.values())]
    names = [name for model in dict.fromkeys((*cifar, *_TORCHVISION, *_TIMM)) for name in available(model)]
    if reference not in (*names, *members):
        raise UserError(
            f"no weights are published as {reference!r}",
            where="the weights' name",
            fix=_nearest(reference, [*names, *members]) or "`restune models` lists the networks and their weights",
        )


def _nearest(reference: str, names: list[str]) -> str:
    """Name what is published for the same network, else what is spelled alike."""
    same = available(reference.partition(":")[0])
    return f"published for this network: {', '.join(same)}" if same else did_you_mean(reference, names)


def cached(reference: str) -> Path | None:
    """Return the file of bundled weights, or of published ones in the cache folder; None if they are not there.

    Downloads nothing.
    """
    inside = bundled.file_of(reference)
    if inside is not None:
        return inside
    if reference.startswith("timm:"):
        folder = cache_folder() / "weights" / "timm" / reference.removeprefix("timm:")
        file = folder / _WEIGHTS
        return file if is_there(file) and is_there(folder / _CONFIG) else None
    entry = {**_cifar_table(), **_torchvision()}[reference]
    file = _place(entry)
    return file if is_there(file) else None


def _place(entry: _Entry) -> Path:
    return cache_folder() / "weights" / entry.folder / entry.address.rsplit("/", 1)[1]


def published_score(model: str) -> PublishedScore | None:
    """Return the best accuracy published for a network's weights, bundled ones included; None where none is.

    Works offline.
    """
    entries = {**_CIFAR, **_torchvision()}.values()
    scores = [entry.score for entry in entries if entry.model == model and entry.score is not None]
    scores += [score for one in bundled.listed() if one.model == model and (score := _bundled_score(one)) is not None]
    return max(scores, key=lambda score: score.accuracy, default=None)


def _bundled_score(one: bundled.BundledWeights) -> PublishedScore | None:
    if one.test is None:
        return None
    return PublishedScore(accuracy=one.test["accuracy"], data=one.test["data"], source=f"{one.reference}, bundled")


def fetch(reference: str) -> PublishedWeights:
    """Download the published weights of that name to the cache folder, unless present, and return their description.

    Args:
        reference: ``resnet50:v2`` or ``ResNet50_Weights.IMAGENET1K_V2`` (torchvision), ``timm:resnet50.a1_in1k``
            (the Hugging Face hub), ``resnet56:cifar10`` (github.com/akamaster/pytorch_resnet_cifar10).

    Raises:
        UserError: no such weights, or they cannot be downloaded; explains the manual download.
    """
    if reference.startswith("timm:"):
        return _fetch_timm(reference)
    reject_unknown(reference)
    entry = {**_cifar_table(), **_torchvision()}[reference]
    return PublishedWeights(
        reference=entry.reference,
        model=entry.model,
        file=download(entry.address, _place(entry), sha256=entry.sha256, description=entry.reference),
        classes=entry.classes,
        preprocess=entry.preprocess,
        licence=entry.licence,
        source=entry.address,
    )


_VIDEO = ("r3d_18", "mc3_18", "r2plus1d_18")


@functools.cache
def _torchvision() -> dict[str, _Entry]:
    """Map short references and enum member names to torchvision's (Wide) ResNets, ResNeXts and video ResNets."""
    import torchvision

    images = torchvision.models.list_models(module=torchvision.models)
    videos = torchvision.models.list_models(module=torchvision.models.video)
    entries = {}
    for model in (*images, *videos):
        if not model.startswith(("resnet", "resnext", "wide_resnet")) and model not in _VIDEO:
            continue
        enum = torchvision.models.get_model_weights(model)
        for member in enum:
            entry = _torchvision_entry(model, member)
            entries[entry.reference] = entries[str(member)] = entry
            if member is enum.DEFAULT:
                entries[f"{enum.__name__}.DEFAULT"] = entry
    return entries


def _torchvision_entry(model: str, member: Any) -> _Entry:
    transforms = member.transforms()
    digits = re.search(r"-([0-9a-f]{8,64})\.pth$", member.url)
    return _Entry(
        reference=f"{model}:{member.name.rsplit('_', 1)[1].lower()}",
        model=model,
        folder="torchvision",
        address=member.url,
        sha256=digits[1] if digits else None,
        classes=tuple(member.meta["categories"]),
        preprocess={
            # The evaluation clips, which torchvision's transform does not define.
            **({"kind": "video", "frames": 16, "rate": 15.0} if model in _VIDEO else {"kind": "image"}),
            "resize": transforms.resize_size[0],
            "crop": transforms.crop_size[0],
            "interpolation": transforms.interpolation.value,
            "mean": list(transforms.mean),
            "std": list(transforms.std),
        },
        # torchvision's licence is of its code; its weights may follow their data sets' terms: no licence
        score=_torchvision_score(member),
    )


def _torchvision_score(member: Any) -> PublishedScore | None:
    """Return the top-1 accuracy in the metadata of torchvision's weights."""
    for data, metrics in member.meta.get("_metrics", {}).items():
        if "acc@1" in metrics:
            accuracy = round(metrics["acc@1"] / 100, 5)
            return PublishedScore(accuracy=accuracy, data=data, source=f"torchvision, {member}")
    return None


def _fetch_timm(reference: str) -> PublishedWeights:
    name = _timm_name(reference)
    folder = cache_folder() / "weights" / "timm" / name
    for file_name in (_CONFIG, _WEIGHTS):
        if not is_there(folder / file_name):
            _fetch_from_hub(reference, folder / file_name)
    model, settings = _read_timm_config(folder / _CONFIG)
    labels = settings.get("label_names")
    licence = settings.get("license")
    return PublishedWeights(
        reference=reference,
        model=model,
        file=folder / _WEIGHTS,
        classes=tuple(str(label) for label in labels) if isinstance(labels, list) else None,
        preprocess=_timm_preprocess(reference, settings),
        licence=licence if isinstance(licence, str) else None,
        source=f"https://huggingface.co/timm/{name}",
    )


def _timm_name(reference: str) -> str:
    """Return timm's own name of weights. Raises UserError for one that cannot be a folder and part of a URL."""
    name = reference.removeprefix("timm:")
    if not _TIMM_NAME.fullmatch(name):
        raise UserError(
            f"{reference!r} is not a name of timm weights",
            where="the weights' name",
            fix="write timm:NAME with timm's own name, such as timm:resnet50.a1_in1k",
        )
    return name


def _fetch_from_hub(reference: str, destination: Path) -> None:
    import huggingface_hub as hub

    endpoint = os.environ.get("HF_ENDPOINT") or None  # the hub library reads it only at its first import
    url = hub.hf_hub_url(f"timm/{destination.parent.name}", destination.name, endpoint=endpoint)
    try:
        # no token: with a stale one the hub refuses even public files
        etag = hub.get_hf_file_metadata(url, token=False, endpoint=endpoint).etag or ""
    except Exception as error:  # the HTTP library's errors differ between the hub's versions
        raise _hub_error(reference, url, destination, error) from error
    # the ETag of large files is their sha256; of small ones git's sha1, which is not of the content alone
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    if sha256 is None and destination.name == _WEIGHTS:
        console.warn(f"{url} came without a sha256: only its length is checked")
    download(url, destination, sha256=sha256, description=f"{reference} {destination.name}", mirrored=False)


def _hub_error(reference: str, url: str, destination: Path, error: Exception) -> UserError:
    from huggingface_hub import errors

    suggestion = ""
    if isinstance(error, errors.GatedRepoError):
        what = f"{reference} asks for consent to its terms before it can be downloaded"
    elif isinstance(error, errors.RepositoryNotFoundError):
        what = f"there are no weights {reference} on the hub"
        suggestion = did_you_mean(reference, (name for model in _TIMM for name in available(model)))
    elif isinstance(error, errors.EntryNotFoundError):
        what = f"{reference} has no {destination.name} on the hub"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        what = f"cannot download {reference}: HF_HUB_OFFLINE is set"
    else:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"cannot reach the hub for {reference}: {reason}"
    other = _WEIGHTS if destination.name == _CONFIG else _CONFIG
    bring = f"{by_hand(destination)}, with {other} beside it; HF_ENDPOINT names a mirror of the hub"
    return UserError(what, where=url, fix=f"{suggestion} Or {bring}" if suggestion else bring)


def _read_timm_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the architecture and the settings of its weights, from timm's nested or flat format."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        settings = dict(config.get("pretrained_cfg", config))
        if "label_names" in config:
            settings["label_names"] = config["label_names"]
        return str(config["architecture"]), settings
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path.name} is not a configuration of timm weights: {error!r}",
            where=str(path),
            fix="delete it, then run again to download it",
        ) from error


def _timm_preprocess(reference: str, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Convert timm's evaluation transform (`timm.data.transforms_factory.transforms_imagenet_eval`) to our settings."""
    try:
        _, height, width = settings["input_size"]
        mode, interpolation = settings.get("crop_mode") or "center", settings["interpolation"]
        share = settings.get("crop_pct") or 0.875
        if height == width and mode == "center" and interpolation in ("bilinear", "bicubic"):
            return {
                "kind": "image",
                "resize": math.floor(height / share),
                "crop": height,
                "interpolation": interpolation,
                "mean": [float(value) for value in settings["mean"]],
                "std": [float(value) for value in settings["std"]],
            }
    except (KeyError, TypeError, ValueError):
        pass
    console.warn(f"the preprocessing of {reference} is not one of ours: the network's default is used instead")
    return None
