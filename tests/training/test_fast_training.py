"""What `cifar-fast` is made of: Muon and progressive resizing, against references, and exact under resuming."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

import restune
from restune.core.console import StatusFields
from restune.networks.resnet import ResNet
from restune.training.epoch_status import EpochStatus
from restune.training.freeze import apply_freeze
from restune.training.image_sizes import ImageSizes, resized
from restune.training.muon import Muon, orthogonalized
from restune.training.optimizer import NamedOptimizer
from restune.training.recipe import OptimizerRecipe

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 4, "batch_size": 8, "threads": 1, "precision": "fp32",
         "val": 0.2}  # fmt: skip
SIZES = [{"until": 0.25, "size": 8}, {"until": 0.625, "size": 12}]
SETTINGS = {
    "spec.width": 4, "spec.depths": [1, 1], "optimizer.name": "muon", "optimizer.momentum": 0.6, "augment.flip": True,
    "augment.alternate_flip": True, "augment.shift": 1, "augment.border": "reflect", "schedule.name": "linear",
    "ema.decay": 0.9, "ema.ramp": 3, "ema.every": 2, "image_sizes": SIZES, "checkpoint.every_steps": 3,
}  # fmt: skip


def scaled(network):
    """Scale the filters of the stages to norm 1 on average, as airbench does at each step."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("layer") and parameter.ndim > 1:
                parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
    return network


def tiny():
    torch.manual_seed(0)
    return scaled(restune.create_model("resnet8", width=4, num_classes=3, shortcut="B"))


def a_step(network, step):
    torch.manual_seed(step)
    network(torch.randn(4, 3, 8, 8)).square().mean().backward()


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (5, 40), (40, 5)])
def test_orthogonalised_matrices_keep_their_singular_vectors(rows, columns):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    nearly = orthogonalized(matrix, iterations=8)
    u, _values, v = torch.linalg.svd(matrix, full_matrices=False)
    values = (u.T @ nearly @ v.T).diag()
    assert ((values > 0.5) & (values < 1.3)).all()
    assert torch.allclose(u @ torch.diag(values) @ v, nearly, atol=1e-3)


@pytest.mark.parametrize("nesterov", [True, False])
def test_matrices_move_as_by_torchs_muon(nesterov):
    """torch's averages gradients where ours sums them, which orthogonalisation does not see; it lets norms grow."""
    torch.manual_seed(0)
    mine = torch.nn.Parameter(torch.randn(6, 20))
    theirs = torch.nn.Parameter(mine.detach().clone())
    ours = Muon([{"params": [mine], "lr": 0.1}], momentum=0.6, nesterov=nesterov, bf16=True)
    start = theirs.detach().norm()
    rate = float(0.1 * start / 6**0.5)  # ours is relative to filters of norm 1
    peer = torch.optim.Muon([theirs], lr=rate, weight_decay=0.0, momentum=0.6, nesterov=nesterov, ns_steps=3)
    for _ in range(5):
        gradient = torch.randn(6, 20)
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        with torch.no_grad():
            theirs.mul_(start / theirs.norm())
        before = mine.detach().clone()
        ours.step()
        peer.step()
        assert (mine - before).norm() > 0.1
        # Both iterate in bf16, whose 8 bits the iteration's steep polynomial magnifies.
        assert torch.allclose(mine, theirs, atol=0.03 * rate * 6**0.5)


def airbench_step(network, buffers, rate, momentum):
    """The update of airbench94_muon.py, in float32."""
    for name, parameter in network.named_parameters():
        if not name.startswith("layer") or parameter.ndim < 2:
            continue
        buffer = buffers.setdefault(name, torch.zeros_like(parameter))
        buffer.mul_(momentum).add_(parameter.grad)
        gradient = parameter.grad.add(buffer, alpha=momentum)
        parameter.data.mul_(len(parameter) ** 0.5 / parameter.data.norm())
        x = gradient.reshape(len(gradient), -1)
        x = x / (x.norm() + 1e-7)
        turned = x.size(0) > x.size(1)
        x = x.T if turned else x
        for _ in range(3):
            square = x @ x.T
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        parameter.data.add_((x.T if turned else x).view_as(parameter), alpha=-rate)


