"""Time fine-tuning from the call to a saved model: restune against fastai, timm and a hand-written linear probe.

Command: python benchmarks/finetune_vs_peers.py HYMENOPTERA SIGN_DIGITS RESNET56_WEIGHTS [--rounds 3] [--only CASE]
Needs fastai, timm and scikit-learn besides restune. Each run is its own process with its imports done before the
clock starts; contenders take turns; all use the same files, split, size and weights. ResNet-18 and -50 start from
random weights with batch-norm statistics of the photos, so that the benchmark runs offline: their times are
meaningful; their accuracies only show that all use the same weights. ResNet-56 starts from CIFAR-10 weights.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from contenders import CONTENDERS, Case, Photos, run_contender
from torch.utils.data import DataLoader

OURS = "restune"
WARM = "restune, warm cache"
FROZEN_ONLY = (WARM, "restune, auto, 90 s", "cached by hand", "fastai")
EPOCHS = 10
THAWED_EPOCHS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hymenoptera", type=Path)
    parser.add_argument("digits", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a case: frozen-resnet18, thawed-resnet50, frozen-resnet56, ...")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of peers with a frozen backbone")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="only these; may be repeated")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(_worker(json.loads(options.work))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name, case in _cases(options, Path(scratch)):
            if options.only in name:
                _compare(name, case, options, Path(scratch))


def _cases(options: argparse.Namespace, scratch: Path) -> list[tuple[str, Case]]:
    digits = _split_folder(options.digits, scratch / "digits")
    blank = Case(
        name="", weights=options.weights, data=options.hymenoptera, size=224, epochs=options.epochs, batch=32,
        freeze=True, out=scratch,
    )  # fmt: skip
    cases = []
    for network, batch in (("resnet18", 32), ("resnet50", 16)):
        if network in options.only or not options.only or options.only in ("frozen", "thawed"):
            case = replace(blank, name=network, batch=batch, weights=scratch / f"{network}.pth")
            _random_weights(case)
            thawed = replace(case, epochs=THAWED_EPOCHS, freeze=False)
            cases += [(f"frozen-{network}", case), (f"thawed-{network}", thawed)]
    small = replace(blank, name="resnet56", data=digits, size=32)
    return [*cases, ("frozen-resnet56", small), ("thawed-resnet56", replace(small, epochs=3, freeze=False))]


def _compare(name: str, case: Case, options: argparse.Namespace, scratch: Path) -> None:
    """Run all contenders in turns; print medians, ranges, ratios and paired differences."""
    rounds, asked = options.rounds, options.contender or list(CONTENDERS)
    contenders = [key for key in asked if case.freeze or key not in FROZEN_ONLY]
    outcomes: dict[str, list[dict]] = {key: [] for key in contenders}
    for number in range(rounds):
        for key in contenders:
            out = scratch / f"{name}-{number}-{key.replace(' ', '-')}"
            cache = scratch / f"{name}-{number}-cache"  # filled by this round's cold run, reused by the warm one
            outcomes[key].append(_in_process(key, replace(case, out=out), cache))
    measure = "seconds" if case.freeze else "epoch_seconds"
    what = "the last epoch, validation included"
    if case.freeze:
        what = f"{EPOCHS} epochs, from call to saved model"
        for outcome in (outcome for several in outcomes.values() for outcome in several):
            outcome["seconds"] += (EPOCHS - case.epochs) * outcome["epoch_seconds"]
        if case.epochs < EPOCHS:
            what += f" ({case.epochs} run, the others extrapolated from the last)"
    print(f"\n{name} at {case.size}, batch {case.batch}: {what}; medians of {rounds}")
    first = OURS if OURS in outcomes else contenders[0]
    ours = statistics.median(outcome[measure] for outcome in outcomes[first])
    for key in contenders:
        values = [outcome[measure] for outcome in outcomes[key]]
        median = statistics.median(values)
        correct = np.array(outcomes[key][-1]["correct"])
        line = f"  {key:24}{median:8.2f} s ({min(values):.2f} to {max(values):.2f})  over {first} {median / ours:6.2f}"
        if WARM in outcomes:
            line += f"  over warm {median / statistics.median(o[measure] for o in outcomes[WARM]):6.1f}"
        low, high = bootstrap(np.array(outcomes[first][-1]["correct"]), correct)
        print(line + f"  accuracy {correct.mean():.2%}  {first} better by {low:+.1%} to {high:+.1%}", flush=True)


def bootstrap(one: np.ndarray, other: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """Return the paired-bootstrap 95% interval of the difference in accuracy on the same items."""
    difference = one.astype(float) - other.astype(float)
    drawn = np.random.default_rng(0).choice(difference, (draws, len(difference))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _in_process(key: str, case: Case, cache: Path) -> dict:
    work = {"key": key, **{name: str(value) if isinstance(value, Path) else value
                           for name, value in asdict(case).items()}}  # fmt: skip
    command = [sys.executable, __file__, "x", "x", "x", "--work", json.dumps(work)]
    environment = os.environ | {"RESTUNE_CACHE": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{key}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _worker(work: dict) -> dict:
    key = work.pop("key")
    for name in ("weights", "data", "out"):
        work[name] = Path(work[name])
    return asdict(run_contender(key, Case(**work)))


def _random_weights(case: Case) -> None:
    """Write He-initialised weights with batch-norm statistics of the photos."""
    torch.manual_seed(0)
    network = getattr(torchvision.models, case.name)().train()
    with torch.no_grad():
        for images, _ in DataLoader(Photos(case, "train"), 64, shuffle=True):
            network(images)
    torch.save(network.state_dict(), case.weights)


def _split_folder(data: Path, scratch: Path) -> Path:
    """Link the files of class folders into ``train`` and ``val``, a fifth of each class in ``val``."""
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        files: Sequence[Path] = sorted(folder.iterdir())
        order = np.random.default_rng(0).permutation(len(files))
        for position, index in enumerate(order):
            split = "val" if position < len(files) // 5 else "train"
            target = scratch / split / folder.name / files[index].name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(files[index].resolve())
    return scratch


if __name__ == "__main__":
    main()
