"""What networks of series and texts have of their own: against the papers' layers written out, and by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import restune
from restune.networks.layers import EvenConv1d
from restune.networks.masks import pooled
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec, StageSpec, same_structure
from restune.networks.zoo import ZOO
from restune.weights.load import Weights, load_into


def norm(x: torch.Tensor, layer: nn.BatchNorm1d) -> torch.Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def same(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A convolution as Keras pads it."""
    return F.conv1d(x, weight, padding="same")


def eight_largest(row: list[float]) -> list[float]:
    """In order of position; of the many zeros that a ReLU leaves the first."""
    ranked = sorted(range(len(row)), key=lambda position: (-row[position], position))
    return [row[position] for position in sorted(ranked[:8])]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_resnet1d_ts_is_wangs_network(randomize):
    """Wang et al. 2017: three times conv 8, 5, 3 with norms, a shortcut with a norm, and an average."""
    network = randomize(ResNet(ZOO["resnet1d_ts"].spec))
    x = torch.randn(3, 1, 50)
    expected = x
    for stage in network.stages():
        (block,) = stage
        branch = F.relu(norm(same(expected, block.conv1.weight), block.bn1))
        branch = F.relu(norm(same(branch, block.conv2.weight), block.bn2))
        branch = norm(same(branch, block.conv3.weight), block.bn3)
        if len(block.downsample) == 2:
            projection, after = block.downsample
            shortcut = norm(F.conv1d(expected, projection.weight), after)
        else:
            shortcut = norm(expected, block.downsample[0])
        expected = F.relu(branch + shortcut)
    expected = F.linear(expected.mean(2), network.fc.weight, network.fc.bias)
    assert torch.allclose(network(x), expected, atol=1e-4)
    widths = [tuple(stage[0].conv1.weight.shape) for stage in network.stages()]
    assert widths == [(64, 1, 8), (128, 64, 8), (128, 128, 8)]
    assert [len(stage[0].downsample) for stage in network.stages()] == [2, 2, 1]


def test_vdcnn9_is_conneaus_network(randomize):
    """Conneau et al. 2017, figure 1: embedding, conv 64, blocks 64 to 512 with pools between, 8-max, three layers."""
    network = randomize(ResNet(ZOO["vdcnn9"].spec))
    tokens = torch.randint(1, 257, (2, 150))
    x = network.embedding.weight[tokens].transpose(1, 2)
    x = F.relu(norm(F.conv1d(x, network.conv1.weight, padding=1), network.bn1))
    for number, stage in enumerate(network.stages()):
        x = x if number == 0 else F.max_pool1d(x, 3, stride=2, padding=1)
        (block,) = stage
        branch = F.relu(norm(F.conv1d(x, block.conv1.weight, padding=1), block.bn1))
        branch = norm(F.conv1d(branch, block.conv2.weight, padding=1), block.bn2)
        if block.downsample is not None:
            x = norm(F.conv1d(x, block.downsample[0].weight), block.downsample[1])
        x = F.relu(branch + x)
    assert x.shape == (2, 512, 19)
    features = torch.tensor([eight_largest(row) for row in x.flatten(0, 1).tolist()]).reshape(2, 4096)
    features = F.relu(network.hidden[0](features))
    features = F.relu(network.hidden[3](features))
    assert torch.allclose(network.embed(tokens), features, atol=1e-4)
    assert torch.allclose(network(tokens), network.fc(features), atol=1e-4)


@pytest.mark.parametrize(("name", "depth"), [("vdcnn9", 9), ("vdcnn17", 17), ("vdcnn29", 29), ("vdcnn49", 49)])
def test_vdcnn_is_as_deep_as_its_name(name, depth):
    with torch.device("meta"):
        residual, plain = ResNet(ZOO[name].spec), ResNet(ZOO[name].spec.override(residual=False))
    for network in (residual, plain):
        convolutions = [key for key, m in network.named_modules() if isinstance(m, nn.Conv1d) and "down" not in key]
        assert len(convolutions) == depth
    assert not any("downsample" in key for key in plain.state_dict())
    assert plain(torch.zeros(1, 1024, dtype=torch.int64, device="meta")).shape == (1, 2)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [2, 4, 8])
