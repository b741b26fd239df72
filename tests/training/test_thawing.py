"""Phases of gradual unfreezing: where each begins, and whether the next one is worth it."""

from __future__ import annotations

import pytest

import restune
from restune.training.checkpoint import TrainState
from restune.training.recipe import Recipe
from restune.training.thawing import Phase, Phases, describe_unfreezing, enter_phase, is_worth_unfreezing, plan_phases


def test_phases_end_with_epochs_and_the_last_takes_the_rest():
    """By hand: of 12 epochs a quarter is for 3 stages, 1 each; all layers train in the other 9."""
    phases = Phases(plan_phases("auto", 4), 12)
    assert [phases.at(epoch / 12) for epoch in range(12)] == [0, 1, 2, *[3] * 9]
    assert [phases.span(index) for index in range(4)] == [(0, 1 / 12), (1 / 12, 2 / 12), (2 / 12, 3 / 12), (3 / 12, 1)]
    assert phases.at(1.0) == 3


def test_short_runs_give_each_phase_an_epoch_while_there_are_any():
    phases = Phases(plan_phases("auto", 4), 2)
    assert [phases.at(epoch / 2) for epoch in range(2)] == [0, 1]


def test_a_time_limit_ends_phases_at_their_share():
    phases = Phases(plan_phases("auto", 4), None)
    assert [phases.at(share) for share in (0.0, 0.08, 0.09, 0.16, 0.17, 0.24, 0.26, 0.99)] == [0, 0, 1, 1, 2, 2, 3, 3]


def ended(before, best, loss_before, loss, steps=6):
    return TrainState(
        tensors={}, step=steps, phase_score=before, best_score=best, phase_loss=loss_before, val_loss=loss
    )


JUDGED = {
    "a better score": (ended(0.5, 0.75, 1.0, 1.0), True, False),
    "a lower loss": (ended(0.5, 0.5, 1.0, 0.5), True, False),
    "neither": (ended(0.5, 0.5, 1.0, 1.5), False, False),
    "neither, with a time limit": (ended(0.5, 0.5, 1.0, 1.5), True, True),
}


@pytest.mark.parametrize("case", JUDGED)
def test_a_phase_without_improvement_is_the_last_unless_time_is_left(case, capsys):
    state, expected, has_time_limit = JUDGED[case]
    worth = is_worth_unfreezing(state, Phase(freeze=2), "val_accuracy", has_time_limit=has_time_limit)
    assert worth == expected
    message = capsys.readouterr().err
    assert message.startswith(f"head and stages above 2 trainable: best val_accuracy 0.5000 -> {state.best_score:.4f}")
    assert ("no more layers are unfrozen" in message) == (not expected)
    assert ("until the time limit" in message) == has_time_limit


@pytest.mark.parametrize("state", [ended(None, None, None, None), ended(0.5, 0.5, 1.0, 1.5, steps=0)])
def test_a_phase_without_scores_or_steps_is_not_judged(state, capsys):
    assert is_worth_unfreezing(state, Phase(freeze="all"), "val_accuracy", has_time_limit=False)
    assert capsys.readouterr().err == ""


def test_a_phase_is_judged_by_the_scores_at_its_beginning():
    """Not by those of the phase before: the validation loss fell there, and rises here."""
    state = TrainState(tensors={}, step=6, best_score=0.5, val_loss=1.0, phase_score=0.25, phase_loss=2.0, views=2)
    state.begin_phase(1)
    assert (state.phase, state.views) == (1, None)
    assert is_worth_unfreezing(state, Phase(freeze=2), "val_accuracy", has_time_limit=False), "no step yet"
    state.step, state.val_loss = 12, 1.5
    assert not is_worth_unfreezing(state, Phase(freeze=2), "val_accuracy", has_time_limit=False)


@pytest.mark.parametrize(
    ("freeze", "words"),
    [("none", "all layers trainable"), (2, "head and stages above 2 trainable"), ("all", "head trainable")],
)
def test_entering_a_phase_makes_its_layers_trainable_and_says_how_many_parameters(freeze, words):
    network = restune.create_model("resnet8", width=4, num_classes=3)
    optimizer = enter_phase(network, Phase(freeze=freeze, lr_scale=0.5), Recipe())
    layers = {"none": "conv1 bn1 layer1 layer2 layer3 fc", 2: "layer3 fc", "all": "fc"}[freeze].split()
    expected = {name for name, _ in network.named_parameters() if name.split(".")[0] in layers}
    assert set(optimizer.names.values()) == expected
    count = sum(parameter.numel() for name, parameter in network.named_parameters() if name in expected)
    assert describe_unfreezing(network, Phase(freeze=freeze)) == f"unfreezing: {words} ({count:,} parameters)"
    assert {group["peak"] for group in optimizer.groups} == {0.5 * Recipe().optimizer.lr}
