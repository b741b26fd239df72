"""Write weights that torchvision's own constructor loads strictly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restune.core.errors import UserError
from restune.core.files import written_whole
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.networks.zoo import ZOO
from restune.weights.convert import to_torchvision_video


def write_torchvision(model: Model, path: Path) -> tuple[Path, str]:
    """Write the state dict and return it with the constructor call that takes it.

    Raises UserError for a network that torchvision does not have.
    """
    network = model.module
    assert isinstance(network, ResNet)
    name = torchvision_name(model)
    state: dict[str, Tensor] = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    is_video = network.spec.dims == 3
    state = to_torchvision_video(state) if is_video else state
    with written_whole(path) as temporary:
        torch.save(state, temporary)
    room = "torchvision.models.video" if is_video else "torchvision.models"
    return path, f"{room}.{name}(num_classes={network.spec.num_classes})"


def torchvision_name(model: Model) -> str:
    """Return torchvision's name of the model's network. Raises UserError where it has none."""
    spec = model.spec
    for name, entry in ZOO.items():
        if name in TORCHVISION and replace(entry.spec, **_free(spec)) == spec:
            return name
    raise UserError(
        f"torchvision does not have this network ({model.info.name or 'home-made'})",
        where="--to torchvision",
        fix="use --to onnx, openvino, torch or timm; torchvision has the ImageNet networks and the 18-layer video ones",
    )


def load_torchvision(path: Path, call: str) -> nn.Module:
    """Build torchvision's network and load the file strictly."""
    import torchvision

    name, _, arguments = call.rpartition(".")[2].partition("(")
    room: Any = torchvision.models.video if ".video." in call else torchvision.models
    build: Callable[..., nn.Module] = getattr(room, name)
    network = build(num_classes=int(arguments.rstrip(")").partition("=")[2]))
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return network.eval()


TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "r3d_18", "mc3_18", "r2plus1d_18",
)  # fmt: skip
"""The zoo's networks that torchvision has under the same name."""


def _free(spec: Any) -> dict[str, Any]:
    """Return the settings of the network that do not change its tensors, and the number of classes."""
    free = ("num_classes", "dropout", "drop_path", "zero_init_residual")
    return {name: getattr(spec, name) for name in free} if hasattr(spec, "stages") else {}
