"""Video learns motion: which way digits move can be told from clips, and from neither shuffled nor single frames."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import restune

sys.path.insert(0, str(Path(__file__).parents[1]))
from motion import CLASSES, write_motion

OPPOSITE = {"n": "s", "ne": "sw", "e": "w", "se": "nw", "s": "n", "sw": "ne", "w": "e", "nw": "se"}
DIRECTIONS = [place for place, name in enumerate(CLASSES) if name.startswith("move_")]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "least", "most"), [("clips", 0.95, 1.0), ("shuffled", 0, 0.6), ("single", 0, 0.3)])
def test_directions(tmp_path, what, least, most):
    for side, count, seed in (("train", 60, 0), ("test", 20, 1)):
        write_motion(tmp_path / side, count, seed, 32, 8, shuffled=what == "shuffled")
    changes = {"spec.width": 16, "video.frames": 1 if what == "single" else 8, "video.clips": 1}
    run = restune.train(
        tmp_path, model="r3d_18", out=tmp_path / "run", image_size=32, epochs=8, val=0, set=changes
    )  # fmt: skip
    confusion = restune.evaluate(run.out, tmp_path, split="test").confusion[DIRECTIONS]
    accuracy = confusion[range(8), DIRECTIONS].sum() / confusion.sum()
    assert confusion.sum() == 160
    assert least <= accuracy <= most
    if what == "shuffled":  # which shows the line that is moved along, and not which way
        names = [CLASSES[place].removeprefix("move_") for place in DIRECTIONS]
        back = confusion[range(8), [CLASSES.index(f"move_{OPPOSITE[name]}") for name in names]].sum()
        forth = confusion[range(8), DIRECTIONS].sum()
        assert 0.3 < forth / (forth + back) < 0.7
