"""Fit many heads on the same frozen features, and one on features read from disk.

Command: python benchmarks/heads.py [--rounds 3] [--large 1000000]
First part, 10,000 x 512 rows of 10 classes: the time of fifty heads (ten L2 strengths, with and without class weights,
label smoothing 0, 0.1 and, unweighted, 0.2) against one head; and the loss against scikit-learn's on the same rows.
Second part: a store of `--large` rows on disk, a head fitted from it, and its peak anonymous memory (pages of mapped
files, which the system can drop, are not counted).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from restune.core.rowstore import RowStore, content_key
from restune.inference.features import FeatureRows
from restune.training.logistic import Problem, Solver, l2_grid, principal_axes, solve
from restune.training.objective import balanced_weights

WIDTH, CLASSES = 512, 10
STRENGTHS = 10


def clouds(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw overlapping classes of non-negative features, like pooled activations; classes differ in size."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(count, generator=generator).square() * CLASSES).long()
    centers = torch.rand(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1)) * 0.5
    return (centers[targets] + torch.randn(count, WIDTH, generator=generator)).relu(), targets


def many_heads(rounds: int) -> None:
    rows, targets = clouds(10_000)
    counts = torch.bincount(targets, minlength=CLASSES).tolist()
    kinds = [(weights, smoothing) for weights in (None, balanced_weights(counts)) for smoothing in (0.0, 0.1)]
    kinds.append((None, 0.2))
    middle = l2_grid(principal_axes(rows))[10]
    one, fifty, losses = [], [], []
    for _ in range(rounds):
        started = time.perf_counter()
        head = solve(Problem(rows=rows, targets=targets, classes=CLASSES), middle)
        one.append(time.perf_counter() - started)
        started = time.perf_counter()
        solver, fitted = None, 0
        for weights, smoothing in kinds:
            if solver is None:
                solver = Solver(Problem(rows=rows, targets=targets, classes=CLASSES))
            else:
                solver = solver.varied(class_weights=weights, smoothing=smoothing)
            grid = l2_grid(solver.axes)[4 : 4 + STRENGTHS]
            fitted += sum(1 for _ in solver.path(grid))
        fifty.append(time.perf_counter() - started)
    from sklearn.linear_model import LogisticRegression

    started = time.perf_counter()
    theirs = LogisticRegression(C=1 / (middle * len(rows)), max_iter=5000, tol=1e-6).fit(rows.numpy(), targets.numpy())
    seconds = time.perf_counter() - started
    for weight, bias in ((theirs.coef_, theirs.intercept_), (head.weight.numpy(), head.bias.numpy())):
        w, b = torch.from_numpy(weight).double(), torch.from_numpy(bias).double()
        loss = F.cross_entropy(rows.double() @ w.T + b, targets) + middle / 2 * w.square().sum()
        losses.append(float(loss))
    ratio = statistics.median(fifty) / statistics.median(one)
    print(f"{len(rows):,} x {WIDTH}, {CLASSES} classes, medians of {rounds}")
    print(f"  one head {statistics.median(one):.3f} s; {fitted} heads {statistics.median(fifty):.3f} s: "
          f"{ratio:.1f} times one")  # fmt: skip
    print(f"  scikit-learn, one head {seconds:.2f} s; loss {losses[0]:.7f}, restune's {losses[1]:.7f}", flush=True)


def from_disk(count: int, folder: Path) -> None:
    """Fit a head from disk; run in its own process, so that only its memory is measured."""
    store = RowStore(folder / "rows", {"source": "benchmarks/heads.py"})
    size = 100_000
    targets = []
    for part in range(-(-count // size)):
        rows, labels = clouds(min(size, count - part * size), seed=part)
        targets.append(labels)
        store.add([content_key(f"{part} {row}".encode()) for row in range(len(rows))], rows.numpy())
    keys = [content_key(f"{n // size} {n % size}".encode()) for n in range(count)]
    features = FeatureRows(store.rows(keys))
    del rows
    with anonymous_memory() as most:
        started = time.perf_counter()
        problem = Problem(rows=features, targets=torch.cat(targets), classes=CLASSES)
        axes = principal_axes(features)
        head = solve(problem, l2_grid(axes)[10], axes=axes)
        seconds = time.perf_counter() - started
    nbytes = features.content.nbytes
    print(f"{count:,} x {WIDTH} from disk ({nbytes / 2**20:,.0f} MiB): {seconds:.1f} s, {head.iterations} iterations, "
          f"loss {head.loss:.5f}; anonymous memory: peak {most[0]:.0f} MiB, {most[1]:.0f} before")  # fmt: skip


@contextmanager
def anonymous_memory() -> Iterator[list[float]]:
    """Measure the peak anonymous memory within the block and that before it, MiB; sampled 50 times per second."""
    seen = [_anonymous_mib()] * 2
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            seen[0] = max(seen[0], _anonymous_mib())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _anonymous_mib() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    np.seterr(all="raise", under="ignore")
    if options.folder:
        from_disk(options.large, options.folder)
        return
    many_heads(options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--large", str(options.large), "--folder", folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
