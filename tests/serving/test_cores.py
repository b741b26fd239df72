"""A batch has its share of the cores; a lone input has as many as answer it fastest."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from restune.serving import cores as cores_module
from restune.serving.cores import Cores


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The clock by which batches are timed: it moves only while one is computed."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(cores_module, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def timed(clock, cores, seconds, *, is_alone=True, is_typical=True):
    """Compute a batch that takes as long as `seconds` says of its threads; return that number of threads."""
    with cores.used(lambda: is_alone, is_typical=is_typical):
        count = torch.get_num_threads()
        clock.seconds += seconds.get(count, 0)
    return count


@pytest.mark.parametrize(("seconds", "fastest"), [({2: 0.002, 4: 0.02}, 2), ({2: 0.02, 4: 0.002}, 4)])
def test_lone_inputs_find_the_fastest_number_of_threads(clock, seconds, fastest):
    cores, before = Cores(slots=2, count=4), torch.get_num_threads()
    tried = [timed(clock, cores, seconds) for _ in range(8)]
    assert sorted(tried) == [2] * 4 + [4] * 4
    assert [timed(clock, cores, seconds) for _ in range(3)] == [fastest] * 3
    assert timed(clock, cores, seconds, is_typical=False) == fastest
    assert timed(clock, cores, seconds, is_alone=False) == 2
    assert torch.get_num_threads() == before


def test_only_lone_and_typical_inputs_are_timed(clock):
    cores = Cores(slots=2, count=4)
    for _ in range(20):
        timed(clock, cores, {}, is_typical=False)
        timed(clock, cores, {}, is_alone=False)
    assert cores.alone is None


def test_one_slot_has_all_cores(clock):
    cores = Cores(slots=1, count=3)
    assert [timed(clock, cores, {}, is_alone=alone) for alone in (True, False)] == [3, 3]
