"""The network in a checkpoint is found by its structure, whatever stands before, beside or on top of it."""

from __future__ import annotations

import argparse

import pytest
import torch
import torchvision
from torch import nn

import restune
from restune.weights.body import find_network
from restune.weights.load import infer_model, load_into, read_weights


@pytest.fixture
def network(randomize):
    return randomize(restune.create_model("resnet8", num_classes=7))


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def body(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def zeros(state):
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def read(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    return read_weights(tmp_path / "weights.pth")


# The head


SEVERAL = {
    "two layers": lambda n: nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 5)),
    "with a norm": lambda n: nn.Sequential(nn.BatchNorm1d(n), nn.Linear(n, 5)),
    "three layers, named": lambda n: nn.ModuleDict({"a": nn.Linear(n, 9), "b": nn.Linear(9, 9), "c": nn.Linear(9, 5)}),
}


@pytest.mark.parametrize("root", ["fc", "classifier", "linear", "head", "last_linear"])
@pytest.mark.parametrize("kind", SEVERAL)
def test_a_head_of_several_layers_is_the_old_head(network, tmp_path, kind, root):
    state = {**body(network.state_dict()), **under(f"{root}.", SEVERAL[kind](64).state_dict())}
    weights = read(state, tmp_path)
    assert equal(weights.state, body(network.state_dict()))
    assert weights.num_classes is None
    assert weights.head_classes == 5
    assert infer_model(weights) == "resnet8"
    made = restune.create_model("resnet8", num_classes=3)
    report = load_into(made, weights)
    assert report.new == ("fc.weight", "fc.bias")
    assert equal(body(made.state_dict()), body(network.state_dict()))
    assert f"ignored tensors: {'fc' if root == 'linear' else root}." in str(report)
    with pytest.raises(restune.UserError, match="no head"):  # which is no licence to predict with a random one
        restune.load(tmp_path / "weights.pth")


@pytest.mark.parametrize("place", ["fc.1", "classifier", "classifier.0", "head.fc", "linear.1", "last_linear"])
def test_a_head_of_one_linear_layer_is_the_head_under_any_name(network, tmp_path, place):
    state = {
        **body(network.state_dict()),
        f"{place}.weight": network.fc.weight,
        f"{place}.bias": network.fc.bias,
    }
    assert equal(read(state, tmp_path).state, network.state_dict())
    model = restune.load(tmp_path / "weights.pth")
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(model.module(x), network.eval()(x), atol=1e-5)
    del state["layer2.0.bn1.weight"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(restune.UserError, match="not this network's: missing"):  # the body stays strict
        restune.create_model("resnet8", weights=tmp_path / "weights.pth")


def test_a_head_beside_the_backbone(network, tmp_path):
    """`self.backbone = resnet; self.classifier = Linear`, in a Lightning module."""
    state = under("model.backbone.", body(network.state_dict()))
    head = {"model.classifier.weight": network.fc.weight, "model.classifier.bias": network.fc.bias}
    assert equal(read({"state_dict": {**state, **head}}, tmp_path).state, network.state_dict())
    narrow = {"model.classifier.weight": torch.zeros(7, 9)}  # reads a projection, not the pooled features
    weights = read({"state_dict": {**state, **narrow}}, tmp_path)
    assert weights.num_classes is None
    assert weights.found.ignored == ("model.classifier.weight",)


# The body


PREFIXES = ["encoder.", "backbone.", "model.net.", "module.encoder_q.", "trunk.feature_extractor.", "_orig_mod.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["resnet18", "resnet20", "r3d_18"])
def test_any_prefix(name, prefix, tmp_path):
    network = restune.create_model(name, num_classes=2)
    weights = read({"state_dict": under(prefix, network.state_dict())}, tmp_path)
    assert equal(weights.state, network.state_dict())
    assert infer_model(weights) == name


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("module.encoder_q.", "module.encoder_k."),
        ("student.backbone.", "teacher.backbone."),
        ("online_encoder.net.", "target_encoder.net."),
        ("model.", "ema."),
        ("encoder.", "momentum_encoder."),
        ("", "ema_model."),
    ],
)
def test_the_trained_one_of_two(network, tmp_path, capsys, taken, left):
    state = network.state_dict()
    for content in (
        {**under(taken, state), **under(left, zeros(state))},
        {**under(left, zeros(state)), **under(taken, state)},
    ):
        torch.save({"state_dict": content}, tmp_path / "weights.pth")
        made = restune.create_model("resnet8", weights=tmp_path / "weights.pth")
        assert equal(dict(made.state_dict()), dict(state))
        said = capsys.readouterr().err
        assert f"taken from state_dict.{taken}" in said
        assert f"not used: state_dict.{left}" in said


