"""Parameters and FLOPs against torchvision's published figures and torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from restune.networks.describe import describe, describe_entry
from restune.networks.resnet import ResNet
from restune.networks.zoo import ZOO

PUBLISHED = {
    name: torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    for name in ZOO
    if name in torchvision.models.list_models(module=torchvision.models) and name != "resnext101_64x4d"
}

VIDEO = {
    name: torchvision.models.get_model_weights(name).KINETICS400_V1.meta for name in ("r3d_18", "mc3_18", "r2plus1d_18")
}


def test_nine_published_figures():
    assert len(PUBLISHED) == 9


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvisions_figures(name):
    described = describe(ZOO[name].spec, 224)
    assert described.parameters == PUBLISHED[name]["num_params"]
    assert round(described.flops / 1e9, 3) == PUBLISHED[name]["_ops"]


@pytest.mark.parametrize("name", VIDEO)
def test_torchvisions_figures_of_clips(name):
    described = describe_entry(ZOO[name])
    assert described.parameters == VIDEO[name]["num_params"]
    assert round(described.flops / 1e9, 3) == VIDEO[name]["_ops"]


def test_an_embedding_costs_no_operations():
    described = describe_entry(ZOO["textresnet"])
    assert described.parts[0].flops == 0
    assert described.parts[0].parameters == 257 * 128
    assert described.parts[0].shape == (128, 64)


@pytest.mark.parametrize("name", ZOO)
def test_torchs_counter(name):
    entry = ZOO[name]
    with torch.device("meta"):
        dtype = torch.int64 if entry.spec.vocabulary else torch.float32
        network, x = ResNet(entry.spec).eval(), torch.empty(1, *entry.input_shape(), dtype=dtype)
    with FlopCounterMode(display=False) as counter:
        network(x)
    described = describe_entry(entry)
    assert described.input_shape == entry.input_shape()
    assert described.flops == counter.get_total_flops() // 2  # it counts a multiply-add as two
    assert described.parameters == sum(p.numel() for p in network.parameters())
    assert [part.name for part in described.parts] == [
        "stem",
        *[f"stage{i + 1}" for i in range(len(entry.spec.stages))],
        "head",
    ]
