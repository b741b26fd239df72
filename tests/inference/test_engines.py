"""Engines give the answers that torch gives, for every kind of data and task; and the choice between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import restune
from restune.core.errors import UserError
from restune.data.preprocess import ImagePreprocess, Preprocess
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.data.targets import TargetScale
from restune.evaluation.calibration import fit_calibration
from restune.exporting.engines import graph_key, remove_old, settled, with_engine
from restune.inference.engines.agreement import ReducedPrecision
from restune.inference.engines.choice import BUILD_SECONDS, WORTH, Candidate, ChosenRuntime, ModelFacts
from restune.inference.model import Model
from restune.networks.custom import CustomNetwork, CustomSpec
from restune.networks.resnet import ResNet
from restune.weights.bundle import BundleInfo
from restune.weights.novelty import Novelty

ENGINES = ("onnx", "openvino")
TINY: dict[str, Any] = {"depths": (1, 1, 1), "width": 8, "num_classes": 5}
KINDS: dict[str, tuple[str, dict[str, Any], Preprocess]] = {
    "images": ("resnet8", TINY, ImagePreprocess(crop=24)),
    "grey images": ("resnet8", {**TINY, "in_channels": 1}, ImagePreprocess(crop=24, mean=(0.1,), std=(0.3,))),
    "series": (
        "resnet1d_ts",
        {"in_channels": 2, "width": 8, "num_classes": 5},
        SignalPreprocess(channels=2, normalization="channel", mean=(1, 2), std=(1, 2)),
    ),
    "texts": ("textresnet", {"num_classes": 5}, TextPreprocess(tokens="bytes", length=60)),
    "clips": ("r3d_18", {"depths": (1, 1, 1, 1), "width": 8, "num_classes": 5}, VideoPreprocess(crop=24, frames=3)),
}


@pytest.fixture(autouse=True)
def graphs(_own_cache: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that the tests of this file share, without what another test measured."""
    folder = tmp_path_factory.getbasetemp() / "graphs"
    monkeypatch.setenv("RESTUNE_CACHE", str(folder))
    (folder / "engines.json").unlink(missing_ok=True)
    return folder


def made(name: str, changes: dict[str, Any], preprocess: Preprocess, randomize: Callable[..., nn.Module]) -> Model:
    if isinstance(preprocess, TextPreprocess):
        changes = {**changes, "vocabulary": preprocess.vocabulary_size}
    torch.manual_seed(0)  # equal networks share one graph
    network = randomize(restune.create_model(name, **changes))
    assert isinstance(network, ResNet)
    network.requires_grad_(False)
    classes = tuple(f"class {number}" for number in range(network.spec.num_classes))
    return Model(
        module=network, info=BundleInfo(spec=network.spec, classes=classes, preprocess=preprocess), source=name
    )


def samples_of(preprocess: Preprocess, count: int) -> torch.Tensor:
    """Samples as the decoders make them: of two lengths, padded, where items may differ in length."""
    generator = torch.Generator().manual_seed(count)
    if isinstance(preprocess, ImagePreprocess):
        return torch.randint(0, 256, (count, preprocess.channels, 24, 24), generator=generator, dtype=torch.uint8)
    if isinstance(preprocess, VideoPreprocess):
        return torch.randint(0, 256, (count, 3, 3, 24, 24), generator=generator, dtype=torch.uint8)
    if isinstance(preprocess, SignalPreprocess):
        series = [torch.randn(2, 60 - 17 * (place == 1), generator=generator).numpy() for place in range(count)]
        return preprocess.stack([preprocess.apply(one) for one in series])
    texts = ["a few words and " * (1 + (place != 1)) + str(place) for place in range(count)]
    return preprocess.stack([preprocess.apply(text) for text in texts])


