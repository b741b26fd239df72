"""The zoo against independent implementations: torchvision's and timm's networks of the same name."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torchvision

from restune.networks.fold import folded
from restune.networks.resnet import ResNet
from restune.networks.zoo import ZOO

TORCHVISION = sorted(set(ZOO) & set(torchvision.models.list_models(module=torchvision.models)))
TIMM = sorted(set(ZOO) & set(timm.list_models()))


def test_the_peers_cover_what_they_should():
    assert len(TORCHVISION) == 10
    assert len(TIMM) == 16
    without_twin = {name for name in ZOO if name not in TORCHVISION and name not in TIMM}
    assert without_twin == {
        *("preresnet18", "preresnet50", "preresnet110"),
        *("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        "wide_resnet8",
        *("resnet1d_ts", "resnet1d18", "resnet1d34", "resnet1d50"),
        *("vdcnn9", "vdcnn17", "vdcnn29", "vdcnn49", "textresnet"),
        *("r3d_18", "mc3_18", "r2plus1d_18"),  # see test_video
    }


def assert_same_network(ours, theirs):
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for size in (97, 224):
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
        with torch.inference_mode():
            a, b = ours(x), theirs(x)
        assert (a - b).abs().max() <= 1e-4 * (1 + b.abs().max())


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name, randomize):
    assert_same_network(randomize(ResNet(ZOO[name].spec)), torchvision.models.get_model(name).eval())


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, randomize):
    if name in TORCHVISION:  # heavy, and equal by the test above: the state dict's shape is what is left to show
        with torch.device("meta"):
            ours, theirs = ResNet(ZOO[name].spec).state_dict(), timm.create_model(name).state_dict()
        assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
        return
    assert_same_network(randomize(ResNet(ZOO[name].spec)), timm.create_model(name).eval())


def test_timm_light(randomize):
    """Where both peers have a network, one is enough to show that timm computes the same."""
    assert_same_network(randomize(ResNet(ZOO["resnet50"].spec)), timm.create_model("resnet50").eval())


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "seresnet50"])
@pytest.mark.parametrize(
    ("norm", "act"),
    [("group", "relu"), ("batch", "gelu"), ("group", "gelu"), ("group", "silu"), ("batch", "leaky-relu")],
)
def test_norms_and_activations_are_timms(name, norm, act, randomize):
    layer = timm.layers.GroupNorm if norm == "group" else torch.nn.BatchNorm2d
    theirs = timm.create_model(name, norm_layer=layer, act_layer=act.replace("-", "_")).eval()
    ours = randomize(ResNet(ZOO[name].spec.override(norm=norm, act=act)))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 97, 97, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        a, b = ours(x), theirs(x)
        usual = ResNet(ZOO[name].spec.override(norm=norm)).eval()
        usual.load_state_dict(ours.state_dict())
        assert act == "relu" or not torch.allclose(usual(x), b, rtol=1e-2)  # the activation matters
    assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max()))
    folded_until = folded(ours).embed(x)
    assert torch.allclose(ours.fc(folded_until), b, atol=1e-3 * float(b.abs().max()))


def test_the_published_group_norm_network_is_timms(randomize):
    assert_same_network(
        randomize(ResNet(ZOO["resnet50"].spec.override(norm="group"))), timm.create_model("resnet50_gn").eval()
    )


def test_groups_divide_the_channels_of_every_network():
    for name, entry in ZOO.items():
        with torch.device("meta"):
            network = ResNet(entry.spec.override(norm="group"))
        norms = [module for module in network.modules() if isinstance(module, torch.nn.GroupNorm)]
        assert norms, name
        assert not any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules())
        assert all(module.num_groups == math.gcd(32, module.num_channels) for module in norms)


def test_dilated_resnet50_is_torchvisions(randomize):
    from dataclasses import replace

    spec = ZOO["resnet50"].spec
    stages = (
        *spec.stages[:2],
        replace(spec.stages[2], stride=1, dilation=2),
        replace(spec.stages[3], stride=1, dilation=4),
    )
    ours = randomize(ResNet(replace(spec, stages=stages)))
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    assert_same_network(ours, theirs)
