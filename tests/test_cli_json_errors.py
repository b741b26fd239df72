"""With --json, an error is an object on standard output's last line; its message stays on standard error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

FAILURES = {
    "wrong option": (["train", "{photos}", "--seed", "x"], 2, "--seed"),
    "unknown option": (["evaluate", "resnet50:v2", "{photos}", "--bach", "3"], 2, "--bach"),
    "missing argument": (["evaluate", "resnet50:v2"], 2, "DATA"),
    "unknown verb": (["evalute"], 2, "evaluate"),
    "repeated": (["train", "{photos}", "--seed", "1", "--seed", "2"], 2, "2 times"),
    "early": (["train", "{photos}", "--set", "optimizer.name=adadelta"], 2, "optimizer.name"),
    "two forms": (["predict", "resnet50:v2", "{photos}", "--csv"], 2, "cannot be combined"),
    "late": (["train", "{photos}", "--model", "resnet8", "--set", "min_class_items=9"], 2, "class"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_errors_are_objects(run, photos, failure):
    arguments, status, names = FAILURES[failure]
    words = [word.format(photos=photos) for word in arguments]
    done = run(*words, "--json")
    (line,) = done.stdout.splitlines()
    error = json.loads(line)["error"]
    assert set(error) == {"what", "where", "fix"}
    assert names in error["what"]
    assert error["what"] in done.stderr
    assert done.returncode == status
    assert run(*words).stdout == "", "without --json, standard output holds results only"


def test_the_parts_are_those_of_the_message(run, photos):
    done = run("predict", "resnet50:v2", photos, "--views", "flop", "--json")
    error = json.loads(done.stdout)["error"]
    assert done.stderr == f"error: {error['what']}\n  where: {error['where']}\n  what to do: {error['fix']}\n"


def test_a_result_with_failures_stays_the_last_line(run, photos, tmp_path):
    import torch

    import restune

    torch.save(restune.create_model("resnet8", num_classes=2).state_dict(), tmp_path / "v.pth")
    done = run("predict", "resnet8", photos, "gone.jpg", "--weights", tmp_path / "v.pth", "--json")
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["predictions"][-1]["error"]


def test_a_fault_of_ours(photos):
    code = (
        "import sys; import restune.verbs.models as m\n"
        "def broken(*a, **k): raise ZeroDivisionError('deep inside')\n"
        "m.models = broken; sys.argv = ['restune', 'models', '--json']\n"
        "from restune.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "deep inside" in json.loads(done.stdout.splitlines()[-1])["error"]["what"]


def test_an_interrupted_run_names_the_command_that_continues(write_noise, tmp_path):
    data = write_noise(tmp_path / "data", dark=(0, 40), light=(120, 40))
    words = ["train", str(data), "--model", "resnet8", "--epochs", "5000", "--out", str(tmp_path / "run"), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "restune", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    limit = time.monotonic() + 120
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    error = json.loads(printed.splitlines()[-1])["error"]
    assert error["where"] == str(tmp_path / "run")
    assert error["fix"].endswith("--resume")
    assert error["fix"] in errors
