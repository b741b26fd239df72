"""The claims of gradient-flow, lesion, landscape and freeze, at small scale, and what they measure with."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import gmean
from torch import Tensor, nn

import restune
from restune.core.language import Text
from restune.lessons.catalogue import find_lesson
from restune.lessons.experiments import freeze, gradient_flow, landscape, lesion
from restune.lessons.experiments.gradient_flow import PLAIN, RESIDUAL, VANISHING, Variant, gradient_norms, ratio
from restune.lessons.lesson import Evidence, Settings
from restune.lessons.marked_drawing import Mark, marked_figure
from restune.lessons.measure import accuracy_of, embeddings_of, logits_of, loss_of
from restune.lessons.own_blocks import own_blocks
from restune.lessons.statistics import geometric_mean
from restune.lessons.surgery import named_blocks, neighbours, removed, swapped
from restune.networks.describe import describe_entry
from restune.networks.resnet import ResNet
from restune.networks.zoo import find
from restune.reporting.plots import panel_svg, positions
from restune.reporting.structure.figure import NARROW, WIDE

_location = Path(__file__).parents[1] / "reporting" / "geometry_faults.py"
_spec = importlib.util.spec_from_file_location("geometry_faults", _location)
assert _spec is not None
assert _spec.loader is not None
geometry = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(geometry)

NAMES = ("gradient-flow", "lesion", "landscape", "freeze")


def network_of(name: str, seed: int = 0, **changes: Any) -> ResNet:
    """Build a network with weights that follow from the seed."""
    torch.manual_seed(seed)
    return ResNet(find(name).spec.override(**changes))


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return noise images of 16 pixels and their targets."""
    torch.manual_seed(seed)
    return torch.randn(count, 3, 16, 16), torch.arange(count) % 10


def assert_drawable(evidence: Evidence) -> None:
    """Draw every panel in both languages; compare the figures of the conclusion in both."""
    for panel in evidence.panels:
        at = positions(panel)
        for language in ("en", "zh"):
            assert panel_svg(panel, language, at=at[-1] if at else None).startswith("<svg")
    for table in evidence.tables:
        assert table.rows
        assert all(len(row) == len(table.header) for row in table.rows)
        assert all(isinstance(cell, str | Text) for row in table.rows for cell in row)
    figures = [sorted(re.findall(r"\d[\d.e+-]*%?", sentence)) for sentence in evidence.conclusion]
    assert len(figures[0]) >= 4
    assert set(figures[0]) == set(figures[1])


@pytest.mark.parametrize("name", NAMES)
def test_lesson_is_complete_in_both_languages(name: str) -> None:
    found = find_lesson(name)
    assert found.name == name
    for field in ("question", "claim", "method", "popular", "next_steps"):
        english, chinese = getattr(found, field)
        assert not re.search(r"[\u4e00-\u9fff]", english), field
        assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) >= 0.15 * len(english), field
    assert all("arXiv:" in source for source in found.sources)
    assert found.takes_model == (name == "lesion")


def test_geometric_mean_equals_scipy() -> None:
    values = [1e-80, 3e-77, 2e-79]
    found = geometric_mean(values)
    assert found.value == pytest.approx(float(gmean(values)))
    assert 0 < found.low < found.value < found.high


# gradient-flow


