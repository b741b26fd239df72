"""Score the text recipe on questions, movie reviews and SMS, over several seeds.

Command: python benchmarks/texts.py ../shared/data/text --seeds 3
Questions that are also in the test split are removed from train. The test split is a fixed tenth of each class of
movie reviews and a fifth of SMS, with identical texts in one split. `--validation` scores a tenth of train instead,
for choosing settings.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from pathlib import Path

import numpy as np

import restune
from restune.core.console import quiet
from restune.data.sources import open_dataset
from restune.training.recipe import parse_assignment

SETS = ("TREC", "movie reviews", "SMS spam")


def rows(folder: Path, name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]] | None]:
    """Return (text, label) pairs: train, and test or None."""
    if name == "SMS spam":
        lines = (folder / "sms.tsv").read_text(encoding="utf-8").splitlines()
        return [(text, label) for label, text in (line.split("\t", 1) for line in lines)], None
    if name == "movie reviews":
        return labelled(folder / "rt-polarity.all"), None
    test = labelled(folder / "TREC.test.all")
    known = {text for text, _ in test}
    return [row for row in labelled(folder / "TREC.train.all") if row[0] not in known], test


def labelled(path: Path) -> list[tuple[str, str]]:
    data = open_dataset(path)
    return [(item.location.read().strip(), data.classes[item.target]) for item in data.items]


def held_out(pairs: list[tuple[str, str]], share: float, seed: int) -> tuple[list, list]:
    """Hold out a share of each class, with identical texts in one split; return both splits."""
    random = np.random.default_rng(seed)
    taken: set[str] = set()
    for label in sorted({label for _, label in pairs}):
        texts = sorted({text for text, own in pairs if own == label})
        taken |= {texts[i] for i in random.permutation(len(texts))[: round(share * len(texts))]}
    return [row for row in pairs if row[0] not in taken], [row for row in pairs if row[0] in taken]


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *pairs])
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="")
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    changes = dict(parse_assignment(text) for text in options.set)
    for name in SETS:
        if options.only and options.only not in name:
            continue
        train, test = rows(options.folder, name)
        if test is None:
            train, test = held_out(train, 0.2 if name == "SMS spam" else 0.1, 0)
        if options.validation:
            train, test = held_out(train, 0.1, 1)
        scores, seconds = [], []
        for seed in range(options.first, options.first + options.seeds):
            with tempfile.TemporaryDirectory() as temporary, quiet():
                folder = Path(temporary)
                test_file = write(folder / "test.csv", test)
                run = restune.train(
                    write(folder / "train.csv", train), test=test_file, val=0, seed=seed, out=folder / "run",
                    set=changes,
                )  # fmt: skip
            scores.append(100 * run.result["test"]["accuracy"])
            seconds.append(run.result["seconds"])
        listed = ", ".join(f"{score:.2f}" for score in scores)
        print(
            f"{name:15} mean {statistics.mean(scores):.2f}% ({listed}; n = {run.result['test']['n']}, train "
            f"{run.result['items']['train']}); {statistics.median(seconds):.0f} s per run",
            flush=True,
        )


if __name__ == "__main__":
    main()
