"""Time `import restune` and the --help of each verb; or the start of a training run, with its memory.

Commands:
    python benchmarks/startup.py [--rounds 5]
    python benchmarks/startup.py --train DATA --model MODEL [--set KEY=VALUE ...]

The first prints the median and the range, each start in its own process; the targets are 0.1 s above Python's own start
for the import, 0.5 s for help. The second prints the seconds until the first step is done, and the largest anonymous
memory (RssAnon of /proc/self/status, which does not count mapped files) of the process until then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from restune.cli import VERBS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", help="data to start a run on")
    arguments, options = parser.parse_known_args()
    if arguments.train is not None:
        _start_run(arguments.train, options)
        return
    commands = {"python alone": ["-c", "pass"], "import restune": ["-c", "import restune"]}
    for verb in ([], *([name] for name in VERBS)):
        commands[" ".join(["restune", *verb, "--help"])] = ["-m", "restune", *verb, "--help"]
    for name, command in commands.items():
        times = [_seconds(command) for _ in range(arguments.rounds + 1)][1:]  # the first reads files from disk
        print(f"{name:26} {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})")


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def _start_run(data: str, options: list[str]) -> None:
    """Run `restune train DATA` in this process until its first step is done."""
    from restune.cli import main as command_line
    from restune.training.gradients import Gradients

    started = time.perf_counter()
    largest = [0]
    threading.Thread(target=_watch, args=(largest,), daemon=True).start()
    add = Gradients.add
    folder = tempfile.mkdtemp()

    def add_once(*arguments, **keywords):
        add(*arguments, **keywords)
        largest[0] = max(largest[0], _anonymous())
        print(f"first step after {time.perf_counter() - started:.1f} s; anonymous memory {largest[0] / 2**20:.2f} GiB")
        sys.stdout.flush()
        shutil.rmtree(folder)
        os._exit(0)

    Gradients.add = add_once
    sys.argv = ["restune", "train", data, "--out", str(Path(folder) / "run"), *options]
    command_line()


def _watch(largest: list[int]) -> None:
    while True:
        largest[0] = max(largest[0], _anonymous())
        time.sleep(0.02)


def _anonymous() -> int:
    """Return the process's anonymous memory, KiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


if __name__ == "__main__":
    main()
