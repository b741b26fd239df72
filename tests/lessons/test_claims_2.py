"""What the lessons claim holds at small scale, over three seeds, with margins."""

from __future__ import annotations

import pytest

from restune.lessons.experiments import degradation, shortcut, transfer
from restune.lessons.laboratory import STEADY, Laboratory
from restune.lessons.lesson import Settings
from restune.lessons.statistics import mean


@pytest.mark.slow
def test_frozen_beats_from_scratch_with_few_items():
    """Pretrained on the digits 0 to 6, a frozen network is ahead on two images each of 7 to 9."""
    evidence = transfer.experiment(Settings(effort=0.5), per_class=(2,))
    scores = evidence.facts["val_accuracy"]
    assert evidence.facts["items"] == [6]
    assert scores["frozen"][0] > scores["scratch"][0] + 0.05


def _losses(plans):
    laboratory = Laboratory("digits", epochs=8, changes=STEADY, limit=1000)
    trained = laboratory.train_all(plans, (0, 1, 2), "test")
    return [mean([run.train_loss for run in trained if run.plan.label == plan.label]) for plan in plans]


@pytest.mark.slow
def test_degradation():
    """At depth 56 the plain network's training loss is above the residual one's, and above a plain one of depth 8."""
    plain, residual, shallow = _losses(
        [degradation.plan("plain", 56), degradation.plan("residual", 56), degradation.plan("plain", 8)]
    )
    assert plain.low > residual.high + 0.1
    assert plain.low > shallow.high


@pytest.mark.slow
def test_a_halved_shortcut_trains_worse():
    identity, halved = _losses([shortcut.VARIANTS[key].plan(key, 56) for key in ("A", "half-shortcut")])
    assert halved.low > identity.high
