"""Networks of clips against torchvision's, and 2-D networks made into 3-D ones."""

from __future__ import annotations

import pytest
import torch
import torchvision

import restune
from restune.data.preprocess import preprocess_from_dict
from restune.networks.fold import folded
from restune.networks.resnet import ResNet
from restune.networks.spec import ResNetSpec, StageSpec
from restune.networks.zoo import ZOO
from restune.weights import hub
from restune.weights.convert import to_ours, to_torchvision_video, unwrap
from restune.weights.load import Weights, infer_model, load_into, read_weights

VIDEO = [name for name, entry in ZOO.items() if entry.kind == "video"]


def theirs_of(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def close(a, b):
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())


def test_three_networks():
    assert VIDEO == ["r3d_18", "mc3_18", "r2plus1d_18"]


@pytest.mark.parametrize("name", VIDEO)
def test_torchvisions_networks(name, randomize):
    """Names one to one both ways, strictly, and the same logits, also of an odd number of frames and pixels."""
    theirs = randomize(theirs_of(name))
    state = theirs.state_dict()
    ours = ResNet(ZOO[name].spec).eval()
    ours.load_state_dict(to_ours(state), strict=True)
    assert equal(to_torchvision_video(ours.state_dict()), state)
    assert list(to_torchvision_video(to_ours(state))) == list(state)
    theirs.load_state_dict(to_torchvision_video(ours.state_dict()), strict=True)
    for size in ((8, 32, 32), (5, 33, 47)):
        x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            assert close(ours(x), theirs(x))


@pytest.mark.parametrize("name", VIDEO)
def test_torchvisions_files(name, tmp_path):
    """Found out by their names and shapes, behind the usual wrappers; another head is kept or replaced."""
    theirs = torchvision.models.get_model(name, num_classes=5)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, path)
    weights = read_weights(path)
    assert infer_model(weights) == name
    assert weights.num_classes == 5
    assert weights.in_channels == 3
    ours = restune.create_model(name, weights=path)
    assert equal(to_torchvision_video(ours.state_dict()), theirs.state_dict())
    report = load_into(ResNet(ZOO[name].spec.override(num_classes=3, in_channels=1)), weights)
    assert report.new == ("fc.weight", "fc.bias")
    assert report.adapted == ("conv1.0.weight" if name == "r2plus1d_18" else "conv1.weight",)


def test_our_own_names_stay():
    """Only what has torchvision's video stem is renamed; a D stem and shortcuts have the same look inside."""
    state = ResNet(ZOO["resnet18d"].spec).state_dict()
    assert equal(unwrap(dict(state), "test"), state)
    state = ResNet(ZOO["r2plus1d_18"].spec.override(width=8)).state_dict()
    assert equal(unwrap(dict(state), "test"), state)


@pytest.mark.parametrize("name", VIDEO)
def test_published_weights(name):
    """What torchvision publishes, under its name and our short one, with the clips that it was evaluated on."""
    assert hub.available(name) == (f"{name}:v1",)
    entries = hub._torchvision()
    member = torchvision.models.get_model_weights(name).KINETICS400_V1
    entry = entries[f"{name}:v1"]
    assert entries[str(member)] is entry
    assert (entry.model, entry.address) == (name, member.url)
    assert len(entry.classes) == 400
    sizes = {"frames": 16, "rate": 15.0, "crop": 112, "resize": 128, "interpolation": "bilinear"}
    colours = {"mean": [0.43216, 0.394666, 0.37645], "std": [0.22803, 0.22145, 0.216989]}
    assert entry.preprocess == {"kind": "video", **sizes, **colours}
    preprocess = preprocess_from_dict(entry.preprocess)
    assert preprocess.channels == 3
    assert preprocess.kind == "video"


@pytest.mark.parametrize("preact", [False, True])
@pytest.mark.parametrize("name", VIDEO)
def test_folded_copies_give_the_same(name, preact, randomize):
    network = randomize(ResNet(ZOO[name].spec.override(width=8, preact=preact, num_classes=4)))
    x = torch.randn(2, 3, 6, 32, 32)
    with torch.inference_mode():
        logits = network(x)
        for cut in (0, 2, "all"):
            below = folded(network, cut)
            assert close(network.forward_from(below.forward_until(x, cut), cut), logits), cut
            if not preact:
                assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in below.modules())


@pytest.mark.parametrize("block", ["basic", "bottleneck", "triple"])
@pytest.mark.parametrize("conv", ["full", "2+1", "spatial"])
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "D", "norm"])
@pytest.mark.parametrize("downsample", ["stride", "max-pool"])
def test_every_form_of_block_on_clips(block, conv, shortcut, downsample):
    """Shapes agree with the strides: space alone where the convolutions are of space alone."""
    stage = {"block": block, "conv": conv, "downsample": downsample, "depth": 1, "width": 4}
    spec = ResNetSpec(
        dims=3,
        in_channels=2,
        stem="clip",
        stem_width=4,
        stages=(StageSpec(**stage), StageSpec(**stage, stride=2)),
        shortcut=shortcut,
        num_classes=3,
    )
    outputs = ResNet(spec).eval().forward_stages(torch.randn(1, 2, 5, 14, 14))
    assert outputs["stage1"].shape[2:] == (5, 7, 7)
    assert outputs["stage2"].shape[2:] == ((5 if conv == "spatial" else 3), 4, 4)
    assert ResNetSpec.from_dict(spec.to_dict()) == spec


def test_the_r2plus1d_stem_keeps_its_proportion():
    assert ResNet(ZOO["r2plus1d_18"].spec).conv1[0].out_channels == 45
    assert ResNet(ZOO["r2plus1d_18"].spec.override(width=32)).conv1[0].out_channels == 22


