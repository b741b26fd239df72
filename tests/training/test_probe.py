"""The solved head against scikit-learn, torch's own loss, and its promises on disk and with weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from restune.training.logistic import (
    Problem,
    Solver,
    choose_by_folds,
    choose_on_validation,
    mean_loss,
    principal_axes,
    solve,
    strongest_of_the_best,
)


def features(count, width, classes, seed=0):
    """Overlapping clouds of positive numbers on very different scales, as pooled activations are."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % classes
    centers = torch.rand(classes, width, generator=generator)
    rows = (centers[targets] + torch.randn(count, width, generator=generator)).relu()
    return rows * torch.logspace(-1, 1, width), targets


class OnDisk:
    """Rows that are no tensor, so that they are read in parts."""

    def __init__(self, rows):
        self.rows, self.shape, self.reads = rows, tuple(rows.shape), 0

    def __getitem__(self, part):
        self.reads += 1
        return self.rows[part].clone()


def scikit(rows, targets, l2, weights=None):
    mass = torch.ones(len(targets)) if weights is None else weights[targets]
    model = LogisticRegression(C=1 / (l2 * float(mass.sum())), tol=1e-10, max_iter=20_000)
    model.fit(rows.double().numpy(), targets.numpy(), sample_weight=mass.numpy())
    return torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()


def objective(rows, targets, weight, bias, l2, weights=None, smoothing=0.0):
    loss = F.cross_entropy(rows @ weight.T + bias, targets, weight=weights, label_smoothing=smoothing)
    return float(loss + l2 / 2 * weight.square().sum())


@pytest.mark.parametrize(("count", "width"), [(600, 20), (60, 200)])
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_optimum_is_scikit_learns(count, width, l2, balanced):
    rows, targets = features(count, width, 4)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0]) if balanced else None
    head = solve(Problem(rows=rows, targets=targets, classes=4, class_weights=weights), l2)
    ours = objective(rows, targets, head.weight, head.bias, l2, weights)
    theirs = objective(rows, targets, *scikit(rows, targets, l2, weights), l2, weights)
    assert ours == pytest.approx(head.loss, rel=1e-4, abs=1e-6)  # `objective` is in float32
    assert ours <= theirs + 1e-4
    assert abs(ours - theirs) < 1e-3


def test_smoothing_and_weights_are_torchs():
    rows, targets = features(300, 12, 3)
    weights = torch.tensor([1.0, 3.0, 0.2])
    problem = Problem(rows=rows, targets=targets, classes=3, class_weights=weights, smoothing=0.2)
    head = solve(problem, 1e-2)
    weight, bias = head.weight.clone().requires_grad_(), head.bias.clone().requires_grad_()
    loss = F.cross_entropy(rows @ weight.T + bias, targets, weight=weights, label_smoothing=0.2)
    (loss + 1e-2 / 2 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 2e-4
    assert bias.grad.abs().max() < 2e-4


def test_rows_from_disk_give_the_same_head(monkeypatch):
    rows, targets = features(500, 16, 3)
    whole = solve(Problem(rows=rows, targets=targets, classes=3), 1e-3)
    monkeypatch.setattr("restune.training.logistic.CHUNK_BYTES", 16 * 4 * 64)
    stored = OnDisk(rows)
    parts = solve(Problem(rows=stored, targets=targets, classes=3), 1e-3)
    assert stored.reads > 8
    assert parts.loss == pytest.approx(whole.loss, abs=1e-5)
    assert torch.allclose(parts.weight, whole.weight, atol=2e-3)


def test_a_path_ends_where_single_solves_do_and_is_shorter():
    rows, targets = features(400, 30, 4)
    problem = Problem(rows=rows, targets=targets, classes=4)
    grid = [10.0**power for power in range(1, -6, -1)]
    solver = Solver(problem)
    path = list(solver.path(grid))
    alone = [solver.solve(l2) for l2 in grid]
    assert [head.loss for head in path] == pytest.approx([head.loss for head in alone], abs=1e-5)
    assert sum(head.iterations for head in path) < sum(head.iterations for head in alone)


def test_strength_is_chosen_by_what_was_not_fitted():
    rows, targets = features(300, 100, 3)
    held, held_targets = features(300, 100, 3)[0] * 1.0, targets
    problem = Problem(rows=rows[::2], targets=targets[::2], classes=3)
    choice = choose_on_validation(problem, held[1::2], held_targets[1::2])
    losses = [loss for _, loss in choice.tried]
    assert choice.how == "validation"
    assert mean_loss(choice.head, held[1::2], held_targets[1::2]) <= 1.01 * min(losses) + 0.001
    assert choice.head.l2 == choice.tried[strongest_of_the_best(losses)][0]
    folds = choose_by_folds(problem, np.arange(150), seed=0)
    assert folds.how == "5-fold cross-validation"
    assert len(folds.tried) > 10


def test_views_of_an_item_stay_on_one_side_of_a_fold():
    """Copies of an item in training and validation would make the weakest strength look best."""
    generator = torch.Generator().manual_seed(0)
    rows, targets = torch.randn(60, 200, generator=generator), torch.arange(60) % 2  # nothing to learn
    problem = Problem(rows=torch.cat([rows, rows]), targets=torch.cat([targets, targets]), classes=2)
    together = choose_by_folds(problem, np.tile(np.arange(60), 2), seed=0)
    apart = choose_by_folds(problem, np.arange(120), seed=0)
    assert min(loss for _, loss in together.tried) > 0.6
    assert min(loss for _, loss in apart.tried) < 0.3


def test_axes_are_the_covariances():
    rows, _ = features(200, 10, 2)
    axes = principal_axes(rows)
    expected = np.linalg.eigvalsh(np.cov(rows.double().numpy(), rowvar=False, bias=True))
    assert np.allclose(axes.variances.numpy(), expected, rtol=1e-4, atol=1e-6)
    few = principal_axes(rows[:6])
    assert few.axes.shape == (10, 5)  # six points span five directions about their centre
    assert torch.allclose(few.axes.T @ few.axes, torch.eye(5), atol=1e-4)


def test_a_varied_solver_solves_what_a_new_one_does():
    rows, targets = features(300, 12, 3)
    weights = torch.tensor([1.0, 2.0, 0.5])
    first = Solver(Problem(rows=rows, targets=targets, classes=3))
    varied = first.varied(class_weights=weights, smoothing=0.1).solve(0.01)
    new = solve(Problem(rows=rows, targets=targets, classes=3, class_weights=weights, smoothing=0.1), 0.01)
    assert torch.allclose(varied.weight, new.weight, atol=1e-5)
    assert varied.loss == pytest.approx(new.loss, abs=1e-7)
    assert first.problem.class_weights is None
