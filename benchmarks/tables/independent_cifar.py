"""An independent implementation of He et al. 2016, section 4.2: CIFAR-10 networks, data, augmentation and training.

It shares no code with restune: plain torch, PIL and tarfile. The recipe is the one that restune ships as `cifar-paper`:
SGD with momentum 0.9, weight decay 1e-4 on convolutions and the classifier, batches of 128, one epoch of linear
warm-up, learning rate 0.1 divided by 10 after half and three quarters of the run, images padded by 4 and cropped, and
mirrored.

Command: python -m benchmarks.tables.independent_cifar TRAIN.tar.gz TEST.tar.gz --depth 20 --epochs 4 --seed 0
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class PlainLayer(nn.Module):
    """Two 3x3 convolutions with batch norm; with a shortcut of zero-padded channels (option A) unless plain."""

    def __init__(self, before: int, after: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.stride, self.extra, self.residual = stride, after - before, residual

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.first_norm(self.first(x)))
        out = self.second_norm(self.second(out))
        if self.residual:
            kept = x[:, :, :: self.stride, :: self.stride]
            half = self.extra // 2
            out = out + torch.cat([kept.new_zeros(len(x), half, *kept.shape[2:]), kept,
                                   kept.new_zeros(len(x), self.extra - half, *kept.shape[2:])], 1)  # fmt: skip
        return F.relu(out)


class CifarNet(nn.Module):
    """6n + 2 layers: a 3x3 convolution, 3n blocks of two on 16, 32 and 64 channels, mean, linear classifier."""

    def __init__(self, depth: int, residual: bool = True, classes: int = 10) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        blocks, width = [], 16
        for channels in (16, 32, 64):
            for position in range((depth - 2) // 6):
                stride = 2 if position == 0 and channels > 16 else 1
                blocks.append(PlainLayer(width, channels, stride, residual))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. 2015: variance 2 / (outputs * positions of the kernel)
                deviation = (2 / (module.out_channels * 9)) ** 0.5
                nn.init.normal_(module.weight, 0, deviation)

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(F.relu(self.stem_norm(self.stem(x))))
        return self.classifier(out.mean((2, 3)))


def read_tar(path: Path) -> tuple[Tensor, Tensor]:
    """Decode a tar of class folders: images uint8 ``[N, 3, 32, 32]`` and indices of the sorted classes ``[N]``."""
    pictures, names = [], []
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                pictures.append(np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB")))
                names.append(Path(member.name).parent.name)
    classes = sorted(set(names))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), torch.tensor([classes.index(n) for n in names])


def padded_crops(images: Tensor, random: torch.Generator) -> Tensor:
    """Pad each image by 4 black pixels, crop 32x32 at random, mirror half of them."""
    side, padded = images.shape[-1], F.pad(images, (4, 4, 4, 4))
    corners = torch.randint(0, 9, (len(images), 2), generator=random).tolist()
    mirrored = (torch.rand(len(images), generator=random) < 0.5).to(images.device)
    crops = torch.stack([image[:, y : y + side, x : x + side] for image, (y, x) in zip(padded, corners, strict=True)])
    crops[mirrored] = crops[mirrored].flip(3)
    return crops


def rate_at(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate: warm-up from a hundredth, then 0.1, 0.01 and 0.001."""
    if step < warmup:
        return 0.1 * (0.01 + 0.99 * step / warmup)
    return 0.1 * (0.1 if step >= 0.5 * steps else 1.0) * (0.1 if step >= 0.75 * steps else 1.0)


def optimizer_of(network: nn.Module, decay: float) -> torch.optim.SGD:
    """SGD; norms and biases do not decay."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def batches(images: Tensor, labels: Tensor, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch in random order; the incomplete last batch is left out."""
    order = torch.randperm(len(images), generator=random)
    for chosen in order[: len(order) // size * size].to(images.device).split(size):
        yield images[chosen], labels[chosen]


def train(
    network: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, seed: int, batch: int = 128, bf16: bool = False,
    augment: bool = True, decay: float = 1e-4, on_step: Callable[[float], None] = lambda _loss: None,
) -> None:  # fmt: skip
    """Train in place, on the network's device, by the paper's recipe, its schedule scaled to `epochs`."""
    random = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    images, labels = images.to(device), labels.to(device)
    per_epoch = len(images) // batch
    optimizer, step = optimizer_of(network, decay), 0
    network.train().to(memory_format=torch.channels_last)
    for _ in range(epochs):
        for pixels, targets in batches(images, labels, batch, random):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, epochs * per_epoch, per_epoch)
            inputs = normalized(padded_crops(pixels, random) if augment else pixels)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = network(inputs)
            loss = F.cross_entropy(logits.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            on_step(loss.item())


def normalized(pixels: Tensor) -> Tensor:
    mean, std = MEAN.to(pixels.device), STD.to(pixels.device)
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of correct predictions, in float32."""
    network.eval()
    device = next(network.parameters()).device
    hits = [network(normalized(pixels.to(device))).argmax(1).cpu() for pixels in images.split(500)]
    return (torch.cat(hits) == labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--plain", action="store_true", help="without shortcuts")
    parser.add_argument("--epochs", type=int, default=182)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    network = CifarNet(options.depth, not options.plain).to(options.device)
    images, labels = read_tar(options.train)
    started = time.perf_counter()
    train(network, images, labels, epochs=options.epochs, seed=options.seed, bf16=options.bf16)
    seconds = time.perf_counter() - started
    test_images, test_labels = read_tar(options.test)
    score = accuracy(network, test_images, test_labels)
    print(json.dumps({"accuracy": score, "n": len(test_labels), "images": len(images), "seconds": seconds}))


if __name__ == "__main__":
    main()
