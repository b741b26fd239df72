"""Reference solutions of the exercises, and typical mistakes as single changes to them."""

RESIDUAL_BLOCK = """
import torch
from torch import nn


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + x)
"""

PROJECTION = """
import torch
from torch import nn


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        shortcut = self.shortcut(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + shortcut)
"""

BOTTLENECK = """
import torch
from torch import nn


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels, width, stride=1):
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + self.shortcut(x))
"""

RESNET_CLASS = """
class ResNet(nn.Module):
    def __init__(self, block, layers, num_classes=1000):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        in_channels = 64
        blocks = []
        for stage, count in enumerate(layers):
            channels = 64 * 2**stage
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                downsample = None
                if stride != 1 or in_channels != channels * block.expansion:
                    downsample = nn.Sequential(
                        nn.Conv2d(in_channels, channels * block.expansion, 1, stride=stride, bias=False),
                        nn.BatchNorm2d(channels * block.expansion),
                    )
                blocks.append(block(in_channels, channels, stride, downsample))
                in_channels = channels * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.fc(torch.flatten(self.pool(x), 1))
"""

TRAIN = """
def train_model(images, labels):
    torch.manual_seed(0)
    model = make_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    model.train()
    for epoch in range(6):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
    model.eval()
    return model
"""

FINETUNE = """
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18


def prepare(weights_path, num_classes):
    model = resnet18()
    model.load_state_dict(torch.load(weights_path, weights_only=True))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.fc = nn.Linear(model.fc.in_features, num_classes)
    return model


def train_epoch(model, images, labels):
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
"""

DEBUG_CHANGES = (
    (
        "def __init__(self, in_channels, out_channels):\n        super().__init__()\n"
        "        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)",
        "expansion = 1\n\n    def __init__(self, in_channels, out_channels, stride=1, downsample=None):\n"
        "        super().__init__()\n        self.downsample = downsample\n"
        "        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)",
    ),
    (
        "self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)",
        "self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)",
    ),
    ("out = out + x", "out = out + (x if self.downsample is None else self.downsample(x))"),
    ("kernel_size=1, stride=stride)", "kernel_size=1, stride=stride, bias=False)"),
)


def solution(exercise, skeleton):
    """Return an exercise's reference solution; `skeleton` is its skeleton's text."""
    changes = {
        "resnet": lambda: skeleton[: skeleton.index("class ResNet")] + RESNET_CLASS,
        "train-digits": lambda: skeleton[: skeleton.index("def train_model")] + TRAIN,
        "debug-listing": lambda: changed(skeleton, *DEBUG_CHANGES),
        "residual-block": lambda: RESIDUAL_BLOCK,
        "projection": lambda: PROJECTION,
        "bottleneck": lambda: BOTTLENECK,
        "finetune": lambda: FINETUNE,
    }
    return changes[exercise]()


