"""What changes series and texts at random: by hand where it can be, else by what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restune.data.augment import Augment, RandomKey
from restune.data.augment_series import UNKNOWN, change_time, change_values, drop_tokens


def place(count, epoch=0, seed=0):
    return RandomKey(seed=seed, epoch=epoch, positions=tuple(range(count)), step=0)


def ramps(count=50, length=40):
    return [torch.arange(length, dtype=torch.float32).repeat(2, 1) + 100 * number for number in range(count)]


def test_a_window_is_a_part_of_the_series_of_the_asked_length():
    parts = change_time(ramps(), Augment(window=0.25), place(50))
    starts = {int(part[0, 0]) % 100 for part in parts}
    assert all(part.shape == (2, 10) for part in parts)
    assert all(torch.equal(part[0].diff(), torch.ones(9)) for part in parts)
    assert min(starts) >= 0
    assert max(starts) <= 30
    assert len(starts) > 15
    assert all(
        torch.equal(one, other) for one, other in zip(ramps(), change_time(ramps(), Augment(), place(50)), strict=True)
    )


def test_warped_time_runs_forward_keeps_its_ends_and_its_speed_within_bounds():
    for warped in change_time(ramps(), Augment(warp=0.5), place(50)):
        steps = warped[0].diff()
        assert warped.shape == (2, 40)
        assert float(warped[0, 0]) % 100 == pytest.approx(0, abs=1e-3)
        assert float(warped[0, -1]) % 100 == pytest.approx(39, abs=1e-3)
        assert float(steps.min()) > 1 / 1.5**2 - 1e-3
        assert float(steps.max()) < 1.5**2 + 1e-3
        assert torch.equal(warped[0], warped[1]), "channels stay together"
    assert not torch.allclose(warped, ramps()[-1], atol=0.1)
    assert change_time([torch.ones(1, 1)], Augment(warp=0.5), place(1))[0].tolist() == [[1.0]]


def test_scaling_and_jitter_have_the_asked_spread_and_leave_padding():
    batch = torch.ones(400, 2, 30)
    batch[0, :, 20:] = torch.nan
    scaled = change_values(batch.clone(), Augment(scaling=0.2), place(400))
    factors = scaled[:, :, 0]
    assert torch.allclose(scaled[1:], factors[1:, :, None].expand(-1, -1, 30)), "one factor a channel"
    assert factors.mean().item() == pytest.approx(1, abs=0.03)
    assert factors.std().item() == pytest.approx(0.2, abs=0.02)
    noisy = change_values(batch.clone(), Augment(jitter=0.3), place(400))
    assert (noisy[1:] - 1).std().item() == pytest.approx(0.3, abs=0.01)
    assert noisy[0].isnan().sum() == scaled[0].isnan().sum() == 20
    assert change_values(batch, Augment(), place(400)) is batch


def test_dropped_tokens_are_unknown_and_as_many_as_asked():
    texts = [torch.full((50,), 7, dtype=torch.int32) for _ in range(100)]
    dropped = torch.stack(drop_tokens(texts, 0.2, place(100)))
    assert set(dropped.unique().tolist()) == {UNKNOWN, 7}
    assert (dropped == UNKNOWN).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert dropped.dtype == torch.int32
    assert all(one is other for one, other in zip(texts, drop_tokens(texts, 0.0, place(100)), strict=True))


@pytest.mark.parametrize("augment", [Augment(window=0.5), Augment(warp=0.3), Augment(jitter=0.1, scaling=0.1)])
def test_what_is_drawn_depends_on_the_place_and_on_nothing_else(augment):
    def changed(series, where):
        moved = change_time([one.clone() for one in series], augment, where)
        return change_values(torch.stack(moved), augment, where)

    whole = changed(ramps(8), place(8))
    alone = changed(ramps(8)[5:6], RandomKey(seed=0, epoch=0, positions=(5,), step=3))
    assert torch.equal(whole[5:6], alone)
    assert not torch.equal(whole, changed(ramps(8), place(8, epoch=1)))
    assert not torch.equal(whole, changed(ramps(8), place(8, seed=1)))


def test_noise_is_the_same_whatever_the_batch():
    texts = [torch.arange(2, 40, dtype=torch.int32) for _ in range(6)]
    whole = drop_tokens(texts, 0.3, place(6))
    (alone,) = drop_tokens(texts[:1], 0.3, RandomKey(seed=0, epoch=0, positions=(4,), step=9))
    assert torch.equal(whole[4], alone)
    assert np.mean([float((one == UNKNOWN).float().mean()) for one in whole]) > 0
