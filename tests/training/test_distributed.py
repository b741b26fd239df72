"""Several processes train what one trains."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import restune
from restune.runs.folder import agreed_folder
from restune.training.distributed import World

NETWORK = {"model": "resnet8", "image_size": 16, "epochs": 1, "batch_size": 8, "threads": 1}
BASE = ["--image-size", "16", "--freeze", "none", "--val", "0.25", "--precision", "fp32", "--threads", "1",
        "--batch-size", "9", "--epochs", "3", "--set", "keep_statistics=true", "--set", "ema.decay=0.9",
        "--set", "mixup=0.4", "--set", "class_weights=balanced", "--workers", "1", "--set",
        "checkpoint.every_steps=2"]  # fmt: skip


@pytest.mark.parametrize(("count", "size"), [(9, 2), (7, 3), (2, 4), (128, 8)])
def test_shares_are_disjoint_complete_and_even(count, size):
    shares = [World(rank, size).share(range(100, 100 + count)) for rank in range(size)]
    assert [number for share in shares for number in share] == list(range(100, 100 + count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.fixture(scope="module")
def start(tmp_path_factory, write_noise):
    """A folder with data of 2 unequal classes and a network to start from."""
    folder = tmp_path_factory.mktemp("together")
    write_noise(folder / "data", bright=(120, 28), dark=(0, 23))
    restune.train(folder / "data", out=folder / "start", set={"spec.width": 6, "spec.depths": [1, 1]}, **NETWORK)
    (folder / "data" / "dark" / "broken.png").write_bytes(b"")
    return folder


def with_options(*more):
    """The usual options, without those that are set otherwise."""
    pairs = [BASE[i : i + 2] for i in range(0, len(BASE), 2)]
    kept = [pair for pair in pairs if pair[0] == "--set" or pair[0] not in more]
    return [*(word for pair in kept for word in pair), *more]


def together(start, out, processes, *more, nodes=1, node=0, port=None, restarts=0, wait=True,
             program=("-m", "restune")):  # fmt: skip
    """A run of so many processes on this machine, as torchrun starts them."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}",
               f"--nnodes={nodes}", f"--max-restarts={restarts}", f"--node-rank={node}", "--master-addr=localhost",
               f"--master-port={port or free_port()}", *program, "finetune", str(start / "data"),
               "--weights", str(start / "start" / "model.safetensors"), "--out", str(out),
               *with_options(*more)]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    if not wait:
        return process
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    return output, errors


def alone(start, out, *more):
    command = [sys.executable, "-m", "restune", "finetune", str(start / "data"), "--weights",
               str(start / "start" / "model.safetensors"), "--out", str(out), *with_options(*more)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=240)


def free_port():
    """A free port below those that the system gives away: nothing else takes it until the processes have started."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as server, suppress(OSError):
            server.bind(("localhost", port))
            return port
    raise AssertionError("no free port")


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_learn_what_one_learns(start, tmp_path):
    """A batch of 9 over 2 processes is 4 and 5; 13 validation items are 6 and 7; classes are weighted; items mixed."""
    alone(start, tmp_path / "one")
    said, errors = together(start, tmp_path / "two", 2)
    assert said.count("validation accuracy") == 1, "one process speaks"
    assert errors.count("skipped 1 unreadable item") == 1
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(one) == len(two) == 3
    for mine, theirs in zip(one, two, strict=True):
        assert mine["step"] == theirs["step"]
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], abs=1e-5)
        assert theirs["val_loss"] == pytest.approx(mine["val_loss"], abs=1e-5)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert results[0]["val"]["n"] == results[1]["val"]["n"] == 13
    assert (tmp_path / "one" / "split.csv").read_text() == (tmp_path / "two" / "split.csv").read_text()


@pytest.mark.slow
def test_two_then_one_then_two(start, tmp_path):
    """A run goes on with another number of processes."""
    long = ("--epochs", "40")
    alone(start, tmp_path / "whole", *long)
    out = tmp_path / "parts"
    for processes in (2, 1):
        process = together(start, out, processes, "--resume", *long, wait=False)
        before = newest(out)
        while newest(out) == before and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=240)[1]
        assert process.returncode != 0, "the run was over before it was stopped"
        assert "stopped by SIGTERM" in errors
        assert errors.count("to resume: the same torchrun command, with --resume") == 1
    together(start, out, 2, "--resume", *long)
    assert json.loads((out / "result.json").read_text())["resumed_from_step"] > 0
    for mine, theirs in zip(metrics(tmp_path / "whole"), metrics(out), strict=True):
        assert theirs["step"] == mine["step"]
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], abs=1e-5)


@pytest.mark.slow
def test_two_processes_thaw_from_one_solved_head(start, tmp_path):
    """The first solves it; both begin there, and agree on what each phase bought."""
    together(start, tmp_path / "run", 2, "--freeze", "auto", "--epochs", "4")
    records = metrics(tmp_path / "run")
    assert records[0]["epoch"] == 0
    assert records[0]["val_accuracy"] > 0.8
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["val"]["accuracy"] >= records[0]["val_accuracy"]
    assert records[-1]["step"] > 0


@pytest.mark.slow
def test_only_the_main_process_calls_on_epoch(start, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from restune.cli import main\n"
        "from restune.training.loop import Trainer\n"
        "original = Trainer.__init__\n"
        "def on_epoch(record):\n"
        "    print(f'epoch {record.epoch} in process', os.environ['RANK'], flush=True)\n"
        "Trainer.__init__ = lambda self, **more: original(self, **{**more, 'on_epoch': on_epoch})\n"
        "main()\n"
    )
    output, _errors = together(start, tmp_path / "run", 2, program=(str(script),))
    calls = [line for line in output.splitlines() if " in process " in line]
    assert calls == [f"epoch {epoch} in process 0" for epoch in (1, 2, 3)]


def with_other_data(start, other, tmp_path):
    """A script that is the command line, with another folder of data in the second process."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from restune.cli import main\n"
        "if os.environ['RANK'] == '1':\n"
        f"    sys.argv[sys.argv.index({str(start / 'data')!r})] = {str(other)!r}\n"
        "main()\n"
    )
    return (str(script),)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["differs: its size was", "is not there"])
