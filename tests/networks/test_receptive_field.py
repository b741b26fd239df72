"""Receptive fields against those found by back-propagating a delta; activations against torchvision's networks."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from restune.networks.describe import describe, describe_entry
from restune.networks.resnet import ResNet
from restune.networks.zoo import ZOO

AVERAGE = {nn.MaxPool1d: nn.AvgPool1d, nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d}


def positive_network(spec):
    """The same structure, narrow, with positive weights: a gradient reaches all that an output depends on. A maximum
    passes gradients to one position only, so its pools average."""
    tokens = {"vocabulary": 0, "embedding_dropout": 0.0} if spec.vocabulary else {}
    network = ResNet(
        spec.override(
            width=16,
            groups=1,
            base_width=64,
            attention="none",
            num_classes=2,
            in_channels=2,
            hidden=(),
            zero_init_residual=False,
            **tokens,
        )
    )
    for name, module in list(network.named_modules()):
        if type(module) in AVERAGE:
            parent, _, own = name.rpartition(".")
            average = AVERAGE[type(module)](module.kernel_size, module.stride, module.padding)
            setattr(network.get_submodule(parent), own, average)
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    return network.eval().double()


def delta_extents(network, axis, length):
    """For stem and stages: how far along an axis the gradient of one position in the middle reaches."""
    shape = [length if each == axis else 1 for each in range(network.spec.dims)]
    x = torch.ones(1, network.spec.in_channels, *shape, dtype=torch.float64, requires_grad=True)
    outputs = network.forward_stages(x)
    extents = []
    for name in ("stem", *(f"stage{number + 1}" for number in range(len(network.spec.stages)))):
        middle = outputs[name].shape[2 + axis] // 2
        position = outputs[name].select(2 + axis, middle).sum()
        if name == "stem" and network.spec.stem == "none":
            extents.append(1)
            continue
        (gradient,) = torch.autograd.grad(position, x, retain_graph=True)
        reached = gradient.abs().sum(dim=[each for each in range(gradient.ndim) if each != 2 + axis]).nonzero()
        extents.append(int(reached.max() - reached.min()) + 1)
    return extents


@pytest.mark.parametrize("name", ZOO)
def test_a_delta_reaches_the_receptive_field_and_no_further(name):
    described = describe_entry(ZOO[name])
    network = positive_network(ZOO[name].spec)
    for axis in {0, ZOO[name].spec.dims - 1}:
        length = described.receptive_field[axis] + 160
        fields = [part.receptive_field[axis] for part in described.parts[:-1]]
        assert delta_extents(network, axis, length) == fields


@pytest.mark.parametrize(
    "changes",
    [
        {"shortcut": "A", "residual": True},
        {"shortcut": "D", "stem": "small"},
        {"residual": False},
        {"preact": True, "kernels": (5, 3)},
        {"depths": (1, 2), "downsample": "max-pool"},
    ],
)
def test_changed_structures_too(changes):
    spec = ZOO["resnet18"].spec.override(**changes)
    described = describe(spec, 64)
    extents = delta_extents(positive_network(spec), 0, described.receptive_field[0] + 160)
    assert extents == [part.receptive_field[0] for part in described.parts[:-1]]


def test_gates_that_read_everything_are_reported():
    assert describe_entry(ZOO["seresnet50"]).sees_everything
    assert describe_entry(ZOO["ecaresnet50d"]).sees_everything
    assert not describe_entry(ZOO["resnet50"]).sees_everything


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_activations_are_what_torchvisions_convolutions_and_linear_layers_return(name):
    with torch.device("meta"):
        network, x = torchvision.models.get_model(name).eval(), torch.empty(1, 3, 224, 224)
    sizes = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _m, _i, output: sizes.append(output.numel()))
    network(x)
    described = describe_entry(ZOO[name])
    assert described.activations == sum(sizes)
    if name == "resnet50":
        assert (
            round(described.activations / 1e6, 1) == 11.1
        )  # Radosavovic et al. 2020, "Designing Network Design Spaces"
        assert round(described.flops / 1e9, 2) == 4.09
    assert described.receptive_field == {"resnet18": (435, 435)}.get(name, (427, 427))
