"""A description is drawn from what the network does: shortcuts by their layers, and blocks that nobody foresaw."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from restune.networks.describe import describe_entry, describe_network
from restune.networks.resnet import ResNet
from restune.networks.structure import Fork, runs_of_equal_blocks
from restune.networks.zoo import ZOO


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, ["identity", "projection"]),
        ({"shortcut": "A"}, ["A", "identity"]),
        ({"shortcut": "C"}, ["C", "projection"]),
        ({"shortcut": "D"}, ["D", "identity"]),
        ({"shortcut": "norm"}, ["norm", "projection"]),
        ({"preact": True}, ["identity", "projection"]),
        ({"residual": False}, ["none"]),
        ({"attention": "se"}, ["identity", "projection"]),
    ],
)
def test_shortcuts_are_named_by_their_layers(changes, kinds):
    described = describe_entry(ZOO["resnet18"], spec=ZOO["resnet18"].spec.override(**changes))
    blocks = [block for part in described.parts for block in part.blocks]
    assert len(blocks) == 8
    assert sorted({block.shortcut for block in blocks}) == kinds


def test_a_bottleneck_in_full():
    block = describe_entry(ZOO["resnet50"]).parts[2].blocks[0]
    fork = next(item for item in block.items if isinstance(item, Fork))
    assert [layer.name for layer in fork.branch if layer.name] == ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3"]
    assert [layer.name for layer in fork.shortcut] == ["downsample.0", "downsample.1"]
    assert [layer.kernel for layer in fork.branch if layer.kind == "conv"] == [(1, 1), (3, 3), (1, 1)]
    assert fork.branch[3].stride == (2, 2), "the stride is in the 3x3"
    assert block.items[-1].label == "relu"
    assert sum(layer.parameters for layer in block.layers) == block.parameters
    assert sum(layer.flops for layer in block.layers) == block.flops


def test_equal_blocks_are_grouped():
    stages = [part for part in describe_entry(ZOO["resnet152"]).parts if part.blocks]
    assert [[len(run) for run in runs_of_equal_blocks(part.blocks)] for part in stages] == [
        [1, 2],
        [1, 7],
        [1, 35],
        [1, 2],
    ]


class TwoSums(nn.Module):
    """A block of no known class: two residual branches in a row, the second without a module for its shortcut."""

    def __init__(self):
        super().__init__()
        self.stride = 1
        self.mix = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.out = nn.Sequential(nn.Conv2d(16, 32, 1), nn.GELU(), nn.Conv2d(32, 16, 1))

    def forward(self, x, _mask=None):
        x = x + self.mix(x)
        return x + self.out(x)


def test_a_block_of_an_unknown_class_is_described_from_what_it_does():
    with torch.device("meta"):
        network = ResNet(ZOO["resnet8"].spec).eval()
        network.layer1[0] = TwoSums()
    (block,) = describe_network(network, (32, 32)).parts[1].blocks
    assert block.label == "TwoSums"
    forks = [item for item in block.items if isinstance(item, Fork)]
    assert [[layer.kind for layer in fork.branch] for fork in forks] == [["conv"], ["conv", "activation", "conv"]]
    assert [fork.kind for fork in forks] == ["identity", "identity"]
    assert block.receptive_field == (7, 7)
    assert forks[0].branch[0].groups == 16