@pytest.mark.parametrize("variant", [PLAIN, RESIDUAL, VANISHING], ids=lambda variant: variant.name)
def test_gradient_norms_equal_those_of_a_tensor_added_to_each_output(variant: Variant) -> None:
    network, (x, targets) = network_of("resnet8", width=8, residual=variant.residual), images(6)
    gradient_flow._edit(variant, network)
    before = deepcopy(network.state_dict())
    found = gradient_norms(network, x, targets)
    reference = deepcopy(network).double().train()
    added: list[Tensor] = []

    def add(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        added.append(torch.zeros_like(output, requires_grad=True))
        return output + added[-1]

    for name, module in reference.named_modules():
        if name.endswith(("bn1", "bn2")):  # an identity where there are no norms
            module.register_forward_hook(add)
    F.cross_entropy(reference(x.double()), targets).backward()
    assert found == pytest.approx([float(one.grad.norm()) for one in added])  # type: ignore[union-attr]
    assert len(found) == 7
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_gradient_norms_do_not_depend_on_a_scale_that_batch_norm_removes() -> None:
    network, (x, targets) = network_of("resnet8", width=8, residual=False), images(6)
    found = gradient_norms(network, x, targets)
    with torch.no_grad():
        network.conv1.weight *= 100
    assert gradient_norms(network, x, targets) == pytest.approx(found, rel=1e-3)


def test_gradients_vanish_without_norms_and_with_small_weights_only() -> None:
    found: dict[Variant, list[list[float]]] = {}
    for variant in (PLAIN, RESIDUAL, VANISHING):
        networks = [network_of("resnet56", seed, width=8, residual=variant.residual) for seed in range(3)]
        for network in networks:
            gradient_flow._edit(variant, network)
        found[variant] = [gradient_norms(network, *images(8, seed)) for seed, network in enumerate(networks)]
    for variant in (PLAIN, RESIDUAL):
        assert ratio(found[variant]).low > gradient_flow.HEALTHY
        assert all(norm > 1e-6 for norms in found[variant] for norm in norms)
    assert ratio(found[VANISHING]).high < 1e-30


def test_gradient_flow_gives_evidence() -> None:
    evidence = gradient_flow.experiment(
        Settings(seeds=(0,)), depths=(8, 20), trained_depths=(8,), limit=130, epochs=1, items=4
    )
    assert_drawable(evidence)
    assert len(evidence.facts["first_to_last_at_start"]) == 2 * len(gradient_flow.VARIANTS)
    assert evidence.facts["first_to_last_after_training"]["plain, batch norm, 8"] > gradient_flow.HEALTHY


# lesion


@torch.no_grad()
def test_removed_block_equals_the_network_without_it() -> None:
    network, (x, _) = network_of("resnet20", width=8).eval(), images(4)
    whole = network(x)
    blocks = named_blocks(network)
    assert list(blocks) == [f"layer{stage}.{index}" for stage in (1, 2, 3) for index in range(3)]
    without = deepcopy(network)
    del without.layer2[1]  # an identity: what is left of the block is its shortcut
    with removed(blocks["layer2.1"]):
        assert torch.equal(network(x), without(x))
    opening = deepcopy(network)
    nn.init.zeros_(opening.layer3[0].bn2.weight)
    nn.init.zeros_(opening.layer3[0].bn2.bias)  # a branch of zeros leaves the shortcut alone
    with removed(blocks["layer3.0"]):
        assert torch.allclose(network(x), opening(x), atol=1e-6)
    assert torch.equal(network(x), whole)


@torch.no_grad()
def test_removed_plain_block_becomes_the_identity_or_option_a() -> None:
    network, (x, _) = network_of("resnet8", width=8, residual=False).eval(), images(4)
    features = network.forward_stages(x)
    block = network.get_submodule("layer2.0")
    with removed(block):  # type: ignore[arg-type]
        found = network.forward_stages(x)["stage2"]
    expected = F.pad(features["stage1"][:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
    assert torch.equal(found, expected)
    with removed(network.get_submodule("layer1.0")):  # type: ignore[arg-type]
        assert torch.equal(network.forward_stages(x)["stage1"], features["stem"])


@torch.no_grad()
def test_swapped_blocks_equal_swapped_weights() -> None:
    network, (x, _) = network_of("resnet20", width=8).eval(), images(4)
    pairs = neighbours(network)
    assert ("layer1.0", "layer1.1") in pairs
    assert ("layer2.1", "layer2.2") in pairs
    assert not any("layer2.0" in pair for pair in pairs)  # it halves the resolution
    state = network.state_dict()
    exchanged = {"layer2.1": "layer2.2", "layer2.2": "layer2.1"}
    other = deepcopy(network)
    other.load_state_dict({name: state[".".join([exchanged.get(name[:8], name[:8]), name[9:]])]
                           if name[:8] in exchanged else value for name, value in state.items()})  # fmt: skip
    with swapped(network, "layer2.1", "layer2.2"):
        assert torch.equal(network(x), other(x))
    assert torch.equal(network(x), network_of("resnet20", width=8).eval()(x))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (1, 3, 65, 65)),
        ("preresnet18", (1, 3, 65, 65)),
        ("resnet50d", (1, 3, 65, 65)),
        ("resnet1d_ts", (2, 1, 33)),
        ("vdcnn9", (2, 60)),
        ("r2plus1d_18", (1, 3, 5, 33, 33)),
    ],
)
@pytest.mark.parametrize("residual", [True, False])
def test_every_block_of_every_kind_can_be_removed(name: str, shape: tuple[int, ...], residual: bool) -> None:
    network = network_of(name, residual=residual, **({} if name == "vdcnn9" else {"width": 8})).eval()
    torch.manual_seed(0)
    x = torch.randint(1, 200, shape) if name == "vdcnn9" else torch.randn(shape)
    whole = network(x)
    for block in named_blocks(network).values():
        with removed(block):
            assert bool(network(x).isfinite().all())
    for first, second in neighbours(network):
        with swapped(network, first, second):
            network(x)
    assert torch.equal(network(x), whole)


