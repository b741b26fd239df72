"""Score the series recipe on standard splits of time series, without validation items, over several seeds.

Command: python benchmarks/series.py ../shared/data/ucr --seeds 5
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import restune
from restune.core.console import quiet

SETS = {"GunPoint": 99.1, "ItalyPowerDemand": 96.3, "RefrigerationDevices": 52.5, "BasicMotions": None}
"""Accuracies of a ResNet in Fawaz et al. 2019, in percent, means of five runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    from restune.training.recipe import parse_assignment

    changes = dict(parse_assignment(text) for text in options.set)
    for name, published in SETS.items():
        if options.only and options.only not in name:
            continue
        scores, seconds = [], []
        for seed in range(options.first, options.first + options.seeds):
            with tempfile.TemporaryDirectory() as folder, quiet():
                run = restune.train(options.folder / name, out=Path(folder) / "run", val=0, seed=seed, set=changes)
            scores.append(100 * run.result["test"]["accuracy"])
            seconds.append(run.result["seconds"])
        listed = ", ".join(f"{score:.2f}" for score in scores)
        known = "" if published is None else f"; Fawaz et al. 2019: {published}"
        print(
            f"{name:22} mean {statistics.mean(scores):.2f}% ({listed}; n = {run.result['test']['n']}){known}; "
            f"{statistics.median(seconds):.0f} s per run (median), at most {max(seconds):.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
