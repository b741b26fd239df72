"""Evaluations keep logits, are saved and read back, in bounded memory, with very many classes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import restune
from restune.evaluation import logits as storage
from restune.evaluation.evaluation import EvaluationBuilder, load_evaluation
from restune.evaluation.metrics import ClipCount


def built(n=50, classes=7, **about):
    generator = torch.Generator().manual_seed(1)
    builder = EvaluationBuilder(tuple(f"c{number}" for number in range(classes)))
    logits = torch.randn(n, classes, generator=generator)
    targets = torch.randint(0, classes, (n,), generator=generator)
    for start in range(0, n, 16):
        part = slice(start, start + 16)
        builder.add([f"item {i}" for i in range(n)[part]], targets[part].tolist(), logits[part])
    return builder.evaluation(model="m", data="d", fingerprint="f", **about), logits, targets


@pytest.mark.parametrize("limit", [0, 1000, 10**9])
def test_what_is_saved_is_read_back(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(storage, "_IN_MEMORY", limit)
    evaluation, logits, targets = built(skipped=(("bad.jpg", "empty"),), clips=ClipCount(9, 4))
    assert isinstance(evaluation.logits, np.memmap) == (limit < 50 * 7 * 4)
    back = load_evaluation(evaluation.save(tmp_path / "scores.npz"))
    assert np.array_equal(evaluation.logits, logits.numpy())
    assert np.array_equal(back.logits, logits.numpy())
    assert np.array_equal(back.targets, targets.numpy())
    assert back.ids == tuple(f"item {i}" for i in range(50))
    assert back.to_dict() == evaluation.to_dict()


def test_numpy_reads_the_file_without_pickle(tmp_path):
    evaluation, logits, targets = built()
    with np.load(evaluation.save(tmp_path / "scores.npz"), allow_pickle=False) as content:
        assert np.array_equal(content["logits"], logits.numpy())
        assert content["logits"].dtype == np.float32
        assert np.array_equal(content["targets"], targets.numpy())
        assert content["ids"][3] == "item 3"
        assert content["classes"].tolist() == [f"c{number}" for number in range(7)]


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_another_file_is_one_message(tmp_path, content):
    path = tmp_path / "scores.npz"
    np.savez(path, logits=np.zeros((2, 3), np.float32)) if content is None else path.write_bytes(content)
    with pytest.raises(restune.UserError, match="not a saved evaluation"):
        load_evaluation(path)
    with pytest.raises(restune.UserError, match="is saved as"):
        built()[0].save(tmp_path / "scores.csv")


@pytest.mark.slow
def test_a_hundred_thousand_items_of_a_thousand_classes_in_bounded_memory(tmp_path):
    """400 MB of logits; anonymous memory, which memory maps are not part of, grows by far less."""
    code = f"""
import re, torch
from pathlib import Path
from restune.evaluation.evaluation import EvaluationBuilder, load_evaluation
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
builder = EvaluationBuilder(tuple(map(str, range(1000))))
part = torch.randn(1000, 1000)
builder.add(["warm up"], [0], part[:1])
before = most = anonymous()
for number in range(100):
    builder.add([f"{{number}} {{row}}" for row in range(1000)], [row % 1000 for row in range(1000)], part)
    most = max(most, anonymous())
evaluation = builder.evaluation()
evaluation.save({str(tmp_path / "scores.npz")!r})
most = max(most, anonymous())
back = load_evaluation({str(tmp_path / "scores.npz")!r})
print(back.n, back.logits.shape[1], round(max(most, anonymous()) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n, classes, grown = map(int, done.stdout.split())
    print(f"anonymous memory grew by {grown} MiB for 381 MiB of logits")
    assert (n, classes) == (100_001, 1000)
    assert grown < 200


def test_sixty_thousand_classes_have_a_result():
    """A dense confusion matrix would take 29 GB."""
    classes = tuple(map(str, range(60_000)))
    builder = EvaluationBuilder(classes)
    logits = torch.zeros(4, 60_000)
    logits[range(4), [5, 5, 59_999, 7]] = 9.0
    builder.add(list("abcd"), [5, 6, 59_999, 7], logits)
    content = builder.evaluation().to_dict()
    assert content["accuracy"] == 0.75
    assert content["confused_pairs"] == [(5, 5, 1), (6, 5, 1), (7, 7, 1), (59_999, 59_999, 1)]
    assert "confusion" not in content
    assert content["per_class"]["5"]["precision"] == 0.5
    json.dumps(content)