@pytest.mark.slow
def test_one_block_less_costs_a_residual_network_little_and_a_plain_one_almost_all() -> None:
    evidence = lesion.experiment(Settings(), depth=20)
    assert_drawable(evidence)
    assert evidence.holds
    assert min(evidence.facts["val_accuracy"].values()) > 0.8
    after_one, after_swap = evidence.facts["left_after_removing_one"], evidence.facts["left_after_swapping_two"]
    assert after_one["residual"] > 0.55
    assert after_swap["residual"] > 0.55
    assert after_one["plain"] < 0.15
    assert after_swap["plain"] < 0.15
    removed_last = {kind: list(found.values())[-1] for kind, found in evidence.facts["accuracy_after_removing"].items()}
    assert evidence.facts["val_accuracy"]["residual"] - removed_last["residual"] < 0.08  # a few points


@pytest.mark.slow
def test_lesions_of_a_short_training_already_differ() -> None:
    evidence = lesion.experiment(Settings(seeds=(0,)), depth=20, epochs=5)
    assert_drawable(evidence)
    left = evidence.facts["left_after_removing_one"]
    assert left["residual"] > 0.3
    assert left["residual"] > 2 * left["plain"]


def test_blocks_of_a_run_are_scored_on_its_validation_items(tmp_path: Path, write_noise: Callable[..., Path]) -> None:
    data = write_noise(tmp_path / "photos", dark=(0, 20), bright=(120, 20))
    out = tmp_path / "run"
    restune.train(data, out=out, model="resnet20", image_size=16, epochs=1, batch_size=8)
    evidence = own_blocks(out, data, "cpu")
    assert_drawable(evidence)
    assert evidence.facts["items"] == 8
    assert list(evidence.facts["lost_when_removed"]) == list(named_blocks(network_of("resnet20")))
    assert evidence.facts["accuracy"] == pytest.approx(restune.evaluate(out, data).accuracy)
    assert evidence.drawing is not None
    assert evidence.drawing.count("<svg") == 4
    for one in evidence.facts["lost_when_removed"].values():
        assert evidence.drawing.count(f">{-one[0]:+.1%}</text>") >= 4
    with pytest.raises(restune.UserError, match="classes"):
        own_blocks(out, write_noise(tmp_path / "other", red=(0, 9), blue=(99, 9)), "cpu")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "vdcnn9", "r2plus1d_18"])
@pytest.mark.parametrize("residual", [True, False])
def test_marks_fit_into_the_drawing(name: str, residual: bool) -> None:
    described = describe_entry(find(name), spec=find(name).spec.override(residual=residual))
    blocks = [block.name for part in described.parts for block in part.blocks]
    marks = {block: Mark("-100.0%", stands_out=number % 2 == 0) for number, block in enumerate(blocks)}
    for style in (WIDE, NARROW):
        for language in ("en", "zh"):
            drawing = marked_figure(name, described, marks, style, language)
            assert not geometry.faults(drawing)
            assert sum(label.text == "-100.0%" for label in drawing.labels) == len(blocks)
            outlined = sum(box.kind == "card differs" for box in drawing.boxes)
            assert outlined == sum(mark.stands_out for mark in marks.values())


# landscape


def test_directions_have_the_norms_of_the_filters_and_leave_norms_and_biases_alone() -> None:
    network = network_of("resnet8", width=8)
    direction = landscape.filter_normalised(network, 0, 1)
    assert set(direction) == {name for name, value in network.named_parameters() if value.ndim > 1}
    for name, drawn in direction.items():
        own = network.get_parameter(name).detach()
        for one, two in zip(drawn, own, strict=True):
            assert float(one.norm()) == pytest.approx(float(two.norm()), rel=1e-4)
    other = landscape.filter_normalised(network, 0, 2)
    assert not torch.equal(direction["fc.weight"], other["fc.weight"])


