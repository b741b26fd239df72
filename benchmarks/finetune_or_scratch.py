"""Compare fine-tuning with training from scratch: same time budget, same test items.

Command: python benchmarks/finetune_or_scratch.py sign-digits/Dataset resnet56-4bfd9763.th [--time 90s]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from finetune_vs_peers import bootstrap

import restune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--time", default="90s")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    alike = {"image_size": options.image_size, "test": 0.2, "seed": options.seed, "time": options.time}
    with tempfile.TemporaryDirectory() as folder:
        tuned = restune.finetune(options.data, weights=options.weights, out=Path(folder) / "tuned", **alike)
        name = tuned.result["model"]
        scratch = restune.train(options.data, model=name, batch_size=32, out=Path(folder) / "scratch", **alike)
        runs = {f"fine-tuned {name}": tuned, f"{name} from scratch": scratch}
        names = [line.split(",")[0] for line in (tuned.out / "split.csv").read_text().splitlines() if ",test," in line]
        paths = [options.data / name for name in names]
        right = {}
        for kind, run in runs.items():
            predictions = restune.predict(run.out, paths)
            right[kind] = np.array(
                [prediction.label == path.parent.name for prediction, path in zip(predictions, paths, strict=True)]
            )
    for kind, hits in right.items():
        score = runs[kind].result["test"]
        low, high = score["interval"]
        print(f"{kind:28} {score['accuracy']:.2%} ({low:.2%} to {high:.2%}, n = {score['n']}), "
              f"{runs[kind].result['epochs']} epochs in {runs[kind].result['seconds']:.0f} s")  # fmt: skip
        assert abs(hits.mean() - score["accuracy"]) < 1e-9
    one, other = right.values()
    low, high = bootstrap(one, other)
    difference = 100 * (one.mean() - other.mean())
    print(f"difference {difference:+.2f} points (95% paired bootstrap {100 * low:+.2f} to {100 * high:+.2f})")


if __name__ == "__main__":
    main()
