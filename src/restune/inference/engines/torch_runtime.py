"""The network in torch: a copy with its norms folded into the convolutions, in float32 or bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor

from restune.data.preprocess import Preprocess
from restune.inference.engines.runtime import Outputs
from restune.inference.forward import forward
from restune.networks.custom import Network
from restune.networks.fold import folded
from restune.networks.layout import weights_layout
from restune.networks.resnet import ResNet

_Stamp = list[tuple[Tensor, int]]


class TorchRuntime:
    """Computes with a copy of the network, made at the first call and again when the network's weights change.

    Modules of one's own, networks with hooks and networks in training mode compute themselves.

    Args:
        network: the model's; never changed.
        preprocess: of the model.
        device: of the network.
        precision: ``fp32``, or ``bf16``, in which everything up to the embeddings is computed.
    """

    name = "torch"

    def __init__(self, network: Network, preprocess: Preprocess, device: torch.device, precision: str = "fp32") -> None:
        self.network, self.preprocess, self.device, self.precision = network, preprocess, device, precision
        self._modules = list(network.modules())
        self._copy: tuple[_Stamp, ResNet] | None = None

    def __call__(self, samples: Tensor) -> Outputs:
        """Compute samples ``[N, *sample]``."""
        network = self.network
        if not isinstance(network, ResNet):
            with torch.inference_mode():
                return forward(network, self.preprocess, samples.to(self.device)).cpu(), None
        body = self._body(network)
        dtype = next((weight.dtype for weight in body.conv1.parameters()), torch.float32)

        def compute(x: Tensor, mask: Tensor | None) -> Tensor:
            embeddings = body.embed(x.to(dtype) if x.is_floating_point() else x, mask).float()
            return torch.cat([embeddings, network.forward_from(embeddings, "all")], dim=1)

        with torch.inference_mode():
            outputs = forward(compute, self.preprocess, samples.to(self.device)).cpu()
        width = network.spec.num_features
        return outputs[:, width:], outputs[:, :width]

    def _body(self, network: ResNet) -> ResNet:
        """Return the network that computes embeddings."""
        has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in self._modules)
        if network.training or has_hooks or (network.spec.dims == 1 and self.precision == "fp32"):
            return network  # norms of series are not folded
        stamp = self._stamp()
        if self._copy is None or not _same(self._copy[0], stamp):
            body = folded(network)
            if self.precision == "bf16":
                body.to(torch.bfloat16)
            self._copy = stamp, body.to(memory_format=weights_layout(network.spec.dims))
        return self._copy[1]

    def _stamp(self) -> _Stamp:
        """Return the network's tensors with the counts of their changes in place."""
        return [
            (value, 0 if value.is_inference() else value._version)
            for module in self._modules
            for value in (*module._parameters.values(), *module._buffers.values())
            if value is not None
        ]


def _same(before: _Stamp, after: _Stamp) -> bool:
    return len(before) == len(after) and all(
        one is other and version == other_version
        for (one, version), (other, other_version) in zip(before, after, strict=True)
    )