@pytest.mark.parametrize("dilation", [1, 3])
def test_even_convolutions_are_padded_as_torch_pads_same(kernel, dilation):
    layer = EvenConv1d(2, 3, kernel, 1, 0, dilation, bias=False)
    x = torch.randn(2, 2, 21)
    assert torch.allclose(layer(x), F.conv1d(x, layer.weight, padding="same", dilation=dilation), atol=1e-6)


def test_pools_by_hand():
    x = torch.tensor([[[1.0, 5.0, 0.0, 4.0, 5.0], [0.0, 0.0, 2.0, 0.0, 0.0]]])
    assert pooled("average", x, None, 8).tolist() == [[3.0, pytest.approx(0.4)]]
    assert pooled("max", x, None, 8).tolist() == [[5.0, 2.0]]
    assert pooled("average+max", x, None, 8).tolist() == [[3.0, pytest.approx(0.4), 5.0, 2.0]]
    assert pooled("k-max", x, None, 3).tolist() == [[5.0, 4.0, 5.0, 0.0, 0.0, 2.0]]  # in order of position
    assert pooled("k-max", x, None, 7).tolist() == [
        [1.0, 5.0, 0.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    ]
    mask = torch.tensor([[True, True, True, False, False]])
    blank = x * mask
    assert pooled("average", blank, mask, 8).tolist() == [[2.0, pytest.approx(2 / 3)]]
    assert pooled("average+max", blank, mask, 8).tolist() == [[2.0, pytest.approx(2 / 3), 5.0, 2.0]]
    assert pooled("k-max", blank, mask, 2).tolist() == [[1.0, 5.0, 0.0, 2.0]]


@pytest.mark.parametrize("kind", ["average", "max", "average+max", "k-max"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pools_and_hidden_layers_in_every_dimension(kind, dims):
    network = restune.create_model("resnet8", dims=dims, pool=kind, k_max=3, hidden=[6, 5], num_classes=2).eval()
    features = 64 * {"average+max": 2, "k-max": 3}.get(kind, 1)
    assert network.spec.pooled_features == features
    assert network.hidden[0].in_features == features
    x = torch.randn(2, 3, *[12] * dims)
    assert network.embed(x).shape == (2, 5)
    assert network(x).shape == (2, 2)


def test_hidden_layers_belong_to_what_a_new_head_keeps():
    network = restune.create_model("resnet8", hidden=(6,), dropout=0.5).eval()
    x = torch.randn(2, 3, 16, 16)
    before = network.embed(x)
    network.reset_head(3)
    assert network.fc.weight.shape == (3, 6)
    assert torch.equal(network.embed(x), before)
    assert network.hidden in network.parts_below("all")
    assert network.hidden not in network.parts_below(3)


def test_hidden_layers_drop_out_between_them_in_training():
    network = restune.create_model("resnet8", hidden=(50, 50, 40), dropout=0.5)
    kinds = [type(layer).__name__ for layer in network.hidden]
    assert kinds == ["Linear", "ReLU", *["Dropout", "Linear", "ReLU"] * 2]
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(network.eval().embed(x), network.embed(x))
    network.train()
    assert not torch.equal(network.embed(x), network.embed(x))


def test_padding_tokens_are_zeros_and_learn_nothing():
    network = restune.create_model("textresnet", dropout=0.0)
    tokens = torch.tensor([[5, 6, 7, 0, 0]], dtype=torch.int32)
    assert not network.stem(tokens)[0, :, 3:].any()
    assert network.stem(tokens).shape == (1, 128, 5)
    network(tokens.expand(3, -1)).sum().backward()
    assert not network.embedding.weight.grad[0].any()
    assert network.embedding.weight.grad[5].any()


def test_embedding_dropout_is_a_training_aid():
    network = restune.create_model("textresnet", embedding_dropout=0.5)
    tokens = torch.randint(1, 257, (2, 40))
    assert 0.3 < (network.train().stem(tokens) == 0).double().mean() < 0.7
    assert torch.equal(network.eval().stem(tokens), network.embedding(tokens).transpose(1, 2))
    assert same_structure(network.spec, ZOO["textresnet"].spec)


def test_textresnet_sees_as_far_as_its_dilation_says():
    """Two blocks of two convolutions, dilated 1 and then 2: twice 1 and twice 2 to either side."""
    network = ResNet(ZOO["textresnet"].spec).eval()
    x = torch.zeros(1, 128, 101, requires_grad=True)
    y = x
    for stage in network.stages():
        for block in stage:  # each convolution as a sum, so that nothing cancels
            for layer in (block.conv1, block.conv2):
                y = F.conv1d(y, torch.ones_like(layer.weight), padding=layer.padding, dilation=layer.dilation)
    y[0, 0, 50].backward()
    reach = x.grad[0, 0].nonzero()
    assert (reach.min().item(), reach.max().item()) == (50 - 6, 50 + 6)


def test_a_network_without_stem_reads_its_input():
    spec = ZOO["resnet1d_ts"].spec
    network = ResNet(spec).eval()
    x = torch.randn(2, 1, 30)
    assert network.forward_stages(x)["stem"] is x
    assert same_structure(spec, spec.override(stem_width=7))  # which is not read
    thin = ResNet(spec.override(width=16))
    assert [stage[0].conv1.weight.shape[:2] for stage in thin.stages()] == [(16, 1), (32, 16), (32, 32)]


def test_channels_of_a_network_without_stem_are_adapted_wherever_it_reads(randomize):
    one = randomize(ResNet(ZOO["resnet1d_ts"].spec.override(in_channels=2)))
    weights = Weights(state=one.state_dict(), source="test")
    assert weights.in_channels == 2
    other = ResNet(ZOO["resnet1d_ts"].spec).eval()
    report = load_into(other, weights)
    assert set(report.adapted) == {"layer1.0.conv1.weight", "layer1.0.downsample.0.weight"}
    x = torch.randn(2, 1, 40)
    assert torch.allclose(other(x), one(x.expand(-1, 2, -1)), atol=1e-4)


def test_an_embedding_is_never_adapted():
    state = ResNet(ZOO["textresnet"].spec.override(in_channels=64)).state_dict()
    with pytest.raises(restune.UserError, match=r"embedding.weight is \[257, 64\], the network's \[257, 128\]"):
        load_into(ResNet(ZOO["textresnet"].spec), Weights(state=state, source="test"))


def test_a_vocabulary_comes_with_the_weights(tmp_path):
    spec = ZOO["textresnet"].spec.override(vocabulary=40, num_classes=3)
    torch.save(ResNet(spec).state_dict(), tmp_path / "weights.pth")
    made = restune.create_model("textresnet", weights=tmp_path / "weights.pth")
    assert made.spec == spec
    assert not same_structure(spec, ZOO["textresnet"].spec)
    with pytest.raises(restune.UserError, match=r"embedding.weight is \[40, 128\], the network's \[50, 128\]"):
        restune.create_model("textresnet", vocabulary=50, weights=tmp_path / "weights.pth")


NEW = {
    "spec": ("vocabulary", "embedding_dropout", "pool", "k_max", "hidden"),
    "stage": ("kernels", "conv", "downsample"),
}


def test_specs_saved_before_these_fields_are_read():
    spec = ZOO["resnet50"].spec
    saved = {key: value for key, value in spec.to_dict().items() if key not in NEW["spec"]}
    saved["stages"] = [{k: v for k, v in stage.items() if k not in NEW["stage"]} for stage in saved["stages"]]
    assert ResNetSpec.from_dict(saved) == spec
    assert set(saved["stages"][0]) == {"block", "depth", "width", "stride", "dilation", "groups", "base_width"}


def test_a_spec_survives_json():
    import json

    for name in ("resnet1d_ts", "vdcnn29", "textresnet", "r2plus1d_18"):
        spec = ZOO[name].spec
        content = spec.to_dict()
        assert json.loads(json.dumps(content)) == content
        again = ResNetSpec.from_dict(json.loads(json.dumps(content)))
        assert again == spec
        assert hash(again) == hash(spec)


def test_input_shapes():
    assert ZOO["resnet18"].input_shape() == (3, 224, 224)
    assert ZOO["r3d_18"].input_shape() == (3, 16, 112, 112)
    assert ZOO["r3d_18"].input_shape(64) == (3, 16, 64, 64)
    assert ZOO["resnet1d_ts"].input_shape() == (1, 128)
    assert ZOO["vdcnn9"].input_shape() == (1024,)
    assert ZOO["textresnet"].input_shape(30) == (30,)
    assert {entry.kind for entry in ZOO.values()} == {"image", "signal", "text", "video"}


def test_models_of_every_kind_are_described():
    shapes = {model.name: model.description.input_shape for model in restune.models()}
    assert shapes == {name: entry.input_shape() for name, entry in ZOO.items()}
    (longer,) = restune.models("vdcnn9", image_size=200)
    assert longer.description.input_shape == (200,)
    assert longer.to_dict()["kind"] == "text"
    (flat,) = restune.models("resnet1d18", image_size=65, dims=2)
    assert flat.description.input_shape == (1, 65, 65)
    (clip,) = restune.models("r3d_18")
    assert clip.to_dict()["input"] == [3, 16, 112, 112]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("resnet18", {"vocabulary": 100}, "needs dims=1"),
        ("textresnet", {"vocabulary": 1}, "at least one token"),
        ("textresnet", {"vocabulary": -4}, "whole number"),
        ("textresnet", {"vocabulary": 2**31}, "more than"),
        ("resnet1d18", {"embedding_dropout": 0.1}, "embedding_dropout needs a vocabulary"),
        ("textresnet", {"embedding_dropout": 1.0}, "below 1"),
        ("resnet18", {"pool": "avg"}, "unknown pool 'avg'"),
        ("resnet18", {"pool": "kmax"}, "Did you mean 'k-max'"),
        ("resnet18", {"k_max": 0}, "at least 1"),
        ("resnet18", {"hidden": 5}, "expected a list"),
        ("resnet18", {"hidden": (5, 0)}, "hidden must be a whole number of at least 1"),
        ("resnet18", {"hidden": (2**20, 2**20)}, "more than"),
        ("resnet18", {"kernels": (3,)}, "basic block has 2 convolutions, not 1"),
        ("resnet18", {"kernels": (3, 2.5)}, "whole number"),
        ("resnet18", {"kernels": (3, 4)}, "even size are for series"),
        ("resnet1d18", {"kernels": (2**30, 3)}, "more than"),
        ("resnet18", {"block": "triple", "groups": 2}, "triple blocks do not support groups"),
        ("resnet18", {"block": "triple", "preact": True}, "triple blocks cannot be combined with pre-activation"),
        ("resnet18", {"shortcut": "norm", "preact": True}, "shortcut='norm' cannot be combined with pre-activation"),
        ("resnet18", {"stem": "none", "preact": True}, "stem='none' cannot be combined with pre-activation"),
        ("vdcnn9", {"downsample": "pool"}, "unknown downsample"),
    ],
)
def test_wrong_settings_are_named(name, changes, message):
    with pytest.raises(restune.UserError, match=message):
        restune.create_model(name, **changes)


def test_a_list_in_place_of_a_tuple_is_named():
    with pytest.raises(restune.UserError, match="tuple of whole numbers"):
        StageSpec(depth=1, width=4, kernels=[3, 3])