def test_convolutions_of_stages_move_as_in_airbench_and_the_rest_by_sgd():
    mine, theirs, buffers = tiny(), tiny(), {}
    apply_freeze(mine, "none")
    theirs.train()
    recipe = OptimizerRecipe(name="muon", lr=0.1, momentum=0.6, sgd_lr=0.05, sgd_momentum=0.85, weight_decay=0.01)
    ours = NamedOptimizer(mine, recipe)
    others = [(name, one) for name, one in theirs.named_parameters() if not name.startswith("layer") or one.ndim < 2]
    decayed, plain = ([one for _, one in others if (one.ndim > 1) == wide] for wide in (True, False))
    assert len(decayed) == 2  # the stem and the head
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, lr=0.05, momentum=0.85, nesterov=True)
    for step in range(3):
        a_step(mine, step)
        assert ours.step(0.5) == pytest.approx(0.05)
        a_step(theirs, step)
        for group in sgd.param_groups:
            group["lr"] = 0.025
        airbench_step(theirs, buffers, 0.05, 0.6)
        sgd.step()
        theirs.zero_grad()
    for (key, a), b in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), key
    by_muon = {name.split("/")[0] for name in ours.state() if name.endswith("/norm")}
    assert by_muon == {name for name, one in mine.named_parameters() if name.startswith("layer") and one.ndim > 1}
    assert any("downsample" in name for name in by_muon)


def test_filters_keep_the_norm_that_pretrained_weights_have():
    network = tiny()
    with torch.no_grad():
        network.layer1[0].conv1.weight.mul_(7.0)
    apply_freeze(network, "none")
    optimizer = NamedOptimizer(network, OptimizerRecipe(name="muon", lr=0.01, layer_decay=0.5))
    before = network.layer1[0].conv1.weight.norm().item()
    for step in range(4):
        a_step(network, step)
        optimizer.step(1.0)
    assert network.layer1[0].conv1.weight.norm().item() == pytest.approx(before, rel=0.02)
    peaks = {optimizer.names[one]: group["peak"] for group in optimizer.groups for one in group["params"]}
    assert peaks["fc.weight"] == 0.05
    assert peaks["layer3.0.conv1.weight"] == 0.005
    assert peaks["layer1.0.conv1.weight"] == peaks["layer1.0.conv2.weight"] == 0.00125


def test_resizing_is_pillows_and_nothing_happens_at_full_size():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    smaller = resized(images, 20)
    for image, small in zip(images.flatten(0, 1), smaller.flatten(0, 1), strict=True):
        theirs = Image.fromarray(image.numpy(), mode="F").resize((20, 20), Image.Resampling.BILINEAR)
        assert np.allclose(small.numpy(), np.asarray(theirs), atol=1e-5)
    assert resized(images, 32) is images
    assert resized(images, None) is images


