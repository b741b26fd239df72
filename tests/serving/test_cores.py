"""A batch has its share of the cores; a lone input has as many as answer it fastest."""

from __future__ import annotations

import time

import pytest
import torch

from restune.serving.cores import Cores


def timed(cores, seconds, size=1, *, is_alone=True):
    """Compute a batch that takes as long as `seconds` says of its threads; return that number of threads."""
    with cores.used(size, lambda: is_alone):
        count = torch.get_num_threads()
        time.sleep(seconds.get(count, 0))
    return count


@pytest.mark.parametrize(("seconds", "fastest"), [({2: 0.002, 4: 0.02}, 2), ({2: 0.02, 4: 0.002}, 4)])
def test_lone_inputs_find_the_fastest_number_of_threads(seconds, fastest):
    cores, before = Cores(slots=2, count=4), torch.get_num_threads()
    tried = [timed(cores, seconds) for _ in range(8)]
    assert sorted(tried) == [2] * 4 + [4] * 4
    assert [timed(cores, seconds) for _ in range(3)] == [fastest] * 3
    assert timed(cores, seconds, size=8) == fastest
    assert timed(cores, seconds, is_alone=False) == 2
    assert torch.get_num_threads() == before


def test_only_lone_single_inputs_are_timed():
    cores = Cores(slots=2, count=4)
    for _ in range(20):
        timed(cores, {}, size=3)
        timed(cores, {}, is_alone=False)
    assert cores.alone is None


def test_one_slot_has_all_cores():
    cores = Cores(slots=1, count=3)
    assert [timed(cores, {}, is_alone=alone) for alone in (True, False)] == [3, 3]
