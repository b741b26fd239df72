"""Networks of one's own: options of the zoo's networks, registered blocks, and any module."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import torchvision
import yaml
from torch import nn

import restune
from restune.core.streams import torch_seed
from restune.networks.seeding import seeded
from restune.networks.spec import ResNetSpec, StageSpec

SMALL = {"image_size": 16, "epochs": 2, "batch_size": 8, "threads": 1, "workers": 0, "precision": "fp32"}
TINY = {"model": "resnet8", "width": 4, "depths": (1, 1)}


class TorchvisionBlock(torchvision.models.resnet.BasicBlock):
    """torchvision's block behind our protocol."""

    def __init__(self, in_channels, out_channels, stride, shortcut):
        super().__init__(in_channels, out_channels, stride, shortcut)


class Plain(nn.Module):
    """A block that takes nothing but the three arguments that all get."""

    expansion = 2

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x))


class Tied(nn.Module):
    """Two names for one tensor, a dropout, an integer buffer, and logits in an object, as many published modules."""

    def __init__(self, classes=2):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.second = self.first
        self.norm, self.drop, self.head = nn.BatchNorm2d(6), nn.Dropout(0.3), nn.Linear(6, classes)
        self.register_buffer("table", torch.arange(4))

    def forward(self, x):
        x = F.relu(self.norm(self.first(x) + self.second(x)))
        return {"logits": self.head(self.drop(x.mean(dim=(2, 3))))}


@pytest.fixture
def shapes(tmp_path, write_noise):
    return write_noise(tmp_path / "shapes", bright=(120, 20), dark=(0, 20))


@pytest.fixture(autouse=True)
def _no_blocks_left(monkeypatch):
    monkeypatch.setattr("restune.networks.registry._registered", {})


def tensors(run):
    return safetensors.torch.load_file(run.out / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def tied():
    torch.manual_seed(5)
    return Tied()


# Options of networks


def test_options_of_networks_are_the_same_everywhere(shapes, tmp_path, run):
    options = {"residual": False, "norm": "group", "norm_groups": 2, "act": "gelu", **TINY}
    trained = restune.train(shapes, out=tmp_path / "python", **options, **SMALL)
    assert yaml.safe_load((trained.out / "recipe.yaml").read_text())["spec"] == {
        "residual": False, "norm": "group", "norm_groups": 2, "act": "gelu", "width": 4, "depths": [1, 1],
    }  # fmt: skip
    spec = restune.create_model(options.pop("model"), num_classes=2, **options).spec
    assert trained.model.spec == spec
    assert not any("running_mean" in name for name in tensors(trained))
    sets = ["spec.residual=false", "spec.norm=group", "spec.norm_groups=2", "spec.act=gelu", "spec.width=4"]
    words = [word for text in (*sets, "spec.depths=[1, 1]") for word in ("--set", text)]
    flags = [word for key, value in SMALL.items() for word in (f"--{key.replace('_', '-')}", value)]
    done = run("train", shapes, "--model", "resnet8", *flags, *words, "--out", tmp_path / "line")
    assert done.returncode == 0, done.stderr
    assert equal(safetensors.torch.load_file(tmp_path / "line" / "model.safetensors"), tensors(trained))
    (info,) = restune.models("resnet8", **options)
    shown = json.loads(run("models", "resnet8", *words, "--json").stdout)["models"][0]
    assert shown["parameters"] == info.description.parameters
    network = restune.create_model("resnet8", **options)
    assert info.description.parameters == sum(value.numel() for value in network.parameters())
    assert "gelu" in shown["parts"][0]["role"]
    assert "group norm" in shown["parts"][0]["role"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resdual": False}, "'spec.residual'|'residual'"),
        ({"set": {"spec.resdual": False}}, "'residual'"),
        ({"act": "gellu"}, "'gelu'"),
        ({"norm": "layer"}, "one of batch, group"),
        ({"depths": 3}, "write it like"),
        ({"width": "wide"}, "whole number"),
        ({"norm_groups": 4}, "needs norm='group'"),
        ({"num_classes": 4}, "follows from the data"),
        ({"block": "mine"}, "register_block"),
        ({"model": "resnet18", "conv": "2+1"}, "dims=3"),
    ],
)
def test_wrong_options_are_found_before_the_data(options, text, tmp_path):
    with pytest.raises(restune.UserError, match=text):
        restune.train(tmp_path / "nothing is here", **options)


def test_checking_a_request_imports_no_torch(shapes):
    code = (
        f"import sys; sys.argv = ['restune', 'train', {str(shapes)!r}, '--set', 'spec.act=gellu']\n"
        "from restune.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: print(ended.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"], done.stderr


