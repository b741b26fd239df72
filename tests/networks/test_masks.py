"""Padded series and texts: what follows an item changes nothing about it, and batch norms do not count it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import restune
from restune.networks.fold import folded
from restune.networks.masks import MaskedNorm1d
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec, StageSpec
from restune.networks.zoo import ZOO

ENTRIES = [name for name, entry in ZOO.items() if entry.spec.dims == 1]
LENGTHS = (5, 64, 37, 1, 50, 23)


def tiny(name: str) -> ResNetSpec:
    """The entry, thin and shallow, with the same layers otherwise and no random ones."""
    entry = ZOO[name]
    changes = {"hidden": (7, 6)} if entry.spec.hidden else {}
    changes |= {"in_channels": 2} if entry.kind == "signal" else {"embedding_dropout": 0.0}
    depths = [min(2, stage.depth) for stage in entry.spec.stages]
    return entry.spec.override(width=8, depths=depths, num_classes=3, dropout=0.0, **changes)


def variant(**changes) -> ResNetSpec:
    """A signal network of three stages with everything that strides, and what else is asked for."""
    stages = (
        StageSpec(depth=2, width=8),
        StageSpec(depth=1, width=12, stride=2),
        StageSpec(depth=2, width=16, stride=3),
    )
    return ResNetSpec(**{"dims": 1, "in_channels": 2, "stem_width": 8, "stages": stages, "num_classes": 3} | changes)


def bottlenecks(**changes) -> tuple[StageSpec, ...]:
    return tuple(
        StageSpec(block="bottleneck", depth=1, width=4, stride=stride, dilation=stride, **changes) for stride in (1, 2)
    )


VARIANTS = {
    **{f"shortcut {kind}": variant(shortcut=kind) for kind in ("A", "B", "C", "D", "norm")},
    **{f"preact {kind}": variant(shortcut=kind, preact=True, stem="small") for kind in ("A", "B", "C", "D")},
    **{f"pool {kind}": variant(pool=kind, k_max=4) for kind in ("average", "max", "average+max", "k-max")},
    **{f"stem {kind}": variant(stem=kind) for kind in ("imagenet", "deep", "small", "none")},
    "se": variant(attention="se"),
    "eca": variant(attention="eca"),
    "preact se": variant(attention="se", preact=True),
    "bottleneck": variant(stages=bottlenecks(), shortcut="D"),
    "grouped": variant(stages=bottlenecks(groups=2)),
    "preact bottleneck": variant(stages=bottlenecks(), preact=True),
    "max-pool": variant(stages=tuple(replace(stage, downsample="max-pool") for stage in variant().stages)),
    "preact max-pool": variant(
        stages=tuple(replace(stage, downsample="max-pool") for stage in variant().stages), preact=True
    ),
    "even kernels": variant(
        stages=tuple(
            StageSpec(block="triple", depth=2, width=8, kernels=(8, 5, 4), dilation=dilation) for dilation in (1, 3)
        )
    ),
    "even stride": variant(stages=(StageSpec(block="triple", depth=1, width=8, kernels=(8, 5, 4), stride=2),)),
    "plain": variant(residual=False),
    **{f"{act} {pool}": variant(act=act, pool=pool, k_max=4) for act in ("gelu", "silu") for pool in ("max", "k-max")},
    "leaky-relu": variant(act="leaky-relu", pool="average+max"),
    "group norm": variant(norm="group", norm_groups=4, shortcut="norm"),
    "group norm, gelu, deep": variant(norm="group", norm_groups=2, act="gelu", shortcut="D", stem="deep"),
    "group norm, preact": variant(norm="group", norm_groups=4, preact=True, stem="small"),
    "group norm, words": tiny("textresnet").override(norm="group", norm_groups=4, act="gelu"),
}
SPECS = {**{name: tiny(name) for name in ENTRIES}, **VARIANTS}


def test_all_networks_of_series_are_here():
    assert len(ENTRIES) == 9
    assert len(SPECS) == 46


def items_for(spec: ResNetSpec) -> list[torch.Tensor]:
    """In double precision: what is left of a difference is the padding's, not rounding's."""
    generator = torch.Generator().manual_seed(3)
    if spec.vocabulary:
        return [torch.randint(1, spec.vocabulary, (length,), generator=generator) for length in LENGTHS]
    return [torch.randn(spec.in_channels, length, generator=generator, dtype=torch.float64) for length in LENGTHS]


def padded(items: list[torch.Tensor], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The items side by side; padding of a series is anything, of a text the token 0."""
    filler = float("nan") if items[0].is_floating_point() else 0
    x = torch.full((len(items), *items[0].shape[:-1], length), filler, dtype=items[0].dtype)
    mask = torch.zeros(len(items), length, dtype=torch.bool)
    for row, item in enumerate(items):
        x[row, ..., : item.shape[-1]] = item
        mask[row, : item.shape[-1]] = True
    return x, mask