def test_shortcut_d_on_a_single_frame():
    """torch refuses to average two frames where there is one; the average then is that frame."""
    network = restune.create_model("resnet18d", dims=3, width=4, num_classes=2).eval()
    x = torch.randn(1, 3, 1, 64, 64)
    assert network.forward_stages(x)["stage4"].shape[2:] == (1, 2, 2)


# Inflation


@pytest.fixture
def flat(randomize, tmp_path):
    """A 2-D checkpoint, and its network."""

    def make(name: str) -> tuple[ResNet, str]:
        network = randomize(ResNet(ZOO[name].spec.override(num_classes=7)))
        path = tmp_path / f"{name}.pth"
        torch.save(network.state_dict(), path)
        return network, str(path)

    return make


@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "seresnet50", "ecaresnet50d", "preresnet18", "resnet20"])
def test_inflated_weights_see_a_picture_in_a_film_of_it(name, flat):
    """Away from the first and last frames, where time is padded, the stem gives what the 2-D stem gives."""
    network, path = flat(name)
    weights = read_weights(f"inflate:{path}")
    assert weights.spec == network.spec.override(dims=3)
    assert weights.model is None
    assert weights.preprocess is None
    assert weights.num_classes == 7
    inflated = ResNet(weights.spec).eval()
    report = load_into(inflated, weights)
    assert not report.new
    assert not report.ignored
    picture = torch.randn(1, 3, 70, 70)
    with torch.inference_mode():
        expected = network.stem(picture)
        frames = inflated.stem(picture.unsqueeze(2).expand(-1, -1, 24, -1, -1))
    middle = frames.shape[2] // 2
    assert (frames[:, :, middle] - expected).abs().max() <= 1e-4 * (1 + expected.abs().max())
    own = inflated.state_dict()
    for key, tensor in network.state_dict().items():
        if tensor.ndim == 4:
            assert torch.allclose(own[key].sum(2), tensor, atol=1e-6), key
            assert torch.equal(own[key][:, :, 0], own[key][:, :, -1]), key
        else:
            assert torch.equal(own[key], tensor), key


def test_a_whole_inflated_network_on_a_film_of_a_picture(flat):
    """Stage after stage: in the middle of a film so long that no kernel there reaches beyond it."""
    network, path = flat("resnet8")
    weights = read_weights(f"inflate:{path}")
    inflated = ResNet(weights.spec).eval()
    load_into(inflated, weights)
    picture = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        stages = inflated.forward_stages(picture.unsqueeze(2).expand(-1, -1, 64, -1, -1))
        last = stages["stage3"][:, :, stages["stage3"].shape[2] // 2]
        expected = network.forward_stages(picture)["stage3"]
    assert close(last, expected)


def test_bundles_and_networks_by_name_are_inflated(flat, tmp_path):
    from restune.weights.bundle import BundleInfo, write_bundle

    network, path = flat("resnet8")
    info = BundleInfo(
        spec=network.spec, classes=tuple("abcdefg"), preprocess=restune.ImagePreprocess(crop=32), licence="CC0-1.0"
    )
    bundle = tmp_path / "model.safetensors"
    write_bundle(bundle, network.state_dict(), info)
    weights = read_weights(f"inflate:{bundle}")
    assert weights.classes == tuple("abcdefg")
    assert weights.licence == "CC0-1.0"
    assert weights.info is None
    assert equal(weights.state, read_weights(f"inflate:{path}").state)
    made = restune.create_model("resnet8", dims=3, weights=f"inflate:{path}", num_classes=2)
    assert made(torch.randn(1, 3, 4, 16, 16)).shape == (1, 2)


def test_only_networks_of_images_are_inflated(tmp_path):
    for name, message in (("r3d_18", "dims=3"), ("resnet1d_ts", "dims=1")):
        network = ResNet(ZOO[name].spec)
        torch.save(network.state_dict(), tmp_path / f"{name}.pth")
        with pytest.raises(restune.UserError, match=message):
            read_weights(f"inflate:{tmp_path / name}.pth")
    with pytest.raises(restune.UserError, match="no such file"):
        read_weights(f"inflate:{tmp_path}/none.pth")
    with pytest.raises(restune.UserError, match="names no weights"):
        read_weights("inflate:resnet50")
    with pytest.raises(restune.UserError, match="no weights are published as 'resnet50:v9'"):
        read_weights("inflate:resnet50:v9")


@pytest.mark.parametrize("name", [name for name, entry in ZOO.items() if entry.kind != "image"])
def test_new_entries_are_told_apart_with_other_channels_and_vocabularies(name):
    spec = ZOO[name].spec
    spec = spec.override(vocabulary=1000) if spec.vocabulary else spec.override(in_channels=5)
    with torch.device("meta"):
        state = ResNet(spec.override(num_classes=3)).state_dict()
    weights = Weights(state=state, source="test")
    assert infer_model(weights) == name
    assert weights.vocabulary == spec.vocabulary
    assert weights.in_channels == spec.in_channels


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("resnet18", {"stem": "clip"}, "dims=3"),
        ("resnet18", {"conv": "2+1"}, "'2\\+1' is for clips"),
        ("resnet18", {"conv": "spatial", "dims": 1}, "'spatial' is for clips"),
        ("r3d_18", {"dims": 2}, "clip"),
        ("r3d_18", {"conv": "2d"}, "unknown conv '2d'"),
        ("r3d_18", {"block": "bottleneck", "groups": 2, "conv": "2+1"}, "do not support groups"),
        ("r3d_18", {"downsample": "maxpool"}, "Did you mean 'max-pool'"),
        ("r3d_18", {"kernels": (4, 4)}, "even size"),
    ],
)
def test_wrong_settings_are_named(name, changes, message):
    with pytest.raises(restune.UserError, match=message):
        restune.create_model(name, **changes)
