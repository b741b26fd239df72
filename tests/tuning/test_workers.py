"""Two workers share a study in PostgreSQL; one is killed: every trial ends, and none is counted twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

import restune

pytestmark = pytest.mark.slow
TRIALS = 8


def _programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


def _free_port() -> int:
    """A free port below those that the system gives away: nothing else takes it until the server has started."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as server, suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@pytest.fixture
def database():
    """The address of a fresh PostgreSQL database."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    user = "nobody" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="restune-postgres-"))
    port = _free_port()
    if user:
        shutil.chown(folder, user)

    def call(name: str, *arguments: str) -> None:
        subprocess.run([programs / name, *arguments], check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    call("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "restune")
    options = f"-p {port} -k {folder} -h 127.0.0.1"
    call("pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://restune@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_every_trial_ends_and_none_counts_twice(database, write_noise, tmp_path):
    import optuna

    shapes = write_noise(tmp_path / "shapes", (16, 16), bright=(60, 30), dark=(30, 30))
    address = database.replace("postgresql://", "postgresql+psycopg://")

    def worker(name: str) -> subprocess.Popen[str]:
        command = [
            *(sys.executable, "-m", "restune", "search", shapes, "--model", "resnet8"),
            *("--image-size", "16", "--epochs", "20", "--batch-size", "8", "--device", "cpu", "--trials", str(TRIALS)),
            *("--storage", database, "--study", "shared", "--out", tmp_path / name),
        ]
        return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)

    killed, other = worker("killed"), worker("other")
    end = time.monotonic() + 240
    while not list((tmp_path / "killed").glob("trial-*")):  # a trial of the worker that is to be killed
        assert killed.poll() is None, killed.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _, errors = other.communicate(timeout=900)
    assert other.returncode == 0, errors
    study = optuna.load_study(study_name="shared", storage=address)
    states = [trial.state.name for trial in study.trials]
    assert "RUNNING" not in states
    assert states.count("COMPLETE") + states.count("PRUNED") == TRIALS
    failed = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert len(failed) == 1, "the killed worker's trial"
    again = [trial for trial in study.trials if trial.system_attrs.get("failed_trial") == failed[0].number]
    assert len(again) == 1
    assert again[0].params == failed[0].params
    assert again[0].state.name in ("COMPLETE", "PRUNED")
    assert (tmp_path / "other" / "best" / "result.json").exists()
    assert restune.load(tmp_path / "other" / "best").classes == ("bright", "dark")