def test_models_takes_options_of_networks_only(run):
    assert "Did you mean 'spec.width'?" in run("models", "resnet18", "--set", "width=32").stderr
    done = run("models", "resnet18", "--set", "spec.widht=32")
    assert done.returncode == 2
    assert "Did you mean 'spec.width'" in done.stderr


def test_finetune_refuses_what_contradicts_the_weights(shapes, tmp_path):
    weights = restune.train(shapes, out=tmp_path / "first", **TINY, **SMALL).out
    for option, text in (
        ({"act": "gelu"}, "act='gelu' contradicts the weights, which were trained with act='relu'"),
        ({"norm": "group"}, "norm='group' contradicts"),
        ({"residual": False}, "residual=False contradicts"),
        ({"depths": (1, 2)}, r"depths=\[1, 2\] contradicts the weights, whose blocks"),
    ):
        with pytest.raises(restune.UserError, match=text):
            restune.finetune(shapes, weights=weights, out=tmp_path / "second", **option)
    run = restune.finetune(
        shapes, weights=weights, dropout=0.2, width=4, freeze="none", out=tmp_path / "third", epochs=1, threads=1
    )
    assert run.model.spec.dropout == 0.2


def test_a_group_norm_network_is_finetuned_frozen(shapes, tmp_path):
    weights = restune.train(shapes, out=tmp_path / "first", norm="group", norm_groups=4, act="silu", **TINY, **SMALL)
    run = restune.finetune(shapes, weights=weights.out, freeze="all", out=tmp_path / "second")
    assert run.model.spec == weights.model.spec
    before, after = tensors(weights), tensors(run)
    assert all(torch.equal(after[name], before[name]) for name in before if not name.startswith("fc."))


# Blocks


def test_a_registered_block_may_be_torchvisions(randomize):
    ours = randomize(restune.create_model("resnet18", block=TorchvisionBlock))
    theirs = torchvision.models.resnet18().eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 97, 97)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_a_registered_block_is_trained_and_loaded_by_name(shapes, tmp_path):
    restune.register_block("twice", Plain)
    run = restune.train(shapes, block="twice", out=tmp_path / "run", **TINY, **SMALL)
    assert [stage.block for stage in run.model.spec.stages] == ["twice", "twice"]
    assert run.model.module.layer2[0].conv.weight.shape == (16, 8, 3, 3)  # width 8, twice as wide behind it
    recipe = (run.out / "recipe.yaml").read_text()
    assert yaml.safe_load(recipe)["custom"] == ["block"]
    assert "# not in this file, pass it again in Python: block" in recipe
    again = restune.train(shapes, recipe=run.out / "recipe.yaml", out=tmp_path / "again")
    assert equal(tensors(again), tensors(run))
    embedded = run.model.embed(sorted(shapes.rglob("*.png"))[:2])
    assert embedded.shape == (2, 16)
    tuned = restune.finetune(shapes, weights=run.out, freeze=1, epochs=1, threads=1, out=tmp_path / "tuned")
    assert torch.equal(tensors(tuned)["layer1.0.conv.weight"], tensors(run)["layer1.0.conv.weight"])
    assert not torch.equal(tensors(tuned)["layer2.0.conv.weight"], tensors(run)["layer2.0.conv.weight"])


def test_an_unregistered_block_is_named(shapes, tmp_path, monkeypatch):
    run = restune.train(shapes, block=Plain, out=tmp_path / "run", **TINY, **SMALL)
    monkeypatch.setattr("restune.networks.registry._registered", {})
    with pytest.raises(restune.UserError, match=r"(?s)'Plain', which are not registered.*register_block"):
        restune.load(run.out)
    with pytest.raises(restune.UserError, match="unknown block 'Plain'"):
        restune.train(shapes, recipe=run.out / "recipe.yaml", out=tmp_path / "again")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"norm": "group"}, "does not take norm"),
        ({"residual": False}, "does not take residual"),
        ({"attention": "se"}, "does not take attention"),
        ({"drop_path": 0.1}, "does not take drop_path"),
        ({"kernels": (3, 3)}, "does not take kernels"),
    ],
)
def test_a_block_gets_no_setting_that_it_does_not_take(options, text):
    with pytest.raises(restune.UserError, match=text):
        restune.create_model("resnet8", block=Plain, **options)


