"""A shallow network without shortcuts, trained on CIFAR-10 by the published recipe airbench94 with Muon.

A peer for `cifar-fast`, in plain torch, on a CPU: a fixed whitening convolution of 2x2 pixels; three groups of a 3x3
convolution, max pool, norm, GELU, convolution, norm, GELU; convolutions that start as the identity; norms without
scales, with large rates for their biases; batches of 2,000, shifts by up to 2 pixels, mirrored in every other epoch.

Source: Jordan 2024, arXiv:2404.00498, section 3, with the settings of github.com/KellerJordan/cifar10-airbench, where
it scores 94.01% on lossless CIFAR-10 as the mean of six views.

Command: python -m benchmarks.tables.shallow_cifar TRAIN.tar.gz TEST.tar.gz --epochs 8 --seed 0
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarks.tables.independent_cifar import read_tar
from torch import Tensor, nn

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
BATCH, SHIFT, SMOOTHING = 2000, 2, 0.2
BIAS_RATE, HEAD_RATE, FILTER_RATE = 0.053, 0.67, 0.24
"""Learning rates for a loss that is summed over the batch."""
DECAY = 2e-6 * BATCH
WHITENING_EPOCHS = 3
"""Epochs in which the whitening convolution's bias is trained."""


class Whitening(nn.Conv2d):
    """2x2 pixels to 24 channels: the eigenvectors of patches, each scaled to variance 1, and their negatives."""

    def __init__(self, images: Tensor, floor: float = 5e-4) -> None:
        super().__init__(3, 24, 2)
        patches = F.unfold(images, 2).transpose(1, 2).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + floor).sqrt()).T.reshape(12, 3, 2, 2)
        self.weight = nn.Parameter(torch.cat((filters, -filters)), requires_grad=False)


