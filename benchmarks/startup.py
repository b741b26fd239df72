"""Time `import restune` and the --help of each verb, each in its own process.

Command: python benchmarks/startup.py [--rounds 5]
Prints the median and the range; the targets are 0.1 s above Python's own start for the import, 0.5 s for help.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from restune.cli import VERBS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    commands = {"python alone": ["-c", "pass"], "import restune": ["-c", "import restune"]}
    for verb in ([], *([name] for name in VERBS)):
        commands[" ".join(["restune", *verb, "--help"])] = ["-m", "restune", *verb, "--help"]
    for name, arguments in commands.items():
        times = [_seconds(arguments) for _ in range(rounds + 1)][1:]  # the first reads files from disk
        print(f"{name:26} {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})")


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