def test_blocks_are_checked_when_registered_and_when_run():
    class NeedsMore(Plain):
        def __init__(self, in_channels, out_channels, stride, colour):  # noqa: ARG002
            super().__init__(in_channels, out_channels, stride)

    class Wrong(Plain):
        def forward(self, x):
            return self.conv(x)[:, :1]

    for name, block, text in (
        ("basic", Plain, "another block"),
        ("two words", Plain, "identifier"),
        ("f", F.relu, "class"),
        ("needs", NeedsMore, "'colour'"),
        ("linear", nn.Linear, "'in_channels'"),
    ):
        with pytest.raises(restune.UserError, match=text):
            restune.register_block(name, block)
    with pytest.raises(restune.UserError, match=r"returned \[1, 1, 32, 32\]"):
        restune.create_model("resnet8", block=Wrong)(torch.zeros(1, 3, 32, 32))
    restune.register_block("Wrong", Wrong)  # the same class, as when a notebook's cell runs again
    with pytest.raises(restune.UserError, match="another block"):
        restune.register_block("Wrong", Plain)


def test_a_blocks_own_initialisation_comes_last():
    class Zero(Plain):
        def initialize(self):
            nn.init.zeros_(self.conv.weight)

    assert not restune.create_model("resnet8", block=Zero).layer1[0].conv.weight.any()


def test_masks_reach_blocks_of_series():
    class Series(nn.Module):
        def __init__(self, in_channels, out_channels, stride, dims, norm, act):
            super().__init__()
            assert dims == 1
            self.conv = nn.Conv1d(in_channels, out_channels, 3, stride, padding=1, bias=False)
            self.norm, self.act, self.stride = norm(out_channels), act(), stride

        def forward(self, x, mask=None):
            after = None if mask is None else mask[:, :: self.stride]
            return self.act(self.norm(self.conv(x), after))

    stages = (StageSpec(block=Series, depth=1, width=8), StageSpec(block="Series", depth=2, width=8, stride=2))
    spec = ResNetSpec(dims=1, in_channels=2, stem="small", stem_width=8, stages=stages, norm="group", num_classes=3)
    network = restune.ResNet(spec).double()
    x, mask = torch.randn(1, 2, 21, dtype=torch.float64), torch.ones(1, 30, dtype=torch.bool)
    mask[:, 21:] = False
    assert torch.allclose(network(F.pad(x, (0, 9), value=7.0), mask), network(x), atol=1e-9)


# Modules


OF_224 = {"name": "resnet18", "width": 4, "depths": (1, 1), "stem": "small"}
"""A network with the input that modules get: resized, then cropped."""


def resnet_as_module():
    """The network that the named run starts from."""
    with seeded(torch_seed(0, "initial weights")):
        return restune.create_model(**OF_224, num_classes=2)


def test_a_module_is_trained_as_a_network_of_the_zoo(shapes, tmp_path):
    """The reference is the run that builds the same network by name: the same weights, bit for bit.

    Scores agree to rounding: restune computes its own networks with norms folded into the convolutions.
    """
    settings = {"set": {"ema.decay": 0.9, "mixup": 0.2}, "test": 0.2, **SMALL}
    named = {"model": OF_224["name"], **{key: value for key, value in OF_224.items() if key != "name"}}
    named = restune.train(shapes, out=tmp_path / "named", **named, **settings)
    module = resnet_as_module()
    run = restune.train(shapes, model=module, out=tmp_path / "module", **settings)
    assert equal(tensors(run), tensors(named))
    assert all(run.result[key] == named.result[key] for key in ("epochs", "best_epoch", "items"))
    for split in ("val", "test"):
        mine, theirs = run.result[split], named.result[split]
        for name in ("nll", "ece"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4)
        assert {**mine, "nll": 0, "ece": 0} == {**theirs, "nll": 0, "ece": 0}
    assert run.result["model"] == "ResNet"
    assert equal(module.state_dict(), tensors(run))  # it holds the best weights
    photo = next(shapes.rglob("*.png"))
    (mine,), (theirs,) = run.model.predict(photo), named.model.predict(photo)
    assert [label for label, _ in mine.top] == [label for label, _ in theirs.top]
    assert mine.probability == pytest.approx(theirs.probability, rel=1e-4)
    assert restune.evaluate(run.model, shapes, split="test").accuracy == run.result["test"]["accuracy"]
    header = json.loads(safetensors.safe_open(run.out / "model.safetensors", "pt").metadata()["restune"])
    assert header["spec"] == {"custom": "ResNet", "dims": 2, "in_channels": 3, "vocabulary": 0, "num_classes": 2}