def test_a_parts_work_is_its_pixels():
    sizes = ImageSizes(((0.25, 8), (0.5, 12)), 16)
    whole = 0.25 * 64 + 0.25 * 144 + 0.5 * 256
    assert sizes.work(0.25) == pytest.approx(0.25 * 64 / whole)
    assert sizes.work(0.4) == pytest.approx((0.25 * 64 + 0.15 * 144) / whole)
    assert sizes.work(1.0) == 1.0
    assert ImageSizes().work(0.3) == 0.3


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_noise):
    return write_noise(tmp_path_factory.mktemp("fast") / "data", bright=(110, 30), dark=(0, 30))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nobody stopped, and the sides of its training and validation batches in order."""
    trained, validated = [], []

    def note(module, inputs):
        if isinstance(module, ResNet):
            (trained if module.training else validated).append(inputs[0].shape[-1])

    handle = register_module_forward_pre_hook(note)
    try:
        run = restune.train(data, out=tmp_path_factory.mktemp("whole") / "run", set=SETTINGS, **SMALL)
    finally:
        handle.remove()
    return run, trained, validated


def test_sizes_follow_the_share_of_the_run_and_validation_sees_whole_images(whole):
    _run, trained, validated = whole
    steps = [side for side in trained if side]  # 4 epochs of 6 steps
    assert steps[-24:] == [8] * 6 + [12] * 9 + [16] * 9
    assert set(validated) == {16}


class StoppedError(Exception):
    """Ends a run in the middle of an epoch."""


def test_a_run_that_stopped_within_a_small_epoch_ends_as_if_it_had_not(whole, data, tmp_path):
    def stop(record):
        if record.step == 10:  # the checkpoint is from step 9; sizes change at 6 and at 15
            raise StoppedError

    with pytest.raises(StoppedError):
        restune.train(data, out=tmp_path / "run", on_step=stop, set=SETTINGS, **SMALL)
    resumed = restune.train(data, out=tmp_path / "run", resume=True, set=SETTINGS, **SMALL)
    assert resumed.result["resumed_from_step"] == 9
    mine, theirs = (run.model.module.state_dict() for run in (resumed, whole[0]))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert (resumed.out / "metrics.jsonl").read_bytes() == (whole[0].out / "metrics.jsonl").read_bytes()


def test_the_live_line_says_the_size():
    class Part:
        step = epoch = batches = images = 0
        rate = epoch_loss = 0.0
        epochs = 4
        kind = type("Kind", (), {"sample_noun": "images"})

        def seconds_left(self, _state):
            return None

        budget_left = partial(lambda: None)

    shown: StatusFields = EpochStatus(Part(), Part(), 6, Part(), lambda: None, lambda: 12).fields()
    assert any("12 px" in str(part) for part in shown.parts)
    assert not any("px" in str(part) for part in EpochStatus(Part(), Part(), 6, Part(), lambda: None).fields().parts)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image_sizes": [{"until": 0.5, "size": 17}]}, "17 pixels are larger than the network's input of 16"),
        ({"optimizer.sgd_lr": 0.1}, "optimizer.sgd_lr has no effect here"),
        ({"optimizer.name": "muon", "optimizer.beta2": 0.9}, "Muon has no beta2"),
        ({"augment.border": "reflect", "augment.shift": 0}, "images are not shifted"),
        ({"augment.alternate_flip": True, "augment.flip": False}, "images are not mirrored"),
        ({"ema.ramp": 3}, "there is no average"),
    ],
)
def test_settings_that_cannot_work_are_named(data, tmp_path, more, message):
    with pytest.raises(restune.UserError, match=message):
        restune.train(data, out=tmp_path / "run", set={"spec.width": 4, **more}, **SMALL)


@pytest.mark.parametrize(
    ("freeze", "more", "message"),
    [
        ("all", {"head": "sgd", "optimizer.name": "muon"}, "all of them are frozen"),
        (1, {"image_sizes": SIZES}, "need all layers trainable"),
    ],
)
def test_frozen_layers_have_nothing_for_muon_and_are_computed_at_one_size(whole, data, tmp_path, freeze, more, message):
    options = {name: value for name, value in SMALL.items() if name not in ("model", "image_size")}
    with pytest.raises(restune.UserError, match=message):
        restune.finetune(
            data, weights=whole[0].out / "model.safetensors", freeze=freeze, out=tmp_path / "run", set=more, **options
        )


def test_texts_do_not_have_image_sizes(tmp_path):
    (tmp_path / "texts.tsv").write_text("text\tlabel\n" + "a good one\tgood\na bad one\tbad\n" * 8)
    with pytest.raises(restune.UserError, match="image_sizes has no effect here: the data is texts"):
        restune.train(tmp_path / "texts.tsv", set={"image_sizes": SIZES}, epochs=1, out=tmp_path / "run")


def test_muon_leaves_networks_of_ones_own_alone(data, tmp_path):
    own = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                              torch.nn.Linear(4, 2))  # fmt: skip
    options = {name: value for name, value in SMALL.items() if name != "model"}
    for number, (more, message) in enumerate((
        ({"optimizer.name": "muon"}, "Muon is for restune's own networks"),
        ({"image_sizes": SIZES}, "need one of restune's networks"),
    )):  # fmt: skip
        with pytest.raises(restune.UserError, match=message):
            restune.train(data, model=own, out=tmp_path / str(number), set=more, **options)


def test_the_network_of_the_recipe_by_hand():
    network = restune.create_model("wide_resnet8")
    block = sum(
        9 * inputs * width + 9 * width * width + (inputs * width + 2 * width if inputs != width else 0) + 4 * width
        for inputs, width in ((64, 128), (128, 256), (256, 256))
    )
    expected = 9 * 3 * 64 + 2 * 64 + block + 256 * 10 + 10
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 2_334_282
    outputs = network.eval().forward_stages(torch.zeros(1, 3, 32, 32))
    shapes = [tuple(outputs[f"stage{number}"].shape[1:]) for number in (1, 2, 3)]
    assert shapes == [(128, 16, 16), (256, 8, 8), (256, 4, 4)]
