"""A small data set and a run on it, for the tests of runs."""

from __future__ import annotations

import pytest

import restune
from restune.training.loop import Trainer

SMALL = {"model": "resnet8", "image_size": 16, "batch_size": 8, "threads": 1, "precision": "fp32"}
SETTINGS = {
    "spec.width": 4,
    "spec.depths": [1, 1],
    "augment.policy": "none",
    "optimizer.lr": 0.05,
    "schedule.warmup_epochs": 0,
}


class PowerCutError(Exception):
    """As by a power cut."""


@pytest.fixture
def noise(tmp_path, write_noise):
    """Two classes of twenty images."""
    return write_noise(tmp_path / "noise", bright=(120, 20), dark=(0, 20))


@pytest.fixture
def begin(noise, tmp_path):
    """Train on them, into the folder ``run`` unless another is named."""

    def call(data=noise, *, out="run", **more):
        settings = {**SETTINGS, **more.pop("set", {})}
        return restune.train(data, out=tmp_path / out, set=settings, **{**SMALL, **more})

    return call


@pytest.fixture
def cut(monkeypatch, begin):
    """Begin a run that ends by an exception before this step, counted from 0."""

    def call(step, **more):
        original = Trainer._step

        def stop(self, *arguments, **named):
            if self.state.step == step:
                if self.state.step:
                    self._write_checkpoint(now=True)
                raise PowerCutError
            return original(self, *arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", stop)
            with pytest.raises(PowerCutError):
                begin(**more)

    return call
