"""Stateless randomness: rows alone, together and in any order are the same; and they are uniform."""

from __future__ import annotations

import numpy as np
import scipy.stats

from restune.core.streams import derive, generator, torch_seed, uniforms


def test_a_row_alone_is_the_row_among_others():
    together = uniforms(7, "flip", range(100), 6, 3)
    for row in (0, 1, 42, 99):
        assert np.array_equal(uniforms(7, "flip", [row], 6, 3)[0], together[row])
    scattered = [5, 6, 7, 90, 2, 2, 41]
    assert np.array_equal(uniforms(7, "flip", scattered, 6, 3), together[scattered])


def test_everything_matters():
    base = uniforms(7, "flip", [1], 4, 3)
    for other in (
        uniforms(8, "flip", [1], 4, 3),
        uniforms(7, "crop", [1], 4, 3),
        uniforms(7, "flip", [2], 4, 3),
        uniforms(7, "flip", [1], 4, 4),
    ):
        assert not np.intersect1d(base, other).size
    assert derive(1, "a", 23) != derive(1, "a", 2, 3) != derive(12, "a", 3)
    assert 0 <= torch_seed(1, "init") < 2**63
    assert np.array_equal(generator(1, "order", 2).permutation(9), generator(1, "order", 2).permutation(9))


def test_rows_are_uniform_and_do_not_hang_together():
    drawn = uniforms(0, "flip", range(20_000), 3)
    for column in drawn.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03