def test_any_module_is_saved_and_loaded(shapes, tmp_path, run):
    trained = restune.train(shapes, model=tied(), out=tmp_path / "run", **SMALL)
    assert equal(tensors(trained), trained.model.module.module.state_dict())  # a safetensors file under its own names
    with pytest.raises(restune.UserError, match=r"(?s)\(Tied\), whose code.*restune.load\(PATH, module=MODULE\)"):
        restune.load(trained.out)
    fresh = Tied()
    model = restune.load(trained.out, module=fresh)
    assert equal(fresh.state_dict(), tensors(trained))
    assert model.classes == ("bright", "dark")
    copied = model.save(tmp_path / "copy.safetensors")
    assert equal(safetensors.torch.load_file(copied), tensors(trained))
    assert restune.load(copied, module=Tied()).predict(next(shapes.rglob("*.png")))[0].label in model.classes
    for module, text in ((Tied(classes=5), "other shapes for head"), (nn.Linear(2, 2), "lack")):
        with pytest.raises(restune.UserError, match=text):
            restune.load(trained.out, module=module)
    with pytest.raises(restune.UserError, match="embeddings"):
        model.embed(next(shapes.rglob("*.png")))
    done = run("predict", trained.out, next(shapes.rglob("*.png")))
    assert done.returncode == 2
    assert "module=MODULE" in done.stderr


def test_a_module_resumes_bit_for_bit(shapes, tmp_path):
    settings = {**SMALL, "epochs": 3, "set": {"checkpoint.every_steps": 1}}

    class StopError(Exception):
        pass

    def stop(step):
        if step.step == 6:
            raise StopError("here")

    whole = restune.train(shapes, model=tied(), out=tmp_path / "whole", **settings)
    with pytest.raises(StopError, match=r"^here$"):
        restune.train(shapes, model=tied(), out=tmp_path / "cut", on_step=stop, **settings)
    with pytest.raises(restune.UserError, match=r"(?s)made with a module of its own.*model=\.\.\."):
        restune.train(shapes, out=tmp_path / "cut", resume=True, **settings)
    resumed = restune.train(shapes, model=Tied(), out=tmp_path / "cut", resume=True, **settings)
    assert resumed.result["resumed_from_step"] == 5
    assert equal(tensors(resumed), tensors(whole))


def test_parameters_that_its_owner_froze_stay(shapes, tmp_path):
    module = tied()
    module.first.requires_grad_(False)
    before = module.first.weight.clone()
    restune.train(shapes, model=module, out=tmp_path / "run", **SMALL)
    assert torch.equal(module.first.weight, before)
    assert not module.first.weight.requires_grad
    assert module.head.weight.requires_grad


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"model": Tied}, "a class"),
        ({"model": Tied(classes=7)}, r"returns \[2, 7\] where logits \[2, 2\]"),
        ({"model": Tied(), "width": 4}, "width has no effect"),
        ({"model": Tied(), "set": {"freeze": "all"}}, "freeze has no effect"),
        ({"model": Tied(), "set": {"optimizer.layer_decay": 0.5}}, "layer_decay has no effect"),
        ({"model": nn.Flatten()}, "does not have parameters"),
        ({"model": nn.LazyLinear(2)}, "lazy"),
    ],
)
def test_what_a_module_cannot_do(shapes, tmp_path, options, text):
    with pytest.raises(restune.UserError, match=text):
        restune.train(shapes, out=tmp_path / "run", **{**SMALL, **options})


def test_finetune_is_for_our_networks(shapes, tmp_path):
    with pytest.raises(restune.UserError, match=r"(?s)stages and heads.*restune.train"):
        restune.finetune(shapes, model=Tied(), out=tmp_path / "run")
    trained = restune.train(shapes, model=tied(), out=tmp_path / "first", **SMALL)
    with pytest.raises(restune.UserError, match="module"):
        restune.finetune(shapes, weights=trained.out, out=tmp_path / "second")


def test_modules_of_series_and_masks(tmp_path):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.GRU(1, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.body(x.transpose(1, 2))[1][0])

    class Masked(Recurrent):
        def forward(self, x, mask):
            outputs, _ = self.body(x.transpose(1, 2))
            return self.head((outputs * mask[..., None]).sum(dim=1))

    generator = torch.Generator().manual_seed(0)

    def series(*lengths):
        return [
            (torch.randn(1, lengths[i % len(lengths)], generator=generator).numpy() + 3 * (i % 2), f"c{i % 2}")
            for i in range(32)
        ]

    settings = {"epochs": 2, "batch_size": 8, "threads": 1}
    run = restune.train(series(20), model=Recurrent(), out=tmp_path / "equal", **settings)
    assert run.result["model"] == "Recurrent"
    with pytest.raises(restune.UserError, match="does not take a mask"):
        restune.train(series(20, 25), model=Recurrent(), out=tmp_path / "refused", **settings)