def test_a_process_with_other_data_ends_all_with_one_message(start, tmp_path, what):
    other = Path(shutil.copytree(start / "data", tmp_path / "other"))
    if what == "is not there":
        (other / "bright" / "005.png").unlink()
    else:
        Image.new("RGB", (18, 18)).save(other / "bright" / "005.png")
    process = together(
        start, tmp_path / "run", 2, wait=False, program=with_other_data(start, other, tmp_path)
    )  # fmt: skip
    errors = process.communicate(timeout=240)[1]
    assert process.returncode != 0
    assert errors.count(f"process 1 has other data than process 0: bright/005.png {what}") == 1, errors[-3000:]
    assert errors.count("error: ") == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_the_first_process_decides_which_items_are_left_out(start, tmp_path):
    """An item that only the second process can read trains nowhere."""
    other = Path(shutil.copytree(start / "data", tmp_path / "other"))
    shutil.copy(other / "dark" / "000.png", other / "dark" / "broken.png")
    together(start, tmp_path / "run", 2, "--epochs", "1", program=with_other_data(start, other, tmp_path))
    alone(start, tmp_path / "one", "--epochs", "1")
    for one, two in zip(metrics(tmp_path / "one"), metrics(tmp_path / "run"), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], abs=1e-5)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["left_out"], result["val"]["n"]) == (1, 13)


def newest(out):
    return max((path.name for path in (out / "checkpoints").glob("epoch-*")), default="")


def test_several_processes_need_a_folder():
    with pytest.raises(restune.UserError, match="one folder"):
        agreed_folder("train", None, World(1, 2), resume=False)


def test_batch_norms_are_synchronised_on_gpus_only(start, tmp_path):
    with pytest.raises(restune.UserError, match="on GPUs only"):
        restune.train(start / "data", out=tmp_path / "run", set={"sync_batch_norm": True}, device="cpu", **NETWORK)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a process's children by Linux's /proc")
def test_a_node_that_dies_ends_the_job_and_the_next_goes_on_exactly(start, tmp_path):
    """Two nodes of one process; one is killed amid an epoch, with all it started."""
    long = ("--epochs", "60", "--resume")

    def both(out):
        port = free_port()
        return [together(start, out, 1, *long, nodes=2, node=node, port=port, wait=False) for node in (0, 1)]

    for process in both(tmp_path / "whole"):
        errors = process.communicate(timeout=240)[1]
        assert process.returncode == 0, errors[-3000:]
    out = tmp_path / "killed"
    first, second = both(out)
    while newest(out) < "epoch-00003":
        time.sleep(0.01)
    for process in (second.pid, *ranks_of(second)):
        os.kill(process, signal.SIGKILL)
    errors = first.communicate(timeout=240)[1]
    assert first.returncode != 0
    assert "error: another process of this run is gone" in errors, errors[-3000:]
    assert "--resume" in errors
    for process in both(out):
        assert process.wait(timeout=240) == 0, process.stderr.read()[-3000:]
    assert json.loads((out / "result.json").read_text())["resumed_from_step"] > 0
    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    one, other = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "whole"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def ranks_of(launcher):
    """Processes of the ranks that torchrun started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert children, "torchrun has a process of its own for each rank"
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a process's children by Linux's /proc")
def test_torchrun_starts_a_killed_rank_again_and_the_run_goes_on(start, tmp_path):
    out = tmp_path / "run"
    process = together(start, out, 2, "--epochs", "60", "--resume", restarts=2, wait=False)
    while newest(out) < "epoch-00003":
        time.sleep(0.01)
    os.kill(ranks_of(process)[-1], signal.SIGKILL)
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 0, errors[-3000:]
    result = json.loads((out / "result.json").read_text())
    assert result["resumed_from_step"] > 0
    assert result["epochs"] == 60
