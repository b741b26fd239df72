"""Runs killed at random instants, and resumed, end exactly as the run that nobody touched."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import restune

_RUNNER = Path(__file__).with_name("runner.py")
_specification = importlib.util.spec_from_file_location("runner", _RUNNER)
_runner = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_runner)
AMID, CASES, COMMON, EVERY, OPTIONS = _runner.AMID, _runner.CASES, _runner.COMMON, _runner.EVERY, _runner.OPTIONS

KILLS_A_CASE = 5
_torn: list[int] = []


class Runner:
    """The process of runner.py."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_RUNNER)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.folder = folder

    def start(self, name: str, case: str, data: Path, weights: Path, log: Path, **more: object) -> int:
        asked = {"folder": str(self.folder / name), "data": str(data), "case": case, "weights": str(weights),
                 "log": str(log), "cache": str(self.folder / f"cache {name}"), **more}  # fmt: skip
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def status(self) -> int:
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def world(tmp_path_factory, write_noise):
    """Data with unequal classes, weights to start from, and the runner."""
    folder = tmp_path_factory.mktemp("kills")
    write_noise(folder / "data", (18, 20), bright=(110, 60), dark=(0, 60), grey=(60, 40))
    short = {**OPTIONS, "epochs": 1}
    start = restune.train(folder / "data", out=folder / "start", set=dict(COMMON), **short)
    runner = Runner(folder)
    yield folder, start.out / "model.safetensors", runner
    runner.process.stdin.close()
    runner.process.wait(timeout=60)


def digest(folder: Path) -> dict[str, str]:
    """Hashes of the final weights, of the last checkpoint's tensors (optimiser, EMA), and of the metrics."""
    last = max((folder / "checkpoints").iterdir())
    tensors = load_file(folder / "model.safetensors")  # without the header, which holds seconds
    weights = hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()
    return {
        "weights": weights,
        "state": hashlib.sha256((last / "tensors.safetensors").read_bytes()).hexdigest(),
        "metrics": hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest(),
    }


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which Windows lacks")
@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_as_if_it_never_was(world, case):
    folder, weights, runner = world
    data = folder / "data"
    name = "".join(letter if letter.isalnum() else "-" for letter in case)
    whole_log, log = folder / f"{name}-whole.log", folder / f"{name}.log"
    runner.start(f"{name}-whole", case, data, weights, whole_log)
    assert runner.status() == 0, whole_log.with_suffix(".err").read_text()
    seconds = json.loads((folder / f"{name}-whole" / "result.json").read_text())["training_seconds"]
    steps = steps_of(whole_log.read_text())
    assert len(steps) > 10 * EVERY

    chance = random.Random(case)
    torn, resumed = 0, []
    for number in range(KILLS_A_CASE):
        before = log.read_text() if log.exists() else ""
        reached = last_step(before)
        # So many steps further on, and then at any moment of a step: the computing, the checkpoint's writing.
        further = chance.randint(1, (steps[-1] - reached) // (KILLS_A_CASE + 1 - number))
        if number % 2:  # the next step ends with a checkpoint
            further += EVERY - 1 - (reached + further) % EVERY
        if number == 1:  # for sure while a checkpoint is written
            child = runner.start(name, case, data, weights, log, stays=reached + further)
            while AMID not in log.read_text()[len(before) :]:
                time.sleep(0.001)
        else:
            child = runner.start(name, case, data, weights, log)
            while last_step(log.read_text() if log.exists() else "") < reached + further:
                time.sleep(0.001)
            time.sleep(chance.random() * 2 * seconds / len(steps))
        os.kill(child, signal.SIGKILL)
        assert runner.status() == -signal.SIGKILL, "the run was over before it was killed"
        text = log.read_text()[len(before) :]
        assert "begin" in text
        assert "end" not in text, "the kill did not land inside training"
        torn += any((folder / name / "checkpoints").glob(".epoch-*.tmp"))
        if before:
            resumed.append(resumed_from(text))
            assert reached - resumed[-1] <= EVERY, "more than one interval was replayed"
    before = log.read_text()
    runner.start(name, case, data, weights, log)
    assert runner.status() == 0, log.with_suffix(".err").read_text()
    result = json.loads((folder / name / "result.json").read_text())
    assert result["resumed_from_step"] == resumed_from(log.read_text()[len(before) :]) > 0
    assert last_step(before) - result["resumed_from_step"] <= EVERY
    assert max(resumed) > 0
    assert digest(folder / name) == digest(folder / f"{name}-whole")
    _torn.append(torn)
    print(f"{case}: {KILLS_A_CASE} kills, {torn} of them amid a checkpoint, resumed from {resumed}, "
          f"{result['resumed_from_step']} of {steps[-1]}")  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which Windows lacks")
def test_a_killed_run_does_not_go_on_with_another_test_split(world):
    """No checkpoint knows the test items; the record beside split.csv does."""
    folder, weights, runner = world
    data = Path(shutil.copytree(folder / "data", folder / "exchanged"))
    log = folder / "exchanged.log"
    child = runner.start("exchanged-run", "ema, mixing", data, weights, log, test=0.2)
    while last_step(log.read_text() if log.exists() else "") < 2 * EVERY:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    assert runner.status() == -signal.SIGKILL
    rows = (folder / "exchanged-run" / "split.csv").read_text().splitlines()
    name = next(row.split(",")[0] for row in rows if row.split(",")[1] == "test")
    other = next(row.split(",")[0] for row in rows if row.split(",")[1] == "train")
    shutil.copy(data / other, data / name)
    runner.start("exchanged-run", "ema, mixing", data, weights, log, test=0.2)
    assert runner.status() == 1
    errors = log.with_suffix(".err").read_text()
    assert f"the data changed since this run began: {name} (test: " in errors


@pytest.mark.slow
def test_there_were_thirty_kills_and_some_amid_a_checkpoint():
    if len(_torn) < len(CASES):
        pytest.skip("counts the kills of all cases, and -k left some out")
    assert KILLS_A_CASE * len(CASES) >= 30
    assert min(_torn) > 0


def steps_of(log: str) -> list[int]:
    """What the log says of steps taken; a line may be half written."""
    return [int(line) for line in log.splitlines() if line.isdigit()]


def last_step(log: str) -> int:
    return max(steps_of(log), default=0)


def resumed_from(log: str) -> int:
    return next(int(line.split()[1]) for line in log.splitlines() if line.startswith("resumed"))
