"""The teaching example: short, the same network as torchvision's and ours, and it learns."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

import restune

EXAMPLE = Path(__file__).parents[1] / "examples" / "resnet_from_scratch.py"


@pytest.fixture(scope="module")
def example():
    specification = importlib.util.spec_from_file_location("resnet_from_scratch", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_it_is_read_in_one_sitting():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 165


def assert_same_logits(theirs, ours):
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 80, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, expected = ours(x), theirs.eval()(x)
    assert logits.shape == (2, 10)
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_same_as_torchvision(example, randomize):
    assert_same_logits(torchvision.models.resnet18(num_classes=10), randomize(example.resnet18(num_classes=10)))


def test_bottleneck_same_as_torchvision(example, randomize):
    ours = randomize(example.ResNet(example.Bottleneck, (3, 4, 6, 3), num_classes=10))
    assert_same_logits(torchvision.models.resnet50(num_classes=10), ours)


def test_same_as_restune(example, randomize):
    ours = randomize(example.resnet18(num_classes=10))
    assert_same_logits(restune.create_model("resnet18", num_classes=10), ours)


def test_same_initial_distribution_as_torchvision(example):
    torch.manual_seed(0)
    ours, theirs = example.resnet18(num_classes=1000), torchvision.models.resnet18()
    expected = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        if tensor.ndim == 4:
            assert tensor.std().item() == pytest.approx(expected[name].std().item(), rel=0.05), name


def test_digits_are_split_by_index_and_scaled(example):
    images, labels, test_images, test_labels = example.digits(16)
    assert images.shape == (1437, 3, 16, 16)
    assert labels.shape == (1437,)
    assert test_images.shape == (360, 3, 16, 16)
    assert test_labels[:4].tolist() == [0, 5, 0, 5]  # the data set begins 0 1 2 ... 9 0 1 2 ... 9
    assert images.min() == -1
    assert images.max() == 1


def test_digits_are_the_ones_restune_reads(example):
    from restune.data.dataset import DataOptions
    from restune.data.sources.named import open_named

    _, _, images, labels = example.digits(8)
    dataset = open_named("digits", DataOptions()).select("test")
    assert labels.tolist() == [item.target for item in dataset.items]
    theirs = torch.stack([torch.from_numpy(item.location.read()) for item in dataset.items])
    assert torch.equal(((images[:, 0] * 0.5 + 0.5) * 255).round().to(torch.uint8), theirs)


def short_training(example, seed):
    """A shallow network on a few images, to be quick: the state it ends in and the mean loss of each epoch."""
    torch.manual_seed(seed)
    images, labels, _, _ = example.digits(16)
    model = example.ResNet(example.BasicBlock, (1, 1, 1, 1), num_classes=10)
    losses = list(example.train(model, images[:64], labels[:64], epochs=4, batch_size=32))
    return model.state_dict(), losses


def test_a_few_steps_reduce_the_loss_and_repeat(example):
    state, losses = short_training(example, seed=0)
    assert len(losses) == 4
    assert losses[-1] < 0.5 * losses[0]
    again, same = short_training(example, seed=0)
    assert same == losses
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())


def test_the_plain_twin_lacks_the_sum_and_nothing_else(example):
    """With the same weights, its block is the residual block minus the shortcut before the last ReLU."""
    torch.manual_seed(0)
    residual, plain = example.BasicBlock(8, 8, 1).eval(), example.PlainBlock(8, 8, 1).eval()
    plain.load_state_dict(residual.state_dict(), strict=True)
    x = torch.randn(2, 8, 5, 5)
    with torch.inference_mode():
        correction = residual.bn2(residual.conv2(torch.relu(residual.bn1(residual.conv1(x)))))
        assert torch.equal(plain(x), torch.relu(correction))
        assert torch.equal(residual(x), torch.relu(correction + x))
    count = sum(p.numel() for p in example.ResNet(example.PlainBlock, (2, 2, 2, 2), 10).parameters())
    shortcuts = sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512)))
    assert count == sum(p.numel() for p in example.resnet18(10).parameters()) - shortcuts


def test_plain_runs_from_the_command_line(tmp_path):
    words = ("--plain", "--blocks", "1", "--epochs", "1", "--size", "4", "--out", str(tmp_path / "plain.pth"))
    done = subprocess.run([sys.executable, EXAMPLE, *words], capture_output=True, text=True, check=True)
    assert "test accuracy" in done.stdout
    assert not any("downsample" in name for name in torch.load(tmp_path / "plain.pth", weights_only=True))
