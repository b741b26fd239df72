"""Score networks on batches in memory, as the lessons' experiments do after training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from restune.networks.layout import laid_out
from restune.networks.resnet import ResNet

_BATCH = 256


def device_of(network: ResNet) -> torch.device:
    """Return the device of a network's parameters."""
    return network.fc.weight.device


@torch.no_grad()
def logits_of(network: ResNet, x: Tensor) -> Tensor:
    """Return the logits ``[N, num_classes]`` in the network's current mode, on the CPU."""
    device = device_of(network)
    return torch.cat([network(laid_out(part.to(device))).float().cpu() for part in torch.split(x, _BATCH)])


@torch.no_grad()
def embeddings_of(network: ResNet, x: Tensor) -> Tensor:
    """Return the embeddings ``[N, num_features]`` in the network's current mode, on the CPU."""
    device = device_of(network)
    return torch.cat([network.embed(laid_out(part.to(device))).float().cpu() for part in torch.split(x, _BATCH)])


def accuracy_of(network: ResNet, x: Tensor, targets: Tensor) -> float:
    """Return the share of items whose largest logit is that of their target."""
    return float((logits_of(network, x).argmax(dim=1) == targets).float().mean())


def loss_of(network: ResNet, x: Tensor, targets: Tensor) -> float:
    """Return the mean cross-entropy."""
    return float(F.cross_entropy(logits_of(network, x), targets))
