"""Too little memory for a batch: halves of it, one warning, the same results."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import restune
from restune.core import machine
from restune.data.dataset import DataOptions
from restune.inference import forward
from restune.inference.forward import FittingParts, is_out_of_memory, threads_within_quota
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
    RuntimeError("could not create a primitive"),  # oneDNN
    MemoryError(),
)
OTHER = (
    RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    ValueError("can't allocate memory"),
)


@pytest.fixture
def model(randomize):
    network = randomize(restune.create_model("resnet8", num_classes=2))
    info = BundleInfo(spec=network.spec, classes=("blue", "red"), preprocess=restune.ImagePreprocess(crop=32))
    return Model(module=network, info=info, source="test")


def limit(monkeypatch, most, error):
    """Let a network's forward pass compute at most so many items; returns the sizes that it was asked for."""
    original, sizes = restune.ResNet.embed, []

    def computed(self, x, *arguments):
        sizes.append(len(x))
        if len(x) > most:
            raise error
        return original(self, x, *arguments)

    monkeypatch.setattr(restune.ResNet, "embed", computed)
    return sizes


def test_which_errors_are_a_lack_of_memory():
    assert all(map(is_out_of_memory, NO_MEMORY))
    assert not any(map(is_out_of_memory, OTHER))


@pytest.mark.parametrize("error", NO_MEMORY)
def test_evaluate_and_predict_halve_the_batch_and_go_on(model, photos, monkeypatch, capsys, error):
    whole, scores = restune.predict(model, photos), restune.evaluate(model, photos)
    capsys.readouterr()
    sizes = limit(monkeypatch, 2, error)
    parts = restune.predict(model, photos, batch_size=5)
    assert sizes == [5, 3, 2, 2, 1, 1], "5 items: neither 5 nor 3 fit; later batches begin with what fits"
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert "a batch of 5 does not fit in memory: computing 2 at a time" in said
    for one, other in zip(whole, parts, strict=True):
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
    again = restune.evaluate(model, photos)
    assert np.allclose(scores.logits, again.logits, atol=1e-5)
    assert capsys.readouterr().err.count("does not fit in memory") == 1


def test_views_of_one_item_are_parted_too(model, photos, monkeypatch):
    whole = restune.predict(model, photos, views="five-crop")
    limit(monkeypatch, 1, NO_MEMORY[0])
    parts = restune.predict(model, photos, views="five-crop")
    for one, other in zip(whole, parts, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_embeddings_are_parted_too(model, photos, monkeypatch):
    whole = restune.embed(model, photos).features
    original, network = restune.ResNet.forward_until, restune.ResNet

    def small(self, x, *arguments):
        if len(x) > 2:
            raise RuntimeError("could not create a primitive")
        return original(self, x, *arguments)

    monkeypatch.setattr(network, "forward_until", small)
    monkeypatch.setenv("RESTUNE_CACHE", str(photos.parent / "another cache"))
    assert np.allclose(restune.embed(model, photos).features, whole, atol=1e-5)


def test_one_item_that_does_not_fit_is_an_error_and_so_is_anything_else(model, photos, monkeypatch):
    limit(monkeypatch, 0, NO_MEMORY[3])
    with pytest.raises(restune.UserError, match="not enough memory for a single item: could not create a primitive"):
        restune.predict(model, photos)
    limit(monkeypatch, 0, OTHER[1])
    with pytest.raises(RuntimeError, match="must match the size"):
        restune.predict(model, photos)


def test_outputs_keep_their_order():
    asked = []

    def compute(samples):
        asked.append(len(samples))
        if len(samples) > 3:
            raise MemoryError
        return samples * 2

    parts = FittingParts(compute)
    assert torch.equal(parts(torch.arange(7)), 2 * torch.arange(7))
    assert asked == [7, 4, 2, 2, 2, 1]
    assert torch.equal(parts(torch.arange(2)), 2 * torch.arange(2))


def test_torch_keeps_to_the_quota_while_it_predicts(model, photos, monkeypatch):
    threads = torch.get_num_threads()
    seen = []
    original = restune.ResNet.embed
    monkeypatch.setattr(
        restune.ResNet, "embed", lambda self, *a: (seen.append(torch.get_num_threads()), original(self, *a))[1]
    )
    torch.set_num_threads(4)  # as on a machine of four cores
    try:
        monkeypatch.setattr(forward, "cpu_count", lambda: 2)
        restune.predict(model, photos, data_options=DataOptions())
        assert seen == [2]
        assert torch.get_num_threads() == 4
        monkeypatch.setattr(forward, "cpu_count", lambda: 8)
        with threads_within_quota():
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)
    assert machine.cpu_count() >= 1
