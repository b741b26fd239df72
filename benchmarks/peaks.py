"""The most multiply-adds per second that this processor does in float32, bf16 and int8, by loops in registers.

Command: python benchmarks/peaks.py [--seconds 0.5] [--rounds 5]

Compiles peaks.c with the C compiler of the machine (`cc`, or $CC). Prints the median over the rounds, and the range.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
from pathlib import Path

from restune.core.machine import cpu_count

PRECISIONS = ("float32", "bf16", "int8")
SOURCE = Path(__file__).with_name("peaks.c")


def build(folder: Path) -> Path | None:
    """Compile the loops and return the program; None where there is no C compiler, or it fails."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    program = folder / "peaks"
    command = [compiler, "-O3", "-march=native", "-pthread", str(SOURCE), "-o", str(program)]
    return program if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def peak(program: Path, precision: str, seconds: float) -> float:
    """Return multiply-adds per second of all cores; 0 for a precision that the processor lacks."""
    command = [str(program), precision, str(cpu_count()), str(seconds)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    program = build(Path(os.environ.get("TMPDIR", "/tmp")))
    if program is None:
        raise SystemExit("the peaks need a C compiler: install one, or name it with CC=")
    for precision in PRECISIONS:
        rates = [peak(program, precision, options.seconds) / 1e9 for _ in range(options.rounds)]
        shown = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        print(f"{precision:8} {shown} billion multiply-adds per second, {cpu_count()} cores")


if __name__ == "__main__":
    main()
