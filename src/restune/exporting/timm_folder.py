"""Write a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from restune.core.errors import UserError
from restune.core.files import write_text, written_whole
from restune.data.preprocess.image import ImagePreprocess
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec
from restune.networks.zoo import ZOO

_ARCHITECTURES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "resnet18d", "resnet34d", "resnet50d", "resnet101d",
    "seresnet50", "ecaresnet50d",
)  # fmt: skip
"""The zoo's networks that timm has under the same name, with the same tensors' names."""


def write_timm(model: Model, folder: Path) -> list[Path]:
    """Write ``config.json`` and ``model.safetensors``. Raises UserError for a network that timm does not have."""
    import safetensors.torch

    network, preprocess = model.module, model.preprocess
    assert isinstance(network, ResNet)
    architecture, arguments = timm_arguments(network.spec)
    assert isinstance(preprocess, ImagePreprocess)
    config = {
        "architecture": architecture,
        "num_classes": network.spec.num_classes,
        "num_features": network.spec.num_features,
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": _pretrained(preprocess, model),
        "label_names": list(model.classes),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = folder / "model.safetensors"
    with written_whole(weights) as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"format": "pt"})
    write_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return [folder / "config.json", weights]


def timm_arguments(spec: Any) -> tuple[str, dict[str, Any]]:
    """Return timm's architecture and the arguments that make it this network: other depths through ``layers``.

    Raises UserError where there is none, such as for option-A shortcuts or a stem for small images.
    """
    assert isinstance(spec, ResNetSpec)
    depths = [stage.depth for stage in spec.stages]
    for name in _ARCHITECTURES:
        entry = ZOO[name].spec
        if len(entry.stages) != len(depths):
            continue
        stages = tuple(replace(stage, depth=depth) for stage, depth in zip(entry.stages, depths, strict=True))
        like = replace(
            entry,
            stages=stages,
            num_classes=spec.num_classes,
            in_channels=spec.in_channels,
            dropout=spec.dropout,
            drop_path=spec.drop_path,
            zero_init_residual=spec.zero_init_residual,
        )
        if like == spec:
            usual = [stage.depth for stage in entry.stages]
            arguments = {} if depths == usual else {"layers": depths}
            return name, arguments | ({} if spec.in_channels == 3 else {"in_chans": spec.in_channels})
    raise UserError(
        f"timm does not have this network (stem {spec.stem}, shortcut {spec.shortcut}, {len(depths)} stages)",
        where="--to timm",
        fix="use --to onnx, openvino or torch; timm has four-stage networks of standard width with an ImageNet stem",
    )


def _pretrained(preprocess: ImagePreprocess, model: Model) -> dict[str, Any]:
    crop, resize = preprocess.crop, preprocess.resize
    return {
        "input_size": [preprocess.channels, crop, crop],
        "fixed_input_size": False,
        "interpolation": preprocess.interpolation,
        "crop_pct": 1.0 if resize is None else crop / resize,
        "crop_mode": "squash" if resize is None else "center",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "num_classes": len(model.classes),
        "first_conv": "conv1",
        "classifier": "fc",
        "license": model.info.licence,
    }


def load_timm(folder: Path) -> nn.Module:
    """Load the folder as timm's users do."""
    try:
        import timm
    except ImportError:
        raise UserError("checking the export needs the package timm", fix="pip install timm") from None
    network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return network.eval()
