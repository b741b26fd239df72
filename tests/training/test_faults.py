"""What goes wrong while training: signals, memory, disks, numbers that are none."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from PIL import Image

import restune
from restune.core.interrupt import Interrupted, noted
from restune.data import ahead as ahead_module
from restune.training import checkpoint, gradients
from restune.training.loop import Trainer

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 4, "batch_size": 8, "threads": 1, "precision": "fp32"}
SETTINGS = {"spec.width": 4, "spec.depths": [1, 1], "ema.decay": 0.9, "checkpoint.every_steps": 2}


@pytest.fixture
def data(tmp_path, write_noise):
    return write_noise(tmp_path / "data", bright=(120, 30), dark=(0, 30))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_noise):
    """A run on images like `data`, from its beginning to its end."""
    folder = tmp_path_factory.mktemp("whole")
    data = write_noise(folder / "data", bright=(120, 30), dark=(0, 30))
    return restune.train(data, out=folder / "run", set=SETTINGS, **SMALL)


def tensors(run):
    return {name: value.clone() for name, value in run.model.module.state_dict().items()}


def stop_after(monkeypatch, steps, action):
    """Do something when the trainer has taken so many steps."""
    original = Trainer._step

    def step(self, *arguments, **more):
        if self.state.step == steps:
            action(self)
        return original(self, *arguments, **more)

    monkeypatch.setattr(Trainer, "_step", step)


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 7), (signal.SIGTERM, 5), (signal.SIGTERM, 6)])
def test_a_signal_ends_the_step_and_writes_all(data, whole, tmp_path, monkeypatch, number, after):
    """Within an epoch of 6 steps, at its last step, and at the first of the next."""
    with monkeypatch.context() as patch:
        stop_after(patch, after, lambda _trainer: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as raised:
            restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)
    assert raised.value.number == number
    assert checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[-1].name.endswith(f"step-{after + 1:08d}")
    resumed = restune.train(data, out=tmp_path / "run", resume=True, set=SETTINGS, **SMALL)
    assert resumed.result["resumed_from_step"] == after + 1
    assert all(torch.equal(value, tensors(whole)[name]) for name, value in tensors(resumed).items())
    assert (whole.out / "metrics.jsonl").read_bytes() == (resumed.out / "metrics.jsonl").read_bytes()


def test_a_second_signal_does_not_wait():
    before = signal.getsignal(signal.SIGINT)  # ignored, where the suite runs in the background
    with noted() as signalled:
        os.kill(os.getpid(), signal.SIGINT)
        assert signalled() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_says_how_to_go_on(data, tmp_path, number, status):
    words = ["train", str(data), "--model", "resnet8", "--image-size", "16", "--epochs", "5000", "--batch-size", "8",
             "--set", "spec.width=4", "--out", str(tmp_path / "a run")]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "restune", *words], stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "a run" / "metrics.jsonl"
    limit = time.monotonic() + 120
    while not metrics.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(number)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == status, errors
    command = next(line for line in errors.splitlines() if line.startswith("to resume: "))
    assert command.endswith(f"--out '{tmp_path / 'a run'}' --resume")
    assert "Traceback" not in errors


def test_too_little_memory_makes_parts_of_the_same_step(data, tmp_path, monkeypatch):
    """Without batch norms' statistics, which are of one part at a time, the same weights come of it."""
    start = restune.train(data, out=tmp_path / "start", set=SETTINGS, **SMALL)
    settings = {"keep_statistics": True, "optimizer.accumulate": 2, "class_weights": "balanced", "mixup": 0.3}
    options = {"freeze": "none", "epochs": 2, "batch_size": 7, "image_size": 16, "precision": "fp32", "threads": 1}
    whole = restune.finetune(data, weights=start.out, out=tmp_path / "whole", set=settings, **options)
    original, largest = gradients.Gradients._backward, 3

    def part(self, images, *arguments, **more):
        if len(images) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, images, *arguments, **more)

    monkeypatch.setattr(gradients.Gradients, "_backward", part)
    said = []
    monkeypatch.setattr(gradients, "warn", said.append)
    parts = restune.finetune(data, weights=start.out, out=tmp_path / "parts", set=settings, **options)
    assert len(said) == 2  # 7, then 4 items: neither fits
    assert "parts of 2 " in said[-1]
    for name, value in tensors(whole).items():
        assert torch.allclose(value, tensors(parts)[name], atol=1e-5), name


def test_not_even_one_item_fits(data, tmp_path, monkeypatch):
    def part(self, *arguments, **more):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(gradients.Gradients, "_backward", part)
    with pytest.raises(restune.UserError, match="not enough memory for a single item"):
        restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)


