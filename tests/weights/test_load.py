"""Weights in every form, loaded strictly; what would run code is refused and does not run."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from timm.models import adapt_input_conv

import restune
from restune.networks.resnet import ResNet
from restune.networks.zoo import ZOO
from restune.weights.bundle import BundleInfo, read_info, write_bundle
from restune.weights.convert import adapt_first_convolution, to_cifar, to_ours
from restune.weights.load import infer_model, load_into, read_weights


@pytest.fixture
def network(randomize):
    return randomize(restune.create_model("resnet8"))


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


WRAPPERS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best_prec1": 91.0},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 1},
    "nested": lambda state: {"model": {"state_dict": state}},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "_orig_mod.": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "both": lambda state: {"state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    "cifar": lambda state: {"state_dict": {f"module.{key}": value for key, value in to_cifar(state).items()}},
    "ema": lambda state: {
        "model": {key: torch.zeros_like(value) for key, value in state.items()},
        "model_ema": {"n_averaged": torch.tensor(3), **{f"module.{key}": value for key, value in state.items()}},
    },
    "half": lambda state: {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
}


def test_a_tensor_beside_the_weights(network, tmp_path):
    state = network.state_dict()
    torch.save({"state_dict": state, "model_ema": {}, "best": torch.tensor(3.0)}, tmp_path / "weights.PTH")
    assert equal(read_weights(tmp_path / "weights.PTH").state, state)


def test_a_plain_networks_weights_do_not_become_a_residual_network(tmp_path):
    """Every tensor fits; only the bundle knows that the shortcuts were missing, or that a stride was another."""
    plain = restune.create_model("resnet8", residual=False)
    info = BundleInfo(spec=plain.spec, classes=tuple("0123456789"), preprocess=restune.ImagePreprocess(crop=32))
    write_bundle(tmp_path / "plain.safetensors", plain.state_dict(), info)
    for call in (restune.load, restune.create_model):
        with pytest.raises(restune.UserError, match="another network: residual differ"):
            call("resnet8", weights=tmp_path / "plain.safetensors")
    again = restune.create_model("resnet8", residual=False, weights=tmp_path / "plain.safetensors", num_classes=3)
    assert again.spec.residual is False
    assert restune.load(tmp_path / "plain.safetensors").spec.residual is False


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".safetensors"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper(network, tmp_path, wrapper, suffix):
    state = network.state_dict()
    path = tmp_path / f"weights{suffix}"
    content = WRAPPERS[wrapper](state)
    if suffix == ".safetensors":
        if not all(isinstance(value, torch.Tensor) for value in content.values()):
            return  # safetensors holds no nested dictionaries
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    expected = (
        {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()} if wrapper == "half" else state
    )
    assert equal(read_weights(path).state, expected)


def test_the_cifar_map_goes_both_ways(network):
    state = network.state_dict()
    foreign = to_cifar(state)
    assert "linear.weight" in foreign
    assert "fc.weight" not in foreign
    assert equal(to_ours(foreign), state)


def test_the_real_cifar_checkpoints(real_data):
    for name, file in (("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")):
        weights = read_weights(real_data / "weights" / file)
        assert infer_model(weights) == name
        report = load_into(ResNet(ZOO[name].spec), weights)
        assert not report.new
        assert not report.ignored
        own = [key for key in ResNet(ZOO[name].spec).state_dict() if not key.endswith("num_batches_tracked")]
        assert list(report.matched) == own  # the files are older than the counters


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_torchvision_checkpoints_load_key_for_key(name, tmp_path):
    theirs = torchvision.models.get_model(name, num_classes=5)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = restune.create_model(name, weights=tmp_path / "weights.pth")
    assert equal(dict(ours.state_dict()), dict(theirs.state_dict()))
    assert ours.spec.num_classes == 5


def test_a_new_head_is_said(network, tmp_path, capsys):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    other = restune.create_model("resnet8", num_classes=3, weights=tmp_path / "weights.pth")
    assert "new: fc.weight, fc.bias" in capsys.readouterr().err
    assert other.fc.out_features == 3
    assert torch.equal(other.conv1.weight, network.conv1.weight)


def test_weights_without_a_head(network, tmp_path):
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    torch.save(body, tmp_path / "body.pth")
    assert restune.create_model("resnet8", weights=tmp_path / "body.pth").fc.out_features == 10
    with pytest.raises(restune.UserError, match="no head"):
        restune.load("resnet8", weights=tmp_path / "body.pth")


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_input_channels_are_adapted_as_timm_does(channels):
    weight = torch.randn(8, 3, 7, 7)
    assert torch.allclose(adapt_first_convolution(weight, channels), adapt_input_conv(channels, weight), atol=1e-6)


def test_grey_input_gives_what_repeated_grey_gave(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    grey = restune.create_model("resnet8", in_channels=1, weights=tmp_path / "weights.pth").eval()
    x = torch.randn(2, 1, 32, 32)
    assert torch.allclose(grey(x), network(x.expand(-1, 3, -1, -1)), atol=1e-4)


def test_deep_stems_are_adapted_too(tmp_path):
    theirs = timm.create_model("resnet18d", num_classes=2)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = restune.create_model("resnet18d", in_channels=1, weights=tmp_path / "weights.pth")
    assert torch.allclose(ours.conv1[0].weight, theirs.conv1[0].weight.sum(1, keepdim=True), atol=1e-6)


def refused(tmp_path, state, message, name="resnet8"):
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(restune.UserError, match=message):
        restune.create_model(name, weights=tmp_path / "weights.pth")


def test_another_networks_weights_are_refused(network, tmp_path):
    state = network.state_dict()
    refused(tmp_path, state, "missing layer1.1", name="resnet20")
    refused(tmp_path, restune.create_model("resnet20").state_dict(), "left over layer1.1")
    refused(tmp_path, restune.create_model("resnet8", width=8).state_dict(), r"is \[8, 3, 3, 3\], the network's \[16")
    refused(tmp_path, {**state, "extra.weight": torch.zeros(1)}, "left over extra.weight")
    refused(tmp_path, {k: v for k, v in state.items() if k != "bn1.running_mean"}, "missing bn1.running_mean")
    refused(tmp_path, {**state, "bn1.weight": torch.full((16,), float("nan"))}, "NaN or Inf in bn1.weight")
    refused(tmp_path, {**state, "bn1.running_var": torch.full((16,), -1.0)}, "bn1.running_var")
    refused(tmp_path, {**state, "bn1.weight": torch.ones(16, dtype=torch.int8)}, "int8")
    refused(tmp_path, {**state, "conv1.weight": state["conv1.weight"].to_sparse()}, "sparse")
    refused(tmp_path, {**state, "fc.3.weight": torch.zeros(1)}, "left over fc.3.weight")
    refused(tmp_path, {**state, "linear.weight": state["fc.weight"]}, "same name")


def test_old_checkpoints_without_counters(network, tmp_path):
    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "weights.pth")
    assert restune.create_model("resnet8", weights=tmp_path / "weights.pth").bn1.num_batches_tracked == 0


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".tar", ".ckpt", ".bin"])
def test_a_pickle_that_would_run_code_does_not(tmp_path, suffix, zipped, protocol):
    path, proof = tmp_path / f"weights{suffix}", tmp_path / "code ran"
    content = {"state_dict": {"fc.weight": torch.zeros(2)}, "payload": Malicious(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    with pytest.raises(restune.UserError, match="refused") as caught:
        restune.load("resnet8", weights=path)
    assert not proof.exists()
    assert "\n" not in caught.value.what
    torch.load(path, weights_only=False)  # the file is indeed dangerous
    assert proof.exists()


def test_a_bare_malicious_pickle(tmp_path):
    path, proof = tmp_path / "weights.pth", tmp_path / "code ran"
    path.write_bytes(pickle.dumps(Malicious(proof)))
    with pytest.raises(restune.UserError):
        restune.load("resnet8", weights=path)
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", bytes(64), b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(restune.UserError):
        restune.load("resnet8", weights=path)


def test_lying_safetensors_headers(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    content = path.read_bytes()
    for broken in (
        content[:100],
        content[:-10],
        (2**40).to_bytes(8, "little") + content[8:],
        content.replace(b'"F32"', b'"F99"', 1),
    ):
        path.write_bytes(broken)
        with pytest.raises(restune.UserError, match="damaged or not a safetensors"):
            restune.load("resnet8", weights=path)


@pytest.fixture
def bundle(network, tmp_path):
    info = BundleInfo(
        spec=network.spec,
        name="resnet8",
        classes=tuple("abcdefghij"),
        preprocess=restune.ImagePreprocess(crop=32),
        scores=({"accuracy": 0.5, "n": 10, "fingerprint": "0" * 16},),
        licence="CC0-1.0",
    )
    path = tmp_path / "model.safetensors"
    write_bundle(path, network.state_dict(), info)
    return path


def test_a_bundle_needs_nothing_else(bundle, network, tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "socket", None)  # no network
    monkeypatch.chdir(tmp_path)
    model = restune.load(bundle)
    assert model.classes == tuple("abcdefghij")
    assert equal(dict(model.module.state_dict()), dict(network.state_dict()))
    assert model.spec == network.spec
    assert not model.module.training
    assert model.module.conv1.weight.dtype == torch.float32
    assert equal(dict(restune.load(tmp_path).module.state_dict()), dict(network.state_dict()))  # as a run's folder


def test_any_safetensors_reader_reads_it(bundle, network):
    assert equal(safetensors.torch.load_file(bundle), dict(network.state_dict()))
    with safetensors.safe_open(bundle, framework="np") as file:
        header = json.loads(file.metadata()["restune"])
    assert header["schema_version"] == 1
    assert header["classes"] == list("abcdefghij")
    assert header["preprocess"]["kind"] == "image"


def test_saving_is_the_identity_and_canonical(bundle, tmp_path):
    model = restune.load(bundle)
    again = model.save(tmp_path / "again.safetensors")
    assert again.read_bytes() == bundle.read_bytes()
    assert read_info(again) == read_info(bundle)


def rewrite(bundle, change):
    with safetensors.safe_open(bundle, framework="pt") as file:
        header = json.loads(file.metadata()["restune"])
    change(header)
    safetensors.torch.save_file(safetensors.torch.load_file(bundle), bundle, metadata={"restune": json.dumps(header)})


def calibration():
    conformal = {"levels": [0.9], "marginal": [0.1], "class_conditional": None}
    curve = {"thresholds": [0.5], "answered": [3], "correct": [2]}
    content = {"temperature": 2.0, "n": 3, "nll": [1.0, 0.5], "ece": [0.2, 0.1]}
    return {**content, "abstention": curve, "conformal": conformal}


def test_a_calibration_is_read_and_written_again(bundle, tmp_path):
    rewrite(bundle, lambda h: h.update(calibration=calibration()))
    model = restune.load(bundle)
    assert model.calibration.temperature == 2.0
    again = restune.load(model.save(tmp_path / "again.safetensors"))
    assert again.calibration == model.calibration
    logits = torch.randn(2, 1, 10)
    assert torch.allclose(again.probabilities(logits), (logits[:, 0] / 2).softmax(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(schema_version=2), "schema 2; .* reads 1"),
        (lambda h: h.update(preprocess={"kind": "sound"}), "'sound'"),
        (lambda h: h.update(task="segmentation"), "a task, 'segmentation'"),
        (lambda h: h.update(kind="text"), "says that it reads 'text', its preprocessing 'image'"),
        (lambda h: h.update(kind="sound"), "a kind, 'sound'"),
        (lambda h: h.update(calibration={"temperature": 2}), "a calibration"),
        (lambda h: h.update(calibration=calibration() | {"vector": [1, 2]}), "a calibration"),
        (lambda h: h.update(calibration=calibration() | {"temperature": -1}), "temperature is not positive"),
        (lambda h: h.update(calibration=calibration() | {"conformal": None}), "cannot be read"),
        (lambda h: h.update(colour="red"), "a setting, 'colour'"),
        (lambda h: h.update(classes=["a"] * 10), "a class twice"),
        (lambda h: h.update(classes="abcdefghij"), "classes is not a list"),
        (lambda h: h["preprocess"].update(crop=32.5), "whole numbers"),
        (lambda h: h.update(classes=["a"]), "1 classes"),
        (lambda h: h.pop("spec"), "cannot be read"),
        (lambda h: h["spec"].update(warp=9), "'warp'"),
        (lambda h: h["spec"]["stages"][0].update(depth="three"), "expected int"),
        (lambda h: h["spec"]["stages"][0].update(depth=2), "missing layer1.1"),
        (lambda h: h.update(preprocess={"kind": "image", "crop": 32}), "lack mean"),
    ],
)
def test_headers_that_do_not_fit_are_clear_errors(bundle, change, message):
    rewrite(bundle, change)
    with pytest.raises(restune.UserError, match=message):
        restune.load(bundle)


def test_a_header_that_is_no_json(bundle):
    safetensors.torch.save_file(safetensors.torch.load_file(bundle), bundle, metadata={"restune": "{"})
    with pytest.raises(restune.UserError, match="cannot be read"):
        restune.load(bundle)


@pytest.mark.parametrize(
    "name", [name for name in ZOO if not name.startswith(("resnext101", "wide_resnet101", "resnet152"))]
)
def test_the_architecture_is_inferred(name):
    with torch.device("meta"):
        state = ResNet(ZOO[name].spec.override(num_classes=3)).state_dict()
    from restune.weights.load import Weights

    assert infer_model(Weights(state=state, source="test")) == name


def test_a_checkpoint_alone_is_enough(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    assert restune.load(tmp_path / "weights.pth").info.name == "resnet8"
    torch.save(restune.create_model("resnet8", width=12).state_dict(), tmp_path / "odd.pth")
    with pytest.raises(restune.UserError, match="do not fit any network"):
        restune.load(tmp_path / "odd.pth")


def test_a_home_made_network_round_trips(tmp_path):
    made = restune.create_model("resnet50", depths=(1, 1), width=8, attention="eca", preact=True, num_classes=2)
    info = BundleInfo(spec=made.spec, classes=("no", "yes"), preprocess=restune.ImagePreprocess(crop=64, resize=72))
    write_bundle(tmp_path / "made.safetensors", made.state_dict(), info)
    model = restune.load(tmp_path / "made.safetensors")
    x = torch.randn(1, 3, 80, 80)
    assert torch.allclose(model.module(x), made.eval()(x), atol=1e-5)
    assert model.preprocess == info.preprocess


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("resnet", None, "Did you mean 'resnet"),
        ("resnet50", None, "network without weights"),
        ("resnet5O", "x.pth", "no such file"),
        ("resnet50", "resnet50:v9", "v9"),
        ("resnet50", "resnet50", "not the name of any weights"),
        ("model.safetensors", None, "no such file"),
        ("resnet8", "folder", "not contain model.safetensors"),
        ("resnet8", "notes.txt", "not a weights file"),
    ],
)
def test_mistakes_are_named(model, weights, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(restune.UserError, match=message):
        restune.load(model, weights=weights)