@pytest.fixture
def made(randomize):
    def make(spec: ResNetSpec) -> ResNet:
        torch.manual_seed(1)
        return randomize(ResNet(spec)).double()

    return make


@pytest.mark.parametrize("name", SPECS)
def test_an_item_does_not_depend_on_its_padding(name, made):
    """Each item alone and unpadded is the reference; in eval mode it may stand beside any other."""
    network = made(SPECS[name])
    items = items_for(network.spec)
    with torch.inference_mode():
        alone = torch.cat([network(item.unsqueeze(0)) for item in items])
        stages = [network.forward_stages(item.unsqueeze(0)) for item in items]
        for length in (64, 65, 71, 128):
            x, mask = padded(items, length)
            assert torch.allclose(network(x, mask), alone, atol=1e-9), length
            for stage, output in network.forward_stages(x, mask).items():
                for row, own in enumerate(stages):
                    if output.ndim == 3:  # an item has as many positions as alone, and then zeros
                        there = own[stage].shape[2]
                        assert not output[row, :, there:].any()
                        assert torch.allclose(output[row, :, :there], own[stage][0], atol=1e-9), (stage, length)
                    else:
                        assert torch.allclose(output[row], own[stage][0], atol=1e-9), (stage, length)


@pytest.mark.parametrize("name", SPECS)
def test_single_precision_adds_rounding_only(name, made):
    network = made(SPECS[name]).float()
    items = [item.to(torch.float32) if item.is_floating_point() else item for item in items_for(network.spec)]
    with torch.inference_mode():
        alone = torch.cat([network(item.unsqueeze(0)) for item in items])
        for length in (64, 100):
            assert (network(*padded(items, length)) - alone).abs().max() <= 1e-5 * (1 + alone.abs().max())


@pytest.mark.parametrize("name", SPECS)
def test_training_does_not_depend_on_padding(name, made):
    """Logits, gradients and statistics of one batch, however far it is padded."""
    torch.manual_seed(0)
    network = made(SPECS[name])
    items = items_for(network.spec)
    found = []
    for length in (64, 67, 128):
        model = copy.deepcopy(network).train()
        logits = model(*padded(items, length))
        logits.square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        found.append({"logits": logits.detach(), **gradients, **dict(model.named_buffers())})
    for other in found[1:]:
        for key, value in found[0].items():
            assert torch.allclose(other[key], value, atol=1e-8), key


@pytest.mark.parametrize("name", SPECS)
def test_training_on_one_padded_item_is_training_on_it_alone(name, made):
    network = made(SPECS[name])
    item = items_for(network.spec)[1]
    alone, beside = copy.deepcopy(network).train(), copy.deepcopy(network).train()
    assert torch.allclose(beside(*padded([item], 90)), alone(item.unsqueeze(0)), atol=1e-9)
    for (key, a), (_, b) in zip(alone.named_buffers(), beside.named_buffers(), strict=True):
        assert torch.allclose(a, b, atol=1e-9), key