def test_weights_that_are_no_numbers_are_not_kept(data, tmp_path, monkeypatch):
    def spoil(trainer):
        trainer.network.layer1[0].bn1.running_mean.fill_(float("inf"))

    stop_after(monkeypatch, 3, spoil)
    with pytest.raises(restune.UserError, match=r"(layer1.0.bn1.running_mean is NaN or infinite)"):
        restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)
    state = checkpoint.read_checkpoint(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state.step == 2
    assert all(value.isfinite().all() for value in state.tensors["network"].values())


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint(data, tmp_path):
    """By a limit on the size of files, which the system enforces as it does a full disk."""
    out = tmp_path / "run"
    script = (
        "import resource, sys\n"
        "import restune\n"
        "from restune.training import checkpoint\n"
        "write = checkpoint.write_checkpoint\n"
        "def limited(folder, state):\n"
        "    if state.step >= 6: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "    return write(folder, state)\n"
        "checkpoint.write_checkpoint = limited\n"
        "from restune.cli import main\n"
        f"sys.argv = ['restune', 'train', {str(data)!r}, '--out', {str(out)!r}, '--model', 'resnet8', "
        "'--image-size', '16', '--batch-size', '8', '--epochs', '4', '--set', 'spec.width=4', "
        "'--set', 'checkpoint.every_steps=2']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    assert "Traceback" not in done.stderr
    state = checkpoint.read_checkpoint(out / "checkpoints")
    assert state is not None
    assert state.step == 4
    assert not list((out / "checkpoints").glob(".*"))


def test_a_damaged_checkpoint_is_skipped(data, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 7, lambda _trainer: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)
    newest = checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[-1]
    content = bytearray((newest / "tensors.safetensors").read_bytes())
    content[-5] ^= 1
    (newest / "tensors.safetensors").write_bytes(content)
    resumed = restune.train(data, out=tmp_path / "run", resume=True, set=SETTINGS, **SMALL)
    assert f"{newest.name} is damaged" in capsys.readouterr().err
    assert 0 < resumed.result["resumed_from_step"] < 8


@pytest.mark.parametrize("change", ["data", "versions", "recipe"])
def test_changes_are_noticed(data, tmp_path, monkeypatch, change):
    with monkeypatch.context() as patch:
        stop_after(patch, 7, lambda _trainer: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)
    settings, named = dict(SETTINGS), change
    if change == "data":
        first = next(line for line in (tmp_path / "run" / "split.csv").read_text().splitlines() if ",train" in line)
        Image.new("RGB", (30, 30)).save(data / first.split(",")[0])
    elif change == "versions":
        from restune.runs import fit

        monkeypatch.setattr(fit, "versions", lambda: {"restune": "0.0.1"})
    else:
        settings["ema.decay"], named = 0.95, "ema.decay 0.9 -> 0.95"
    with pytest.raises(restune.UserError, match=named):
        restune.train(data, out=tmp_path / "run", resume=True, set=settings, **SMALL)
    going_on = restune.train(data, out=tmp_path / "run", resume=True, accept_changes=True, set=settings, **SMALL)
    assert going_on.result["epochs"] == 4


@pytest.mark.slow
def test_a_clock_set_back_changes_nothing(data, tmp_path, monkeypatch):
    """Neither checkpoints by minutes nor a budget look at the time of day, which here runs backwards."""
    backwards = itertools.count(time.time(), -1000)
    monkeypatch.setattr(time, "time", lambda: next(backwards))
    settings = {**SETTINGS, "checkpoint.every_steps": None, "checkpoint.every_minutes": 1e-6}
    amid = []
    original = checkpoint.write_checkpoint
    monkeypatch.setattr(checkpoint, "write_checkpoint", lambda f, s: (amid.append(s.batches), original(f, s))[1])
    options = {key: value for key, value in SMALL.items() if key != "epochs"}
    started = time.perf_counter()
    run = restune.train(data, out=tmp_path / "run", set=settings, time="12s", **options)
    assert 4 < time.perf_counter() - started < 120, "by the time of day, the budget would never end"
    assert run.result["epochs"] > 1
    assert any(amid)


def test_checkpoints_by_minutes_are_written_beside_the_training(data, tmp_path, monkeypatch):
    threads = []
    original = checkpoint.write_checkpoint

    def write(folder, state):
        threads.append((threading.current_thread(), state.batches))
        return original(folder, state)

    monkeypatch.setattr(checkpoint, "write_checkpoint", write)
    settings = {**SETTINGS, "checkpoint.every_steps": None, "checkpoint.every_minutes": 1e-6}
    restune.train(data, out=tmp_path / "run", set=settings, **SMALL)
    assert any(batches for _thread, batches in threads), "none amid an epoch"
    assert all(thread is not threading.main_thread() for thread, _batches in threads)


def test_a_loader_that_stalls_says_so(monkeypatch):
    monkeypatch.setattr(ahead_module, "STALL_SECONDS", 0.05)
    said, warned = [], threading.Event()
    monkeypatch.setattr(ahead_module, "warn", lambda text: (said.append(text), warned.set()))

    def slow(number):
        assert number != 1 or warned.wait(60)
        return number

    assert list(ahead_module.ahead(slow, range(3), workers=1, depth=1)) == [0, 1, 2]
    assert "no data for" in said[0]


def test_an_error_in_a_worker_is_the_runs(data, tmp_path, monkeypatch):
    from restune.data.preprocess import ImagePreprocess

    def broken(*_arguments):
        raise ValueError("a worker's own fault")

    monkeypatch.setattr(ImagePreprocess, "training_views", broken)
    with pytest.raises(ValueError, match="a worker's own fault"):
        restune.train(data, out=tmp_path / "run", workers=2, set=SETTINGS, **SMALL)


def test_a_read_only_folder(data, tmp_path):
    """By a file in the place of the folder, since the superuser may write anywhere."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(restune.UserError, match=f"cannot write one: {os.strerror(errno.ENOTDIR)}"):
        restune.train(data, out=tmp_path / "runs" / "one", set=SETTINGS, **SMALL)


@pytest.mark.slow
def test_two_processes_do_not_work_on_one_run(data, tmp_path, monkeypatch):
    """The second is refused while the first is at work; what a killed one left behind stops nobody."""
    refused = []

    def begin_again(_trainer):
        command = [sys.executable, "-m", "restune", "train", str(data), "--out", str(tmp_path / "run"), "--resume"]
        refused.append(subprocess.run(command, capture_output=True, text=True, timeout=120, check=False))

    stop_after(monkeypatch, 3, begin_again)
    run = restune.train(data, out=tmp_path / "run", set={**SETTINGS, "optimizer.accumulate": 1}, **SMALL)
    assert refused[0].returncode == 2
    assert "another process is working in this folder" in refused[0].stderr
    assert not (run.out / ".lock").exists()
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / ".lock").touch()
    restune.train(data, out=tmp_path / "left", resume=True, set=SETTINGS, **SMALL)


def test_a_batch_that_would_not_fit_is_parted_before_the_first_step(data, tmp_path, monkeypatch, capsys):
    from restune.training import memory

    start = restune.train(data, out=tmp_path / "start", set=SETTINGS, **SMALL)
    options = {"freeze": "none", "epochs": 2, "batch_size": 8, "image_size": 16, "precision": "fp32", "threads": 1}
    whole = restune.finetune(data, weights=start.out, out=tmp_path / "whole", set={"keep_statistics": True}, **options)
    each = memory.kept_bytes_an_item(
        start.model.module, start.model.preprocess, torch.zeros(3, 16, 16, dtype=torch.uint8), bf16=False, freeze="none"
    )
    monkeypatch.setattr(memory, "memory_bytes", lambda: int(3.5 * each / memory._SHARE["cpu"]))
    capsys.readouterr()
    parts = restune.finetune(data, weights=start.out, out=tmp_path / "parts", set={"keep_statistics": True}, **options)
    assert "micro_batch: 3 (the backward pass of 8 items needs " in capsys.readouterr().err
    assert "micro_batch: 3" in (parts.out / "recipe.yaml").read_text()
    for name, value in tensors(whole).items():
        assert torch.allclose(value, tensors(parts)[name], atol=1e-5), name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_what_an_item_keeps_is_what_the_process_grows_by():
    """Against the system's own count, in a process of its own: the loss is held, so all that backward needs is."""
    script = """
import torch, restune
from pathlib import Path
from restune.data.preprocess import ImagePreprocess
from restune.training.memory import kept_bytes_an_item
def held():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024
network = restune.create_model("resnet18", num_classes=10).to(memory_format=torch.channels_last).train()
one = torch.randn(32, 3, 128, 128).contiguous(memory_format=torch.channels_last)
network(one[:2]).sum().backward()
before = held()
loss = network(one).sum()
sample = torch.zeros(3, 128, 128, dtype=torch.uint8)
each = kept_bytes_an_item(network, ImagePreprocess(crop=128), sample, bf16=False, freeze="none")
print((held() - before) / 32 / each)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert 0.75 < float(done.stdout) < 1.5