HEAD = {"module.head.mlp.0.weight": torch.zeros(4, 64), "module.head.last_layer.weight_v": torch.zeros(9, 4)}


def test_dino_has_two_networks_side_by_side(network, tmp_path):
    state = network.state_dict()
    content = {
        "teacher": {**under("backbone.", zeros(body(state))), "head.mlp.0.weight": torch.zeros(4, 64)},
        "student": {**under("module.backbone.", body(state)), **HEAD},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "args": argparse.Namespace(arch="resnet8"),
        "dino_loss": {"center": torch.zeros(1, 8)},
    }
    weights = read(content, tmp_path)
    assert equal(weights.state, body(state))
    assert weights.found.place == "student.module.backbone."
    assert weights.found.others == ("teacher.backbone.",)
    assert weights.skipped == ("args (argparse.Namespace)",)


def test_two_that_are_alike_are_not_guessed(network, tmp_path):
    state = network.state_dict()
    with pytest.raises(restune.UserError, match=r"several networks: left\., right\.") as caught:
        read({**under("left.", state), **under("right.", state)}, tmp_path)
    assert "separate file" in caught.value.fix


def test_of_two_the_one_of_the_zoo_is_taken(network, tmp_path):
    other = restune.create_model("resnet8", width=12).state_dict()
    weights = read({**under("denoiser.", other), **under("classifier.", network.state_dict())}, tmp_path)
    assert equal(weights.state, network.state_dict())
    assert weights.found.others == ("denoiser.",)


def test_numbered_children_of_a_sequential(tmp_path):
    theirs = torchvision.models.resnet18(num_classes=5)
    numbered = nn.Sequential(*list(theirs.children())[:-1])
    for prefix in ("", "encoder.", "module.backbone."):
        weights = read({"state_dict": under(prefix, numbered.state_dict())}, tmp_path)
        assert equal(weights.state, body(theirs.state_dict()))
        assert infer_model(weights) == "resnet18"


# What is beside it


def test_queues_and_counters_are_ignored_and_said(network, tmp_path, capsys):
    state = network.state_dict()
    extra = {
        "module.queue": torch.zeros(8, 16),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
        "module.projector.0.weight": torch.zeros(3, 64),
    }
    torch.save({"state_dict": {**under("module.encoder_q.", state), **extra}}, tmp_path / "weights.pth")
    made = restune.create_model("resnet8", weights=tmp_path / "weights.pth")
    assert equal(dict(made.state_dict()), dict(state))
    assert "ignored tensors: module.queue, module.queue_ptr, module.projector.0" in capsys.readouterr().err
    torch.save({**state, "queue": torch.zeros(8), "steps": torch.tensor(3)}, tmp_path / "weights.pth")
    made = restune.create_model("resnet8", weights=tmp_path / "weights.pth")
    assert equal(dict(made.state_dict()), dict(state))
    assert "ignored tensors: queue, steps" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_batch_counters_may_be_missing_or_extra(network, change):
    state = dict(network.state_dict())
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    if change == "missing":
        state = {name: tensor for name, tensor in state.items() if name not in counters[1:]}
    else:
        state["layer1.0.downsample.1.num_batches_tracked"] = torch.tensor(3)
    made = restune.create_model("resnet8", num_classes=7)
    from restune.weights.load import Weights

    load_into(made, Weights(state=state, source="test"))
    given = body({name: tensor for name, tensor in network.state_dict().items() if name not in counters})
    assert all(torch.equal(made.state_dict()[name], tensor) for name, tensor in given.items())


def test_another_layer_of_the_body_is_never_ignored(network, tmp_path):
    """What the forward pass of the file's own network had, and ours would not."""
    state = network.state_dict()
    for name in ("layer1.0.attention.weight", "layer1.1.conv1.weight", "conv1.lora.weight", "attention.weight"):
        torch.save({**state, name: torch.zeros(3)}, tmp_path / "weights.pth")
        with pytest.raises(restune.UserError, match=f"left over {name}"):
            restune.create_model("resnet8", weights=tmp_path / "weights.pth")


def test_containers_that_refer_to_each_other_end():
    many = {str(number): torch.zeros(1) for number in range(100)}
    for _ in range(6):
        many = {str(number): many for number in range(100)}
    with pytest.raises(restune.UserError, match="too many entries"):
        find_network(many, "test")
    loop: dict[str, object] = {"layer1.0.conv1.weight": torch.zeros(1)}
    loop["model"] = loop
    with pytest.raises(restune.UserError):
        find_network(loop, "test")