@pytest.mark.parametrize("name", ["resnet1d_ts", "resnet1d18", "vdcnn9", "textresnet", "preact se"])
def test_a_full_mask_is_no_mask(name, made):
    network = made(SPECS[name])
    items = [item for item in items_for(network.spec) if item.shape[-1] == 64]
    x, mask = padded(items, 64)
    assert torch.allclose(network(x, mask), network(x), atol=1e-9)


def test_norms_count_the_positions_that_are_there():
    """Against torch's batch norm of all real positions in a row: outputs, running statistics, gradients."""
    torch.manual_seed(0)
    ours, theirs = MaskedNorm1d(4), nn.BatchNorm1d(4)
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        ours.bias.uniform_(-1, 1)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    mask = torch.arange(9) < torch.tensor([[3], [9], [1]])
    for _ in range(3):
        x = torch.randn(3, 4, 9, requires_grad=True)
        rows = torch.cat([x[row, :, there].T for row, there in enumerate(mask)]).detach().requires_grad_()
        y, expected = ours(x, mask), theirs(rows)
        assert torch.allclose(y.transpose(1, 2)[mask], expected, atol=1e-6)
        assert not y.transpose(1, 2)[~mask].any()
        y.square().sum().backward()
        expected.square().sum().backward()
        assert torch.allclose(x.grad.transpose(1, 2)[mask], rows.grad, atol=1e-6)
        assert not x.grad.transpose(1, 2)[~mask].any()
    for (key, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert torch.allclose(a, b), key
    assert ours.num_batches_tracked == 3
    assert torch.allclose(ours.eval()(x, mask).transpose(1, 2)[mask], theirs.eval()(rows), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet1d_ts", "resnet1d50", "vdcnn29", "textresnet", "stem deep", "preact A"])
def test_cuts_and_folded_copies_honour_masks(name, made):
    network = made(SPECS[name])
    x, mask = padded(items_for(network.spec), 70)
    logits = network(x, mask)
    for cut in (*range(len(network.spec.stages) + 1), "all"):
        below = folded(network, cut).forward_until(x, cut, mask)
        assert torch.allclose(network.forward_from(below, cut, mask), logits, atol=1e-9), cut
        if cut != "all":
            assert torch.allclose(network.forward_from(below, cut, network.mask_at(mask, cut)), logits, atol=1e-9), cut
            lengths = network.mask_at(mask, cut).sum(1).tolist()
            alone = [network.forward_until(item.unsqueeze(0), cut).shape[2] for item in items_for(network.spec)]
            assert lengths == alone
    assert torch.allclose(network.fc(folded(network).embed(x, mask)), logits, atol=1e-9)


def test_gradient_checkpointing_honours_masks():
    torch.manual_seed(0)
    network = ResNet(SPECS["resnet1d18"]).double().train()
    other = copy.deepcopy(network)
    other.gradient_checkpointing = True
    x, mask = padded(items_for(network.spec), 70)
    for model in (network, other):
        model(x, mask).square().sum().backward()
    for (key, a), (_, b) in zip(network.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key
    for (key, a), (_, b) in zip(network.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(a, b), key


def test_an_empty_item_gives_numbers():
    network = ResNet(SPECS["textresnet"]).eval()
    x, mask = padded(items_for(network.spec), 64)
    mask[0] = False
    logits = network(x, mask)
    assert bool(torch.isfinite(logits).all())
    assert torch.allclose(logits[0], network.fc(torch.zeros(1, network.spec.num_features))[0], atol=1e-6)


def test_masks_are_for_series():
    with pytest.raises(ValueError, match="for series"):
        restune.create_model("resnet8")(torch.randn(2, 3, 32, 32), torch.ones(2, 32, dtype=torch.bool))
    network = ResNet(SPECS["resnet1d18"])
    with pytest.raises(ValueError, match=r"\[2, 40\] with input \[2, 2, 48\]"):
        network(torch.randn(2, 2, 48), torch.ones(2, 40, dtype=torch.bool))