class Group(nn.Module):
    """Convolution, max pool, norm, GELU; convolution, norm, GELU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(n, after, 3, padding=1, bias=False) for n in (before, after))
        self.first_norm, self.second_norm = (nn.BatchNorm2d(after, eps=1e-12, momentum=0.4) for _ in range(2))
        for norm in (self.first_norm, self.second_norm):
            norm.weight.requires_grad_(False)
        for conv in (self.first, self.second):  # the first filters pass their channel on
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.first_norm(F.max_pool2d(self.first(x), 2)))
        return F.gelu(self.second_norm(self.second(x)))


class ShallowNet(nn.Module):
    """Whitening, three groups of 64, 256 and 256 channels, max pool, linear classifier: 1.97 million parameters."""

    def __init__(self, images: Tensor, classes: int = 10) -> None:
        super().__init__()
        self.whitening = Whitening(images)
        self.groups = nn.Sequential(Group(24, 64), Group(64, 256), Group(256, 256))
        self.head = nn.Linear(256, classes, bias=False)
        self.head.weight.data.div_(self.head.weight.data.std())

    def forward(self, x: Tensor) -> Tensor:
        x = self.groups(F.gelu(self.whitening(x)))
        return self.head(x.amax((2, 3))) / self.head.in_features


class Optimizer:
    """Muon for the convolutions, SGD with Nesterov momentum for biases and head; rates fall in a line to 0."""

    def __init__(self, network: ShallowNet, steps: int, whitening_steps: int) -> None:
        self.steps, self.whitening_steps, self.step_number = steps, whitening_steps, 0
        self.filters = [p for p in network.groups.parameters() if p.ndim == 4]
        self.momenta = [torch.zeros_like(p) for p in self.filters]
        biases = [p for p in network.groups.parameters() if p.ndim == 1 and p.requires_grad]
        sets = (([network.whitening.bias], BIAS_RATE), (biases, BIAS_RATE), ([network.head.weight], HEAD_RATE))
        groups = [{"params": list(p), "lr": rate, "peak": rate, "weight_decay": DECAY / rate} for p, rate in sets]
        self.sgd = torch.optim.SGD(groups, lr=BIAS_RATE, momentum=0.85, nesterov=True)

    def step(self) -> None:
        left = 1 - self.step_number / self.steps
        shares = (max(0.0, 1 - self.step_number / self.whitening_steps), left, left)
        for group, share in zip(self.sgd.param_groups, shares, strict=True):
            group["lr"] = group["peak"] * share
        self.sgd.step()
        self._turn_filters(FILTER_RATE * left)
        self.sgd.zero_grad()
        for filters in self.filters:
            filters.grad = None
        self.step_number += 1

    @torch.no_grad()
    def _turn_filters(self, rate: float) -> None:
        for filters, momentum in zip(self.filters, self.momenta, strict=True):
            assert filters.grad is not None
            momentum.mul_(0.6).add_(filters.grad)
            ahead = filters.grad + 0.6 * momentum
            filters.mul_(len(filters) ** 0.5 / filters.norm())
            filters.sub_(rate * nearly_orthogonal(ahead.flatten(1)).view_as(filters))


def nearly_orthogonal(matrix: Tensor) -> Tensor:
    """Three Newton-Schulz iterations in bf16 toward the orthogonal matrix with the same singular vectors."""
    if len(matrix) > matrix.shape[1]:
        return nearly_orthogonal(matrix.T).T
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(3):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x.float()


def epochs_of(images: Tensor, labels: Tensor, count: int, random: torch.Generator) -> Iterator[Iterator[tuple]]:
    """Yield the batches of each epoch: shifted anew, mirrored in every other epoch, starting with either side."""
    images = torch.where(torch.rand(len(images), 1, 1, 1, generator=random) < 0.5, images.flip(3), images)
    padded = F.pad(images, (SHIFT,) * 4, mode="reflect")
    for epoch in range(count):
        order = torch.randperm(len(images), generator=random)
        corners = torch.randint(0, 2 * SHIFT + 1, (len(images), 2), generator=random)
        chosen = order[: max(1, len(order) // BATCH) * BATCH].split(BATCH)
        yield ((shifted(padded[i], corners[i], mirrored=epoch % 2 == 1), labels[i]) for i in chosen)


def shifted(padded: Tensor, corners: Tensor, *, mirrored: bool) -> Tensor:
    """Cut each image out at its own corner."""
    side = padded.shape[-1] - 2 * SHIFT
    out = padded.new_empty(len(padded), 3, side, side)
    for y in range(2 * SHIFT + 1):
        for x in range(2 * SHIFT + 1):
            there = (corners[:, 0] == y) & (corners[:, 1] == x)
            out[there] = padded[there, :, y : y + side, x : x + side]
    return out.flip(3) if mirrored else out


def train(
    network: ShallowNet, images: Tensor, labels: Tensor, *, epochs: int, seed: int, bf16: bool = True,
    on_epoch: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Train in place on normalised images."""
    random = torch.Generator().manual_seed(seed)
    per_epoch = max(1, len(images) // BATCH)
    optimizer = Optimizer(network, epochs * per_epoch, ceil(WHITENING_EPOCHS * per_epoch))
    for batches in epochs_of(images, labels, epochs, random):
        network.train().to(memory_format=torch.channels_last)
        for pixels, targets in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = network(pixels.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(logits.float(), targets, label_smoothing=SMOOTHING, reduction="sum").backward()
            optimizer.step()
        on_epoch()


def normalized(pixels: Tensor) -> Tensor:
    return (pixels / 255 - MEAN) / STD


def one_view(network: nn.Module, images: Tensor) -> Tensor:
    return network(images.contiguous(memory_format=torch.channels_last)).float()


def six_views(network: nn.Module, images: Tensor) -> Tensor:
    """Mean over both sides of the image (half) and of its shifts by one pixel along the diagonal (a quarter each)."""
    padded = F.pad(images, (1,) * 4, mode="reflect")
    views = ((images, 0.5), (padded[..., :-2, :-2], 0.25), (padded[..., 2:, 2:], 0.25))
    return sum(share * (one_view(network, view) + one_view(network, view.flip(3))) for view, share in views)  # type: ignore[return-value]


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, logits: Callable = one_view) -> float:
    """Return the share of correct predictions, in bf16."""
    network.eval()
    with torch.autocast("cpu", torch.bfloat16):
        hits = [logits(network, part).argmax(1) for part in images.split(500)]
    return (torch.cat(hits) == labels).float().mean().item()


def measure(train_file: Path, test_file: Path, *, epochs: int, seed: int) -> dict[str, object]:
    """Train on 96% of the training file, with validation accuracy after each epoch; score the test file once."""
    started = time.perf_counter()
    torch.manual_seed(seed)
    (images, labels), (test_images, test_labels) = read_tar(train_file), read_tar(test_file)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = max(1, round(0.04 * len(order)))
    images, test_images = normalized(images), normalized(test_images)
    held_out, kept = order[:cut], order[cut:]
    network = ShallowNet(images[kept][:5000])
    curve: list[list[float]] = []
    begun = time.perf_counter()

    def on_epoch() -> None:
        score = accuracy(network, images[held_out], labels[held_out])
        curve.append([(time.perf_counter() - begun) / 60, 100 * score])

    train(network, images[kept], labels[kept], epochs=epochs, seed=seed, on_epoch=on_epoch)
    scores = {
        "accuracy": accuracy(network, test_images, test_labels),
        "six_views": accuracy(network, test_images, test_labels, six_views),
    }
    minutes = (time.perf_counter() - started) / 60
    return scores | {"n": len(test_labels), "curve": curve, "minutes": minutes, "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(measure(options.train, options.test, epochs=options.epochs, seed=options.seed)))


if __name__ == "__main__":
    main()
