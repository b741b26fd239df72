"""Maps from the activations of a stage: class activation maps and Grad-CAM, without hooks."""

from __future__ import annotations

import torch
from torch import Tensor

from restune.networks.resnet import ResNet


def class_activation(network: ResNet, activations: Tensor, mask: Tensor | None, classes: Tensor) -> Tensor:
    """Return class activation maps ``[N, *positions]`` at the last stage.

    With average pooling and a linear head the map is the head applied at each position, a 1x1 convolution (Zhou et al.
    2016), and its mean over an item's positions plus the head's bias is the logit, exactly. Otherwise it is gradient
    times activation, summed over channels and multiplied by the number of positions. For max and k-max pooling this
    places each channel's contribution where its largest values are (equal ones share it), so that mean plus bias is
    the logit here, too. Through hidden layers it is a first-order approximation.

    Args:
        activations: `ResNet.activated`'s output ``[N, C, *positions]``.
        mask: of the positions, bool ``[N, L]``; the map is 0 at padding.
        classes: the explained class of each item, int64 ``[N]``.
    """
    if network.spec.pool == "average" and not network.spec.hidden:
        maps = torch.einsum("nc...,nc->n...", activations, network.fc.weight[classes].to(activations.dtype))
        return maps if mask is None else maps.masked_fill(~mask, 0.0)
    with torch.inference_mode(False), torch.enable_grad():
        leaf, known = _leaf(activations), None if mask is None else mask.clone()
        logits = network.fc(network.pool_activated(leaf, known))
        maps = (_gradient(logits, classes, leaf) * leaf.detach()).sum(dim=1)
        return maps * _positions(maps, known)


def grad_cam(network: ResNet, x: Tensor, mask: Tensor | None, classes: Tensor, stage: int) -> Tensor:
    """Return Grad-CAM maps ``[N, *positions]`` at a stage (0: the stem).

    Channels are weighted by the mean of their gradients over the positions; the map is signed, not rectified (Selvaraju
    et al. 2017 rectify it). At the last stage of a network with average pooling and a linear head it is the class
    activation map divided by the number of positions.

    Args:
        classes: the explained class of each item, int64 ``[N]``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, mask = x.clone(), None if mask is None else mask.clone()
        leaf = _leaf(network.forward_until(x, stage, mask))
        logits = network.forward_from(leaf, stage, mask)
        here = network.mask_at(mask, stage)
        gradient = _gradient(logits, classes, leaf)
        weights = gradient.flatten(2).sum(dim=2) / _positions(gradient[:, 0], here).flatten()[:, None]
        maps = torch.einsum("nc...,nc->n...", leaf.detach(), weights)
        return maps if here is None else maps.masked_fill(~here, 0.0)


def _leaf(activations: Tensor) -> Tensor:
    """Return a copy that gradients are taken of; tensors of inference mode cannot be used."""
    return activations.detach().clone().requires_grad_()


def _gradient(logits: Tensor, classes: Tensor, leaf: Tensor) -> Tensor:
    chosen = logits.gather(1, classes.clone().view(-1, 1))
    return torch.autograd.grad(chosen.sum(), leaf)[0]


def _positions(maps: Tensor, mask: Tensor | None) -> Tensor:
    """Return each item's number of real positions ``[N, 1, ...]``."""
    ones = [1] * (maps.ndim - 1)
    if mask is None:
        return torch.full((len(maps), *ones), float(maps[0].numel()), device=maps.device)
    return mask.sum(dim=1).clamp(min=1).view(-1, *ones).to(maps.dtype)