def changed(text, *changes):
    """Return the text with each first part replaced by its second; each must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


MISTAKES = (
    # exercise, fault expected, changes to the solution
    ("residual-block", "wrong-padding", [(", padding=1", "")]),
    ("residual-block", "relu-before-sum", [("torch.relu(out + x)", "torch.relu(out) + x")]),
    ("residual-block", "no-relu-after-sum", [("torch.relu(out + x)", "out + x")]),
    ("residual-block", "no-relu-inside", [("torch.relu(self.bn1(self.conv1(x)))", "self.bn1(self.conv1(x))")]),
    ("residual-block", "no-shortcut", [("out + x", "out")]),
    ("residual-block", "shortcut-from-inside", [("out = torch", "x = out = torch")]),
    ("residual-block", "relu-on-shortcut", [("out + x", "out + torch.relu(x)")]),
    ("residual-block", "conv-bias", [(", bias=False", "")]),
    ("residual-block", "shared-norm", [("self.bn2(", "self.bn1("), ("        self.bn2 = nn.BatchNorm2d(channels)\n", "")]),
    ("residual-block", "no-norm", [("nn.BatchNorm2d(channels)", "nn.Identity()")]),
    ("residual-block", "one-convolution", [("self.conv2(out)", "self.conv1(out)"), ("self.conv2 =", "conv2 =")]),
    ("residual-block", "input-changed", [("torch.relu(out + x)", "torch.relu(x.add_(out.detach()))"), ("= torch.relu(self", "= torch.relu(self")]),
    ("residual-block", "inplace-on-needed", [("out = self.bn2(self.conv2(out))", "out = self.bn2(self.conv2(out)).sigmoid()"), ("return torch.relu(out + x)", "out += x\n        return torch.relu(out)")]),
    ("residual-block", "no-super-init", [("super().__init__()", "pass")]),
    ("residual-block", "no-gradient", [("self.bn2 = ", "self.extra = nn.Linear(0, 0)\n        self.bn2 = "),]),
    ("residual-block", "missing-name", [("class ResidualBlock", "class Block")]),
    ("residual-block", "syntax", [("def forward(self, x):", "def forward(self, x)")]),
    ("residual-block", "not-a-module", [("(nn.Module)", ""), ]),
    ("residual-block", "raised", [("out + x", "out + y")]),
    ("residual-block", "differs", [("out + x", "out + 2 * x")]),
    ("residual-block", "layers-differ", [("        out = torch", "        self.conv1(x)\n        out = torch")]),
    ("residual-block", "parameters", [("3, padding=1", "5, padding=2")]),
    ("residual-block", "wrong-shape", [("return torch.relu(out + x)", "return torch.relu(out + x)[:1]")]),
    ("projection", "shortcut-not-projected", [("out + shortcut", "out + x")]),
    ("projection", "stride-not-in-shortcut", [("1, stride=stride, bias", "1, bias")]),
    ("projection", "always-projects", [("if stride != 1 or in_channels != out_channels:", "if True:")]),
    ("projection", "projection-without-norm", [("                nn.BatchNorm2d(out_channels),\n", "")]),
    ("projection", "projection-not-1x1", [("1, stride=stride, bias", "3, padding=1, stride=stride, bias")]),
    ("projection", "stride-twice", [("out_channels, out_channels, 3, padding=1", "out_channels, out_channels, 3, stride=stride, padding=1"), ("1, stride=stride, bias", "1, stride=stride**2, bias")]),
    ("projection", "stride-ignored", [("3, stride=stride", "3"), ("1, stride=stride, bias", "1, bias")]),
    ("projection", "signature", [("out_channels, stride=1)", "out_channels)"), ("super().__init__()", "super().__init__()\n        stride = 1")]),
    ("bottleneck", "no-expansion-added", [("out_channels = width * self.expansion", "out_channels = width"), ("        if stride != 1 or in_channels != out_channels:", "        if stride != 1:")]),
    ("bottleneck", "no-expansion", [("out_channels = width * self.expansion", "out_channels = width")]),
    ("bottleneck", "stride-in-first", [("width, 1, bias", "width, 1, stride=stride, bias"), ("3, stride=stride", "3")]),
    ("resnet", "layers-in-a-list", [("nn.Sequential(*blocks)", "[*blocks]"), ("x = self.blocks(self.stem(x))", "x = self.stem(x)\n        for block in self.blocks:\n            x = block.eval()(x)")]),
    ("resnet", "channels-not-carried", [("                in_channels = channels * block.expansion\n", "                in_channels = channels\n")]),
    ("resnet", "head-size", [("512 * block.expansion", "512")]),
    ("resnet", "no-global-pool", [("nn.AdaptiveAvgPool2d(1)", "nn.AvgPool2d(7)")]),
    ("resnet", "stage-size", [("            nn.MaxPool2d(3, stride=2, padding=1),\n", "")]),
    ("resnet", "depth-ignored", [("range(count)", "range(1)")]),
    ("resnet", "network-parameters", [("range(count)", "range(count + 1)")]),
    ("resnet", "network-bias", [("stride=stride, bias=False),\n                        nn", "stride=stride),\n                        nn")]),
    ("resnet", "softmax-in-network", [("return self.fc(torch.flatten(self.pool(x), 1))", "return self.fc(torch.flatten(self.pool(x), 1)).softmax(1)")]),
    ("train-digits", "no-zero-grad", [("range(6)", "range(1)"), ("            optimizer.zero_grad()\n", "")]),
    ("train-digits", "no-steps", [("range(6)", "range(1)"), ("            optimizer.step()\n", "")]),
    ("train-digits", "softmax-before-loss", [("range(6)", "range(1)"), ("model(images[batch])", "model(images[batch]).softmax(1)")]),
    ("train-digits", "forgotten-eval", [("range(6)", "range(1)"), ("    model.eval()\n", "")]),
    ("train-digits", "too-inaccurate", [("range(6)", "range(1)"), ("lr=0.001", "lr=1e-6")]),
    ("finetune", "head-not-replaced", [("    model.fc = nn.Linear(model.fc.in_features, num_classes)\n", "")]),
    ("finetune", "norms-drift", [("            layer.eval()\n", "            pass\n")]),
    ("finetune", "body-not-frozen", [("requires_grad_(False)", "requires_grad_(True)")]),
    ("finetune", "head-frozen", [("    return model\n", "    for parameter in model.parameters():\n        parameter.requires_grad_(False)\n    return model\n")]),
    ("finetune", "weights-not-loaded", [("    model.load_state_dict(torch.load(weights_path, weights_only=True))\n", "    weights = torch.load(weights_path, weights_only=True)\n    model.load_state_dict({'module.' + k: v for k, v in weights.items()}, strict=False)\n")]),
    ("finetune", "head-before-weights", [("model = resnet18()", "model = resnet18(num_classes=num_classes)")]),
    ("finetune", "unsafe-load", [("weights_only=True", "weights_only=False")]),
    ("finetune", "head-does-not-move", [("model.fc.parameters()", "nn.Linear(2, 2).parameters()")]),
    ("finetune", "body-moves", [("model.fc.parameters(), lr=0.1)", "model.fc.parameters(), lr=0.1)\n    model.conv1.weight.add_(1)")]),
    ("debug-listing", "block-takes-no-stride", DEBUG_CHANGES[1:]),
    ("debug-listing", "block-has-no-expansion", [*DEBUG_CHANGES[1:], (DEBUG_CHANGES[0][0], DEBUG_CHANGES[0][1].replace("expansion = 1\n\n    ", ""))]),
    ("debug-listing", "conv-bias", [DEBUG_CHANGES[0], (", bias=False)\n        self.bn1 = nn.BatchNorm2d(out_channels)", ")\n        self.bn1 = nn.BatchNorm2d(out_channels)"), *DEBUG_CHANGES[2:]]),
)  # fmt: skip
