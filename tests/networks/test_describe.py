"""Parameters and FLOPs against torchvision's published figures and torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from restune.networks.describe import describe
from restune.networks.resnet import ResNet
from restune.networks.zoo import ZOO

PUBLISHED = {
    name: torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    for name in ZOO
    if name in torchvision.models.list_models(module=torchvision.models) and name != "resnext101_64x4d"
}


def test_nine_published_figures():
    assert len(PUBLISHED) == 9


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvisions_figures(name):
    described = describe(ZOO[name].spec, 224)
    assert described.parameters == PUBLISHED[name]["num_params"]
    assert round(described.flops / 1e9, 3) == PUBLISHED[name]["_ops"]


@pytest.mark.parametrize("name", ZOO)
def test_torchs_counter(name):
    entry = ZOO[name]
    with torch.device("meta"):
        network, x = ResNet(entry.spec).eval(), torch.empty(1, 3, entry.crop, entry.crop)
    with FlopCounterMode(display=False) as counter:
        network(x)
    described = describe(entry.spec, entry.crop)
    assert described.flops == counter.get_total_flops() // 2  # it counts a multiply-add as two
    assert described.parameters == sum(p.numel() for p in network.parameters())
    assert [part.name for part in described.parts] == [
        "stem",
        *[f"stage{i + 1}" for i in range(len(entry.spec.stages))],
        "head",
    ]