@pytest.mark.parametrize(
    "kind", [kind if kind in ("images", "series") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_engines_compute_what_the_network_computes(kind: str, randomize: Callable[..., nn.Module]) -> None:
    model = made(*KINDS[kind], randomize)
    for count in (1, 5):
        samples = samples_of(model.preprocess, count)
        x, mask = model.preprocess.inputs(samples)
        with torch.inference_mode():
            network = model.module
            assert isinstance(network, ResNet)
            embeddings = network.embed(x, mask)
            logits = network.fc(embeddings)
        for engine in ("torch", *ENGINES):
            computed, embedded = with_engine(model, engine).logits_and_embeddings(samples[:, None])
            assert embedded is not None
            atol = 1e-4 * max(1.0, float(logits.abs().max()))
            np.testing.assert_allclose(computed[:, 0], logits, atol=atol, err_msg=engine)
            np.testing.assert_allclose(embedded[:, 0], embeddings, atol=atol, err_msg=engine)


def test_a_model_without_a_graph_and_an_engine_that_is_missing_are_refused(
    randomize: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = made("vdcnn9", {"num_classes": 3}, TextPreprocess(tokens="bytes", length=60), randomize)
    with pytest.raises(UserError, match="k-max pooling"):
        with_engine(texts, "openvino")
    model = made(*KINDS["images"], randomize)
    with pytest.raises(UserError, match="unknown value 'onx'"):
        with_engine(model, "onx")
    monkeypatch.setattr("restune.inference.engines.names.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"(?s)needs the package openvino.*restune\[export\]"):
        with_engine(model, "openvino")


def test_a_graph_is_made_once(
    randomize: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch, graphs: Path, tmp_path: Path
) -> None:
    model = made(*KINDS["images"], randomize)
    with_engine(model, "onnx")
    monkeypatch.setattr("restune.exporting.engines.write_onnx", lambda *_: pytest.fail("made again"))
    with_engine(made(*KINDS["images"], randomize), "openvino")
    made_for = graphs / "engines" / f"{graph_key(model)}.onnx"
    graph = tmp_path / made_for.name
    graph.write_bytes(made_for.read_bytes())
    monkeypatch.setattr("restune.exporting.engines.MOST_BYTES", 3 * graph.stat().st_size // 2)
    longest_unused = graph.with_name("old.onnx")
    longest_unused.write_bytes(graph.read_bytes())
    os.utime(longest_unused, (1, 1))
    remove_old(graph.parent, keep=graph)
    assert graph.exists()
    assert not longest_unused.exists()


def calibrated(model: Model) -> Model:
    """The model with a temperature, thresholds and a reference for novelty, so that all of them are compared."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 5)).astype(np.float32) * 4
    targets = np.where(random.random(200) < 0.7, logits.argmax(axis=1), random.integers(0, 5, 200))
    embeddings = model.logits_and_embeddings(samples_of(model.preprocess, 6)[:, None])[1]
    assert embeddings is not None
    reference = torch.nn.functional.normalize(embeddings[:, 0]).half()
    novelty = Novelty(reference=reference, k=1, threshold=0.05, promised=0.05, false_alarms=1, n=20)
    return replace(
        model,
        info=replace(model.info, calibration=fit_calibration(logits, targets, logits.argmax(axis=1)), novelty=novelty),
    )


def test_all_parts_of_an_answer_are_those_of_torch(randomize: Callable[..., nn.Module]) -> None:
    model = calibrated(made(*KINDS["images"], randomize))
    images = [*samples_of(model.preprocess, 6).permute(0, 2, 3, 1).numpy(), np.zeros((24, 24, 3), np.uint8)]
    renamed = model.with_classes(["a", "b", "c", "d", "e"])
    ask: dict[str, Any] = {"coverage": 0.9, "threshold": 0.5, "batch_size": 4}
    for views in ("single", "flip"):
        expected = renamed.predict(images, views=views, **ask)
        assert views != "single" or [one.novel for one in expected] == [False] * 6 + [True]
        for engine in ENGINES:
            found = (
                with_engine(model, engine).with_classes(["a", "b", "c", "d", "e"]).predict(images, views=views, **ask)
            )
            for one, other in zip(found, expected, strict=True):
                assert [name for name, _ in one.top] == [name for name, _ in other.top]
                np.testing.assert_allclose([p for _, p in one.top], [p for _, p in other.top], atol=1e-5)
                assert one.novelty == pytest.approx(other.novelty, abs=2e-3)
                assert (one.label, one.abstained, one.prediction_set, one.novel) == (
                    other.label, other.abstained, other.prediction_set, other.novel,
                )  # fmt: skip


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_labels_and_numbers_are_those_of_torch(task: str, randomize: Callable[..., nn.Module]) -> None:
    model = made(*KINDS["images"], randomize)
    scale = TargetScale((5.0,) * 5, (3.0,) * 5) if task == "regression" else None
    model = replace(model, info=replace(model.info, task=task, target_scale=scale))
    images = list(samples_of(model.preprocess, 3).permute(0, 2, 3, 1).numpy())
    for one, other in zip(with_engine(model, "onnx").predict(images), model.predict(images), strict=True):
        assert one.labels == other.labels
        for name in model.classes:
            found, expected = ((p.values or p.probabilities or {})[name] for p in (one, other))
            assert found == pytest.approx(expected, abs=1e-4)


def test_evaluate_measures_the_same(
    randomize: Callable[..., nn.Module], write_noise: Callable[..., Path], tmp_path: Path
) -> None:
    data = write_noise(tmp_path / "data", **{f"class {number}": (30 * number, 4) for number in range(5)})
    model = made(*KINDS["images"], randomize)
    expected = restune.evaluate(model, data).to_dict()
    found = restune.evaluate(model, data, engine="openvino").to_dict()
    assert found["accuracy"] == expected["accuracy"]
    assert found["confusion"] == expected["confusion"]
    for name in ("nll", "brier", "ece"):
        np.testing.assert_allclose(_number(found[name]), _number(expected[name]), atol=1e-4)


def _number(value: Any) -> float:
    return value if isinstance(value, float) else value["value"]


def test_other_preprocessing_takes_effect_in_an_engine(randomize: Callable[..., nn.Module]) -> None:
    model = made(*KINDS["images"], randomize)
    image = samples_of(model.preprocess, 1)[0].permute(1, 2, 0).numpy()
    for engine in ("onnx", "torch"):
        (usual,) = restune.predict(with_engine(model, engine), [image], engine=engine)
        (other,) = restune.predict(with_engine(model, engine), [image], engine=engine, mean=0.9)
        (expected,) = restune.predict(model, [image], engine="torch", mean=0.9)
        assert other.probability == pytest.approx(expected.probability, abs=1e-5)
        assert other.probability != pytest.approx(usual.probability, abs=1e-5)


def test_models_that_an_engine_does_not_have_are_refused(randomize: Callable[..., nn.Module]) -> None:
    spec = CustomSpec(custom="Mine", dims=2, in_channels=3, num_classes=5)
    mine = CustomNetwork(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)), spec).eval()
    info = BundleInfo(spec=spec, classes=tuple("abcde"), preprocess=ImagePreprocess(crop=24))
    with pytest.raises(UserError, match="only restune's own networks run in other engines"):
        with_engine(Model(module=mine, info=info, source="mine"), "onnx")
    model = made(*KINDS["images"], randomize)
    with pytest.raises(UserError, match="computes on the CPU, this model is on cuda"):
        with_engine(replace(model, device=torch.device("cuda")), "openvino")
    with pytest.raises(UserError, match="ONNX Runtime computes in fp32"):
        with_engine(model, "onnx", precision="bf16")
    with pytest.raises(UserError, match="explanations are computed by torch"):
        restune.predict(model, [np.zeros((9, 9, 3), np.uint8)], engine="onnx", explain="never")


def test_torch_computes_what_the_module_is_now(randomize: Callable[..., nn.Module]) -> None:
    """The folded copy follows changed weights; a hook on the module sees the forward pass."""
    model = made(*KINDS["images"], randomize)
    samples = samples_of(model.preprocess, 2)[:, None]
    module = model.module
    assert isinstance(module, ResNet)

    def agree() -> bool:
        with torch.inference_mode():
            expected = module(model.preprocess.inputs(samples[:, 0])[0])
        return bool(torch.allclose(model.logits(samples)[:, 0], expected, atol=1e-4 * float(expected.abs().max())))

    assert agree()
    with torch.no_grad():
        module.conv1.get_parameter("weight").mul_(-1)
    assert agree()
    module.bn1.get_buffer("running_mean").add_(1)
    assert agree()
    module.reset_head(5)
    assert agree()
    seen: list[int] = []
    hook = module.get_submodule("layer1.0").register_forward_hook(lambda *_: seen.append(1))
    model.logits(samples)
    hook.remove()
    assert seen == [1]


class Machine:
    """A clock that engines move: seconds per item, and to start."""

    def __init__(self, **seconds: float) -> None:
        self.now, self.seconds, self.runs = 0.0, seconds, 0
        self.started: list[str] = []

    def clock(self) -> float:
        return self.now

    def runtime(self, name: str, shift: float = 0.0) -> Engine:
        return Engine(self, name, shift)

    def candidate(self, name: str, shift: float = 0.0) -> Candidate:
        def build() -> Engine:
            self.started.append(name)
            self.now += 1.0
            return self.runtime(name, shift)

        return Candidate(engine=name, precision="fp32", build=build)


class Engine:
    """Gives the items' own values as logits, in the machine's time."""

    precision = "fp32"

    def __init__(self, machine: Machine, name: str, shift: float) -> None:
        self.machine, self.name, self.shift = machine, name, shift

    def __call__(self, samples: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.machine.now += self.machine.seconds[self.name] * len(samples)
        return samples.float() + self.shift * torch.arange(samples.shape[1]), None


def choice(
    machine: Machine, candidates: Sequence[Candidate], *, items: int | None, has_graph: bool = False
) -> ChosenRuntime:
    facts = ModelFacts(key=lambda: "model", has_graph=lambda: has_graph, answers=lambda x: x.softmax(dim=1))
    return ChosenRuntime(machine.runtime("torch"), candidates, facts, items=items, clock=machine.clock)


def work(runtime: ChosenRuntime, batches: int, size: int = 32) -> list[str]:
    """Compute batches; return the engine of each."""
    names = []
    for _ in range(batches):
        runtime(torch.randn(size, 5))
        names.append(runtime.name)
    return names


def test_auto_measures_where_that_pays_and_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(torch=0.1, onnx=0.05, openvino=0.04)
    candidates = [machine.candidate("openvino"), machine.candidate("onnx")]
    names = work(choice(machine, candidates, items=32 * 100), 5)
    assert names == ["torch", "torch", "openvino", "openvino", "openvino"]
    assert machine.started == ["openvino", "onnx"]
    assert "engine openvino (fp32): 2.5 times torch's speed" in capsys.readouterr().err
    machine.started.clear()
    remembered = choice(machine, candidates, items=32 * 100, has_graph=True)
    assert work(remembered, 3) == ["torch", "openvino", "openvino"]
    assert machine.started == ["openvino"], "nothing is measured again"
    assert capsys.readouterr().err.count("2.5 times torch's speed when measured here") == 1


def test_auto_costs_small_jobs_nothing() -> None:
    machine = Machine(torch=0.1, openvino=0.01)
    candidates = [machine.candidate("openvino")]
    assert set(work(choice(machine, candidates, items=64), 2)) == {"torch"}
    unknown = choice(machine, candidates, items=None)
    assert set(work(unknown, 10)) == {"torch"}, "32 s of work are done: as much is expected, less than it costs"
    assert machine.started == []
    spent = machine.now
    assert "openvino" in work(unknown, 60), "as much as is done is expected"
    assert spent < WORTH * BUILD_SECONDS < machine.now


def test_auto_takes_no_engine_with_other_answers_or_without_gain(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(torch=0.1, onnx=0.095, openvino=0.01)
    candidates = [machine.candidate("openvino", shift=0.5), machine.candidate("onnx")]
    assert set(work(choice(machine, candidates, items=32 * 100), 4)) == {"torch"}
    assert "engine torch: no other is faster" in capsys.readouterr().err
    machine.started.clear()
    assert set(work(choice(machine, candidates, items=32 * 1000), 4)) == {"torch"}
    assert machine.started == [], "that torch is the fastest is remembered"


def test_a_server_chooses_before_the_first_request(
    randomize: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_engine(made(*KINDS["images"], randomize), "auto")
    runtime = model.runtime
    assert isinstance(runtime, ChosenRuntime)
    machine = Machine(torch=0.1, openvino=0.01)
    runtime._candidates, runtime._clock = [machine.candidate("openvino")], machine.clock
    runtime._default = runtime.current = machine.runtime("torch")
    monkeypatch.setattr(machine, "runtime", lambda name, shift=0.0: Flat(machine, name, shift))
    runtime._default = machine.runtime("torch")
    assert settled(model).runtime is runtime
    assert runtime.name == "openvino"


class Flat(Engine):
    """An engine for images."""

    def __call__(self, samples: torch.Tensor) -> tuple[torch.Tensor, None]:
        return super().__call__(samples.flatten(1)[:, :5])


def test_bf16_gives_way_where_its_answers_differ(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(torch=0.0, openvino=0.0)
    samples, answers = torch.zeros(20, 5), lambda x: x.softmax(dim=1)
    for shift, falls_back, name, said in (
        (0.001, True, "openvino", "agree with fp32"),
        (0.9, True, "torch", "answers in bf16 differ by"),
        (0.9, False, "openvino", "warning"),
    ):
        runtime = ReducedPrecision(
            machine.runtime("openvino", shift), lambda: machine.runtime("torch"), answers, machine.runtime("torch"),
            falls_back=falls_back,
        )  # fmt: skip
        runtime(samples)
        assert runtime.name == name
        assert said in capsys.readouterr().err


def test_bf16_answers_agree_in_torch(randomize: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restune.exporting.engines.has_fast_bf16", lambda: True)
    model = made(*KINDS["images"], randomize)
    with torch.no_grad():
        model.module.fc.weight.mul_(0.01)  # probabilities far from 0 and 1
    samples = samples_of(model.preprocess, 4)[:, None]
    reduced = with_engine(model, "torch", precision="auto")
    difference = (
        (reduced.probabilities(reduced.logits(samples)) - model.probabilities(model.logits(samples))).abs().max()
    )
    assert 0 < difference < 0.02
    assert reduced.runtime is not None
    assert reduced.runtime.precision == "bf16"
    assert all(
        value.dtype == torch.float32 for value in model.module.state_dict().values() if value.is_floating_point()
    )
    monkeypatch.setattr("restune.exporting.engines.has_fast_bf16", lambda: False)
    assert with_engine(model, "torch", precision="auto").runtime is None
    with pytest.raises(UserError, match="does not multiply bf16"):
        with_engine(model, "torch", precision="bf16")
