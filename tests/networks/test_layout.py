"""Layouts, and batches taken in parts: the same numbers."""

from __future__ import annotations

import torch

import restune
from restune.networks import layout
from restune.networks.layout import in_parts, laid_out, weights_layout


def test_channels_last_where_there_is_such_an_order():
    for shape in ((2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6)):
        x = torch.randn(shape)
        assert torch.equal(laid_out(x), x)
        assert laid_out(x, channels_last=False).is_contiguous()
    assert laid_out(torch.randn(2, 3, 4, 5)).is_contiguous(memory_format=torch.channels_last)
    assert laid_out(torch.randn(2, 3, 4, 5, 6)).is_contiguous(memory_format=torch.channels_last_3d)
    assert [weights_layout(dims) for dims in (1, 2, 3)] == [
        torch.preserve_format, torch.channels_last, torch.channels_last_3d,
    ]  # fmt: skip


def test_long_series_in_parts_give_the_same_logits(monkeypatch):
    torch.manual_seed(0)
    network = restune.create_model("resnet1d18", in_channels=2, width=4, depths=(1, 1), num_classes=3).eval()
    lengths = [40, 7, 33, 12, 40]
    x = torch.randn(5, 2, 40)
    mask = torch.arange(40) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        whole = network(x, mask)
        for most in (40, 80, 100, 10**6):
            monkeypatch.setattr(layout, "_MOST_POSITIONS", most)
            parts = list(in_parts(x, mask))
            assert len(parts) == {40: 5, 80: 3, 100: 3, 10**6: 1}[most]
            assert torch.allclose(torch.cat([network(*part) for part in parts]), whole, atol=1e-5)
        monkeypatch.setattr(layout, "_MOST_POSITIONS", 40)
        assert [part.shape[-1] for part, _ in in_parts(x, mask)] == lengths
        assert len(list(in_parts(torch.randn(5, 3, 64, 64), None))) == 1, "images stay together"
