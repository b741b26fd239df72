"""create_model: build a network of the zoo, with changes and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.networks import zoo
from restune.networks.resnet import ResNet
from restune.weights.load import loaded_network, read_weights, reject_other_structure


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    weights: str | Path | None = None,
    **spec_overrides: Any,
) -> ResNet:
    """Build a network of the zoo as a torch module.

    Args:
        name: see `list_models`.
        num_classes: None: that of the weights, else of the zoo entry. Another number gives a new head.
        in_channels: if it differs from the weights', the first convolution is folded or repeated; for a text network,
            the embedding's width.
        weights: any form that `restune.load` takes; a report of the loaded layers goes to standard error.
        **spec_overrides: fields of `ResNetSpec`, and the shorthands ``depths=(1, 1, 1, 1)``, ``width=32``,
            ``block`` (a name, or a class, see `register_block`), ``groups``, ``base_width`` for all stages.

    Shapes: the module maps ``[N, in_channels, H, W]`` (series ``[N, in_channels, L]``, clips ``[N, in_channels, T, H,
    W]``, texts as tokens ``[N, L]``) to logits ``[N, num_classes]``; ``forward_stages`` gives the named intermediates,
    ``embed`` the embeddings, ``reset_head(n)`` a new last layer. For series and texts, the second argument is the mask,
    bool ``[N, L]``, False for padding.

    Raises UserError for unknown names and settings, and for weights of another network.

    >>> import torch
    >>> network = restune.create_model("resnet20", num_classes=5)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    >>> restune.create_model("resnet18", depths=(1, 1, 1, 1), width=32, stem="small", attention="se").spec.stem
    'small'
    """
    spec = zoo.find(name).spec
    found = None if weights is None else read_weights(weights)
    if num_classes is None and found is not None:
        num_classes = found.num_classes
    changes = {"num_classes": num_classes, "in_channels": in_channels}
    if found is not None and found.vocabulary:
        spec_overrides.setdefault("vocabulary", found.vocabulary)
    spec = spec.override(**spec_overrides, **{k: v for k, v in changes.items() if v is not None})
    if found is None:
        return ResNet(spec)
    reject_other_structure(found, spec)
    network, report = loaded_network(spec, found)
    note(f"{name} with {found.source}: {report}")
    return network
