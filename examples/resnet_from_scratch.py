"""A residual network from scratch: ResNet-18 learns handwritten digits in about a minute on two processor cores.

    python resnet_from_scratch.py

With --plain it has no shortcuts: 18 layers still learn (98%), 50 (--blocks 6 --size 32) end at 9% instead of 76%.

"Deep Residual Learning for Image Recognition" (He et al., 2015, arXiv:1512.03385), with torchvision's parameter
names, so that `torchvision.models.resnet18(num_classes=10)` loads the weights this writes.
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def conv(inputs, outputs, size, stride=1):
    # No bias: the batch norm that follows subtracts each channel's mean, and any constant with it.
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def shortcut(inputs, outputs, stride):
    """The path around a block: the identity where shapes agree, else a 1x1 projection to the new shape."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    expansion = 1  # a block of width w outputs w * expansion channels

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)  # stride here: later layers then compute fewer pixels
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))  # no ReLU yet: the correction to x may be negative
        # Why the sum? The convolutions only learn a correction to x, and with zero weights the block is the identity.
        # And the sum passes the gradient on undiminished, so the first layers of a very deep network learn too.
        return F.relu(y + self.downsample(x))


class PlainBlock(BasicBlock):
    """The same two convolutions without the shortcut: what networks were before, to see what the sum does."""

    def __init__(self, inputs, width, stride):
        super().__init__(inputs, width, stride)
        del self.downsample

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Bottleneck(nn.Module):
    """1x1 to fewer channels, a cheap 3x3 on those, 1x1 back to more: the block of ResNet-50 and deeper."""

    expansion = 4  # the last 1x1 widens: a block of width 64 has 64 channels inside and outputs 256

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride)  # stride here: a 1x1 would skip three of four pixels
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = shortcut(inputs, width * self.expansion, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """Images [N, 3, H, W] to logits [N, num_classes]: a stem, four stages of blocks, an average, one linear layer."""

    def __init__(self, block, depths, num_classes):
        super().__init__()
        self.conv1 = conv(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=1):
            blocks = []
            for position in range(depth):
                # Stages 2 to 4 halve height and width as they double the channels: each block costs about the same.
                stride = 2 if stage > 1 and position == 0 else 1
                blocks.append(block(channels, width, stride))
                channels = width * block.expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He: each ReLU halves the signal's power, so start with twice as much
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))  # [N, 64, H/2, W/2]
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # [N, 64, H/4, W/4]: shrunk early, as large maps cost the most
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # [N, channels, H/32, W/32]
        return self.fc(x.mean((2, 3)))  # the average over all positions fits any H and W


def resnet18(num_classes):
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes)


def digits(size):
    """Return training images [N, 3, size, size] and labels, then test images and labels: every fifth item."""
    grey, labels = map(torch.from_numpy, load_digits(return_X_y=True))  # 8x8 greys from 0 to 16
    images = (grey / 16 * 255).round().to(torch.uint8).reshape(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    images = F.interpolate(images.float(), (size, size), mode="bilinear") / 255
    images = (images - 0.5) / 0.5  # from -1 to 1: the initialisation assumes inputs around zero
    test = torch.arange(len(labels)) % 5 == 0
    return images[~test], labels[~test], images[test], labels[test]


def train(model, images, labels, epochs, batch_size=64, max_lr=0.05):
    """Train by SGD with a one-cycle learning rate; yield each epoch's mean loss."""
    optimizer = torch.optim.SGD(model.parameters(), max_lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * -(-len(images) // batch_size)  # the last batch of an epoch may be smaller
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, steps)
    for _ in range(epochs):
        model.train()  # batch norm uses each batch's statistics and keeps a running average
        total = 0.0
        for batch in torch.randperm(len(images)).split(batch_size):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        yield total / len(images)


@torch.inference_mode()
def accuracy(model, images, labels):
    model.eval()  # batch norm uses the running average: a prediction must not depend on the rest of its batch
    return (torch.cat([model(batch).argmax(1) for batch in images.split(256)]) == labels).float().mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train ResNet-18 on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=48, help="height and width of the network's input")
    parser.add_argument("--plain", action="store_true", help="leave the shortcuts out")
    parser.add_argument("--blocks", type=int, default=2, help="blocks per stage; 2 is ResNet-18")
    parser.add_argument("--out", default="resnet18-digits.pth", help="file to write the weights to")
    parser.add_argument("--seed", type=int, default=0, help="random seed of initial weights and image order")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    images, labels, test_images, test_labels = digits(args.size)
    model = ResNet(PlainBlock if args.plain else BasicBlock, [args.blocks] * 4, num_classes=10)
    for epoch, loss in enumerate(train(model, images, labels, args.epochs), start=1):
        print(f"epoch {epoch}/{args.epochs}: mean loss {loss:.3f}", flush=True)
    torch.save(model.state_dict(), args.out)
    print(f"{args.out}: test accuracy {accuracy(model, test_images, test_labels):.2%} (n = {len(test_labels)})")