def test_surface_is_the_loss_at_moved_weights() -> None:
    network, (x, targets) = network_of("resnet8", width=8).eval(), images(16)
    before = deepcopy(network.state_dict())
    found = landscape.surface(network, x, targets, seed=3, points=5, reach=0.5)
    assert found.ends == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert found.centre == pytest.approx(loss_of(network, x, targets))
    one, two = (landscape.filter_normalised(network, 3, which) for which in (1, 2))
    moved = deepcopy(network)
    moved.load_state_dict(before | {name: before[name] + 0.25 * one[name] - 0.5 * two[name] for name in one})
    assert found.values[0][3] == pytest.approx(loss_of(moved, x, targets), rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_sharpness_is_the_mean_rise_at_a_distance() -> None:
    network, (x, targets) = network_of("resnet8", width=8).eval(), images(16)
    state = network.state_dict()
    rises = []
    for which in range(landscape.DIRECTIONS):
        direction = landscape.filter_normalised(network, 3, 100 + which)
        for way in (-landscape.NEAR, landscape.NEAR):
            moved = deepcopy(network)
            moved.load_state_dict(state | {name: state[name] + way * direction[name] for name in direction})
            rises.append(loss_of(moved, x, targets) - loss_of(network, x, targets))
    assert landscape.sharpness(network, x, targets, seed=3) == pytest.approx(sum(rises) / len(rises), abs=1e-5)
    assert abs(sum(rises) / len(rises)) > 1e-4


def test_landscape_gives_evidence_and_says_when_a_network_has_not_learned() -> None:
    evidence = landscape.experiment(Settings(seeds=(0,)), depths=(8,), width=4, epochs=1, limit=200, points=9, items=32)
    assert_drawable(evidence)
    assert not evidence.holds
    assert "not trained well enough" in evidence.conclusion.en


@pytest.mark.slow
def test_the_loss_rises_more_around_a_plain_network() -> None:
    evidence = landscape.experiment(Settings(), depths=(20,), points=3)
    assert_drawable(evidence)
    assert evidence.holds
    assert max(evidence.facts["train_loss"].values()) < 0.1  # both are well trained
    rises = evidence.facts["rise_nearby_by_seed"]
    assert min(rises["plain-20"]) > 1.3 * max(rises["residual-20"])


# freeze


def test_kept_statistics_leave_features_equal_and_moving_ones_do_not() -> None:
    evidence = freeze.experiment(Settings(), depth=8, width=8, epochs=3, epochs_after=3, limit=800, new_items=150)
    assert_drawable(evidence)
    assert evidence.facts["distance"]["kept"] == 0.0
    assert evidence.facts["distance"]["moving"] > 0.05
    assert evidence.facts["old_accuracy"]["kept"] == evidence.facts["old_accuracy"]["before"]
    assert evidence.holds


@pytest.mark.parametrize("way", freeze.WAYS, ids=lambda way: way.name)
def test_ways_to_freeze_change_only_what_they_say(way: freeze.Way) -> None:
    network, (x, targets) = network_of("resnet8", width=8), images(40)
    start = deepcopy(network)
    task = freeze.Task(x, targets % 5, x[:8], targets[:8] % 5)
    outcome = freeze.fine_tune(network, way, task, task, classes=5, epochs=1, seed=0)
    parameters = dict(start.named_parameters())
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, parameters[name])}
    buffers = dict(start.named_buffers())
    moved = any(not torch.equal(value, buffers[name]) for name, value in network.named_buffers())
    assert moved == (way.name != "kept")
    assert bool(changed) == (way.name == "norms")
    assert all(".bn" in f".{name}" for name in changed)
    assert (outcome.distance[-1] == 0.0) == (way.name == "kept")
    assert torch.equal(embeddings_of(network, x), embeddings_of(start.eval(), x)) == (way.name == "kept")


def test_measures_equal_a_hand_computation() -> None:
    network, (x, targets) = network_of("resnet8", width=8).eval(), images(300)
    logits = network(x).detach()
    assert torch.allclose(logits_of(network, x), logits, atol=1e-5)
    assert accuracy_of(network, x, targets) == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
