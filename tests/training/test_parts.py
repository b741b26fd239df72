"""The parts of training against torch's, scikit-learn's and hand computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

import restune
from restune.data.augment import RandomKey
from restune.training.ema import WeightAverage
from restune.training.freeze import apply_freeze, frozen_modules, stage_of
from restune.training.objective import Objective
from restune.training.optimizer import NamedOptimizer
from restune.training.recipe import OptimizerRecipe, Recipe, ScheduleRecipe
from restune.training.schedule import multiplier
from restune.training.thawing import plan_phases

CPU = torch.device("cpu")


def torchs_rates(make, steps=100):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(recipe, warmup=0.0, steps=100):
    return [multiplier(recipe, step / steps, warmup) for step in range(steps)]


def test_cosine_is_torchs():
    theirs = torchs_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100, eta_min=0.1))
    assert ours(ScheduleRecipe(name="cosine", final=0.1)) == pytest.approx(theirs, abs=1e-9)


def test_step_is_torchs():
    theirs = torchs_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [50, 75], gamma=0.1))
    assert ours(ScheduleRecipe(name="step")) == pytest.approx(theirs)


def test_one_cycle_is_torchs():
    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=101, pct_start=31 / 101, anneal_strategy="linear", div_factor=5,
            final_div_factor=1e9, cycle_momentum=False,
        )  # fmt: skip

    mine = ours(ScheduleRecipe(name="one-cycle", peak=0.3, start=0.2, final=0.0))
    assert mine == pytest.approx(torchs_rates(make), abs=1e-6)


def test_warm_up_rises_in_a_line_and_the_curve_takes_the_rest():
    recipe = ScheduleRecipe(name="cosine", start=0.0)
    assert multiplier(recipe, 0.05, 0.1) == pytest.approx(0.5)
    assert multiplier(recipe, 0.1, 0.1) == pytest.approx(1.0)
    assert multiplier(recipe, 0.55, 0.1) == pytest.approx(0.5)
    for name in ("cosine", "one-cycle"):
        assert multiplier(ScheduleRecipe(name=name), 1.0, 0.1) == pytest.approx(0.0, abs=1e-12)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return restune.create_model("resnet8", width=4, num_classes=3)


def a_step(network, step):
    torch.manual_seed(step)
    network(torch.randn(4, 3, 8, 8)).square().mean().backward()


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam"])
def test_steps_are_torchs_and_norms_are_not_decayed(network, name):
    other = restune.create_model("resnet8", width=4, num_classes=3)
    other.load_state_dict(network.state_dict())
    recipe = OptimizerRecipe(name=name, lr=0.01, weight_decay=0.1)
    apply_freeze(network, "none")
    mine = NamedOptimizer(network, recipe)
    decayed = [p for p in other.parameters() if p.ndim > 1]
    plain = [p for p in other.parameters() if p.ndim <= 1]
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in other.modules())
    assert len(plain) == 2 * norms + 1  # and the head's bias
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    if name == "sgd":
        theirs = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True)
    else:
        make = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
        theirs = make(groups, lr=0.01, betas=(0.9, 0.999))
    other.train()
    for step in range(3):
        a_step(network, step)
        mine.step(1.0)
        a_step(other, step)
        theirs.step()
        theirs.zero_grad()
    for (key, a), b in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), key


def test_rates_fall_toward_the_stem(network):
    apply_freeze(network, "none")
    optimizer = NamedOptimizer(network, OptimizerRecipe(lr=1.0, layer_decay=0.5))
    peaks = {}
    for group in optimizer.groups:
        for parameter in group["params"]:
            peaks[stage_of(optimizer.names[parameter], 3)] = group["peak"]
    assert peaks == {4: 1.0, 3: 0.5, 2: 0.25, 1: 0.125, 0: 0.0625}


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam"])
def test_state_by_name_is_the_identity(network, name):
    apply_freeze(network, "none")
    recipe = OptimizerRecipe(name=name, lr=0.01)
    first = NamedOptimizer(network, recipe)
    a_step(network, 0)
    first.step(1.0)
    second = NamedOptimizer(network, recipe)
    second.load_state(first.state())
    assert first.state().keys() == second.state().keys()
    assert all(torch.equal(value, second.state()[key]) for key, value in first.state().items())


def test_gradients_are_clipped(network):
    apply_freeze(network, "none")
    optimizer = NamedOptimizer(network, OptimizerRecipe(lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.01))
    before = [p.detach().clone() for p in network.parameters()]
    a_step(network, 0)
    optimizer.step(1.0)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, network.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_ema_is_torchs(network):
    decay = 0.05  # below the early ramp from the first step on
    mine = WeightAverage(network, decay)
    theirs = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=True
    )
    theirs.update_parameters(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for step in range(1, 5):
        a_step(network, step)
        optimizer.step()
        mine.update(network, step, "none")
        theirs.update_parameters(network)
    for key, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(mine.average[key], value, atol=1e-6), key


@pytest.mark.parametrize("freeze", ["all", 0, 1, 2, 3])
def test_frozen_layers_stay_bit_identical(freeze):
    """Weights and statistics, with weight decay, momentum and EMA on, and drop path in the network."""
    torch.manual_seed(0)
    network = restune.create_model("resnet8", width=4, num_classes=3, drop_path=0.5)
    apply_freeze(network, freeze)
    frozen = {id(t) for module in frozen_modules(network, freeze) for t in (*module.parameters(), *module.buffers())}
    names = [name for name, t in (*network.named_parameters(), *network.named_buffers()) if id(t) in frozen]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = NamedOptimizer(network, OptimizerRecipe(lr=0.1, weight_decay=0.5))
    ema = WeightAverage(network, 0.9)
    for step in range(1, 4):
        apply_freeze(network, freeze)
        a_step(network, step)
        optimizer.step(1.0)
        ema.update(network, step, freeze)
    assert names
    for name in names:
        assert torch.equal(network.state_dict()[name], before[name]), name
        assert torch.equal(ema.average[name], before[name]), name
    moving = [name for name in before if name not in names and before[name].is_floating_point()]
    assert "fc.weight" in moving
    assert all(not torch.equal(network.state_dict()[name], before[name]) for name in moving)


def test_phases():
    assert [phase.freeze for phase in plan_phases("auto", 4)] == [3, 2, 1, "none"]
    assert [phase.freeze for phase in plan_phases("auto", 3, head_is_fitted=False)] == ["all", 2, 1, "none"]
    assert sum(phase.share for phase in plan_phases("auto", 4)) == pytest.approx(1)
    with pytest.raises(restune.UserError, match="stages 1 to 3"):
        plan_phases(4, 3)


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat([0, 1, 2], [5, 3, 12])
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    mine = Objective(Recipe(class_weights="balanced"), [5, 3, 12], CPU).weights
    assert mine.tolist() == pytest.approx(theirs.tolist())


def test_losses_by_hand():
    logits, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    smooth = Objective(Recipe(label_smoothing=0.2), [1] * 4, CPU).loss(logits, targets)
    shares = F.one_hot(targets, 4) * 0.8 + 0.05
    assert smooth.item() == pytest.approx(-(shares * logits.log_softmax(1)).sum(1).mean().item(), rel=1e-5)
    binary = Objective(Recipe(loss="binary-cross-entropy"), [1] * 4, CPU).loss(logits, targets)
    one_hot = F.one_hot(targets, 4)
    by_hand = -(one_hot * logits.sigmoid().log() + (1 - one_hot) * (1 - logits.sigmoid()).log()).mean()
    assert binary.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_mixing_reaches_the_loss():
    place = RandomKey(seed=0, epoch=0, positions=(0, 1, 2), step=0)
    objective = Objective(Recipe(mixup=1.0), [1, 1, 1], CPU)
    images, shares = objective.prepare(torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2]), place)
    assert shares.shape == (3, 3)
    assert torch.isfinite(objective.loss(torch.randn(3, 3), shares))
    assert images.shape == (3, 3, 8, 8)
