"""The network's own contract, over the whole zoo: counts, shapes, plain twins, options."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import restune
from restune.networks.layers import DropPath, PadShortcut
from restune.networks.resnet import ResNet, SmallInputWarning
from restune.networks.spec import ResNetSpec, StageSpec
from restune.networks.zoo import ZOO

PUBLISHED_COUNTS = {  # torchvision's documentation; He et al. 2016, table 6, recounted with option-A shortcuts
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "r3d_18": 33_371_472,
    "mc3_18": 11_695_440,
    "r2plus1d_18": 31_505_325,
}

SIDES = {"image": (96, 96), "video": (4, 32, 32), "signal": (64,), "text": (96,)}
"""Positions of a small input of each kind."""


def count(module):
    return sum(p.numel() for p in module.parameters())


def small(**changes):
    return restune.create_model("resnet8", **changes)


def test_the_zoo_has_what_was_promised():
    assert len(ZOO) == 38
    assert restune.list_models() == list(ZOO)
    assert restune.list_models("resnet*d") == ["resnet18d", "resnet34d", "resnet50d", "resnet101d"]


@pytest.mark.parametrize(("name", "expected"), PUBLISHED_COUNTS.items())
def test_published_parameter_counts(name, expected):
    with torch.device("meta"):
        assert count(ResNet(ZOO[name].spec)) == expected


@pytest.mark.parametrize("name", ZOO)
def test_every_entry_runs_at_a_reduced_width_with_named_stages(name):
    entry = ZOO[name]
    thin = {"hidden": (12, 10)} if entry.spec.hidden else {}
    spec = entry.spec.override(
        width=32 if entry.spec.stages[0].groups > 1 else 16, depths=[1] * len(entry.spec.stages), **thin
    )
    network = ResNet(replace(spec, num_classes=7)).eval()
    sides = SIDES[entry.kind]
    x = torch.randint(257, (2, *sides)) if spec.vocabulary else torch.randn(2, spec.in_channels, *sides)
    with torch.inference_mode():
        outputs = network.forward_stages(x)
        stages = [f"stage{i + 1}" for i in range(len(spec.stages))]
        assert list(outputs) == ["stem", *stages, "pooled", "logits"]
        assert outputs["logits"].shape == (2, 7)
        assert torch.equal(outputs["logits"], network(x))
        assert torch.equal(outputs["pooled"], network.embed(x))
        assert outputs["pooled"].shape == (2, spec.num_features)
    # The stem's strides, then each later stage halves, in a stage of spatial convolutions not time.
    expected = [size // {"imagenet": 4, "deep": 4, "clip": 2}.get(spec.stem, 1) for size in sides]
    if entry.kind == "video":
        expected[0] = sides[0]
    for stage, plan in zip(stages, spec.stages, strict=True):
        steps = [1 if axis == 0 and plan.conv == "spatial" else plan.stride for axis in range(spec.dims)]
        expected = [-(-size // step) for size, step in zip(expected, steps, strict=True)]
        assert outputs[stage].shape == (2, plan.out_channels, *expected)


@pytest.mark.parametrize("name", ZOO)
def test_every_entry_has_a_plain_twin(name):
    spec = ZOO[name].spec
    with torch.device("meta"):
        residual, plain = ResNet(spec), ResNet(spec.override(residual=False))
    projections = sum(p.numel() for key, p in residual.named_parameters() if "downsample" in key)
    assert count(plain) == count(residual) - projections
    assert (projections == 0) == (spec.shortcut == "A" or name == "textresnet")  # whose shapes never change


def test_the_plain_twin_shares_weights_and_differs_in_logits(randomize):
    residual = randomize(small())
    plain = small(residual=False).eval()
    plain.load_state_dict(residual.state_dict(), strict=True)
    x = torch.randn(4, 3, 32, 32)
    assert (residual(x) - plain(x)).abs().max() > 0.1


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "seresnet50", "ecaresnet50d", "preresnet18", "resnet8"])
def test_one_and_three_dimensions(name, dims):
    spec = ZOO[name].spec.override(
        dims=dims, width=8, depths=[1] * len(ZOO[name].spec.stages), in_channels=2, num_classes=5
    )
    network = ResNet(spec).eval()
    outputs = network.forward_stages(torch.randn(2, 2, *[32] * dims))
    assert outputs["logits"].shape == (2, 5)
    assert outputs["stem"].ndim == dims + 2


def test_one_dimension_is_two_with_height_one(randomize):
    """A 1-D network is the 2-D one whose kernels have height 1: the middle rows of its kernels on a height of 1."""
    one = randomize(small(dims=1))
    two = small(dims=2).eval()
    state = {}
    for key, value in one.state_dict().items():
        target = two.state_dict()[key]
        if value.ndim == 3:
            state[key] = torch.zeros_like(target)
            state[key][:, :, target.shape[2] // 2, :] = value
        else:
            state[key] = value
    two.load_state_dict(state)
    x = torch.randn(2, 3, 40)
    assert torch.allclose(one(x), two(x.unsqueeze(2)), atol=1e-4)


def test_shortcut_a_by_hand():
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    y = PadShortcut(2, 5, stride=2)(x)
    assert y.shape == (1, 5, 2, 2)
    assert torch.equal(y[0, 1:3], x[0, :, ::2, ::2])  # one zero channel before, two after
    assert y[0, [0, 3, 4]].abs().sum() == 0


def test_pre_activation_block_by_hand(randomize):
    """x + conv2(relu(bn2(conv1(relu(bn1(x)))))), and a shortcut from the activated input where shapes change."""
    network = randomize(restune.create_model("preresnet18", width=8, depths=(2, 1, 1, 1)))
    keep = network.layer1[1]
    x = torch.randn(2, 8, 12, 12)
    by_hand = x + keep.conv2(torch.relu(keep.bn2(keep.conv1(torch.relu(keep.bn1(x))))))
    assert torch.allclose(keep(x), by_hand, atol=1e-6)
    change = network.layer2[0]
    activated = torch.relu(change.bn1(x))
    by_hand = change.downsample(activated) + change.conv2(torch.relu(change.bn2(change.conv1(activated))))
    assert torch.allclose(change(x), by_hand, atol=1e-6)


def test_shortcut_c_projects_everywhere_and_b_where_shapes_change():
    def projections(kind):
        return sum(
            block.downsample is not None
            for stage in restune.create_model("resnet18", shortcut=kind).stages()
            for block in stage
        )

    assert projections("C") == 8
    assert projections("B") == 3


def test_drop_path_keeps_the_expectation_and_drops_whole_samples():
    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    y = layer(torch.ones(4000, 3, 2, 2))
    per_sample = y.flatten(1)
    assert bool(((per_sample == 0).all(1) | torch.isclose(per_sample, torch.tensor(1 / 0.75)).all(1)).all())
    share = (per_sample[:, 0] == 0).double().mean().item()
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    assert torch.equal(layer.eval()(y), y)


def test_drop_path_rises_linearly():
    network = restune.create_model("resnet18", drop_path=0.7)
    rates = [getattr(block.drop_path, "rate", 0.0) for stage in network.stages() for block in stage]
    assert rates == pytest.approx([0.7 * i / 7 for i in range(8)])


def test_gradient_checkpointing_changes_nothing_but_memory():
    """Gradients and batch-norm statistics are the same to the bit, with drop path drawing the same."""
    plain = small(drop_path=0.5).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing = True
    x = torch.randn(4, 3, 32, 32)
    for network in (plain, checkpointed):
        torch.manual_seed(1)
        network(x).square().sum().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), (_, b) in zip(plain.named_buffers(), checkpointed.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def test_gradient_checkpointing_keeps_less():
    def kept(checkpointing):
        network = restune.create_model("resnet32").train()
        network.gradient_checkpointing = checkpointing
        sizes = {}

        def pack(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.randn(8, 3, 32, 32))
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)


def test_dropout_stands_before_the_head():
    network = small(dropout=0.5).train()
    x = torch.randn(8, 3, 32, 32)
    torch.manual_seed(0)
    first = network(x)
    torch.manual_seed(1)
    assert not torch.equal(first, network(x))
    network.eval()
    assert torch.equal(network(x), network.fc(network.embed(x)))


def test_an_imagenet_stem_warns_of_small_images_and_changes_nothing():
    network = restune.create_model("resnet18", width=8, num_classes=3).eval()
    with pytest.warns(SmallInputWarning, match='stem="small"'):
        network(torch.randn(1, 3, 48, 48))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(torch.randn(1, 3, 49, 49))
        restune.create_model("resnet18", width=8, stem="small").eval()(torch.randn(1, 3, 32, 32))
        restune.create_model("resnet8").eval()(torch.randn(1, 3, 32, 32))
    assert network.spec.stem == "imagenet"


def test_zero_init_residual_makes_blocks_identities():
    network = restune.create_model("resnet50", width=8, zero_init_residual=True).eval()
    x = torch.rand(1, 32, 6, 6)
    assert torch.allclose(network.layer1[1](x), x)


def test_he_initialisation():
    torch.manual_seed(0)
    weight = restune.create_model("resnet34").layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)


def test_reset_head():
    network = small().eval()
    x = torch.ones(2, 3, 32, 32)
    before = network.embed(x)
    network.reset_head(3)
    assert network.spec.num_classes == 3
    assert isinstance(network.fc, nn.Linear)
    assert network(x).shape == (2, 3)
    assert torch.equal(before, network.embed(x))


def test_overrides():
    network = restune.create_model("resnet50", depths=(1, 2, 1), width=32, attention="se", num_classes=4, in_channels=1)
    assert [len(stage) for stage in network.stages()] == [1, 2, 1]
    assert [stage.width for stage in network.spec.stages] == [32, 64, 128]
    assert network.spec.stem_width == 32
    assert network(torch.randn(2, 1, 80, 80)).shape == (2, 4)
    deeper = restune.create_model("resnet20", depths=(1, 1, 1, 2))
    assert [(s.width, s.stride) for s in deeper.spec.stages] == [(16, 1), (32, 2), (64, 2), (128, 2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deptsh": (1, 1, 1, 1)}, "Did you mean 'depths'"),
        ({"stem": "smal"}, "Did you mean 'small'"),
        ({"width": 0}, "at least 1"),
        ({"depths": 3}, "one number per stage"),
        ({"depths": (1, 0, 1, 1)}, "at least 1"),
        ({"residual": False, "zero_init_residual": True}, "plain"),
        ({"residual": False, "drop_path": 0.1}, "plain"),
        ({"preact": True, "zero_init_residual": True}, "pre-activation"),
        ({"drop_path": 1.0}, "below 1"),
        ({"dims": 4}, "1, 2 or 3"),
        ({"groups": 32}, "bottleneck"),
        ({"residual": "no"}, "expected bool"),
        ({"depths": 5.0}, "one number per stage"),
        ({"stages": 5}, "must be a list"),
        ({"stages": [{"depth": 1}]}, "width"),
        ({"block": "bottleneck", "base_width": 4, "width": 8}, "leaves no channels"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(restune.UserError, match=message):
        restune.create_model("resnet18", **changes)


@pytest.mark.parametrize("name", ZOO)
def test_a_spec_survives_its_dictionary(name):
    spec = ZOO[name].spec
    assert ResNetSpec.from_dict(spec.to_dict()) == spec


def test_a_home_made_network():
    spec = ResNetSpec(
        stages=(StageSpec(depth=1, width=8), StageSpec(block="bottleneck", depth=2, width=8, stride=2)),
        stem="small",
        stem_width=8,
        num_classes=2,
    )
    assert ResNet(spec)(torch.randn(2, 3, 20, 20)).shape == (2, 2)
