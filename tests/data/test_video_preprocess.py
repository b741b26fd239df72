"""From a video to clips: which frames, how large, and the same bits from the file as from memory."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms._presets import VideoClassification

import restune
from restune.data.decode import DecodeError
from restune.data.preprocess import preprocess_from_dict
from restune.data.preprocess import video as module
from restune.data.preprocess.video import VideoPreprocess
from restune.data.video import probe

sys.path.insert(0, str(Path(__file__).parents[1]))
from motion import write_video

SMALL = VideoPreprocess(frames=4, crop=8, resize=None, interpolation="nearest")
SHARES = (0.0, 0.13, 0.5, 0.77, 0.999999)


def numbered(path, count, ticks=None, tick=Fraction(1, 25)):
    """A video whose frame n is a plain grey of 5 n + 5."""
    frames = np.repeat(np.arange(count, dtype=np.uint8) * 5 + 5, 16 * 16 * 3).reshape(count, 16, 16, 3)
    lossless = {"qp": "0", "crf": "0", "x264-params": "log-level=none:keyint=6"}
    return write_video(path, frames, ticks=ticks, tick=tick, options=lossless)


def shown(clip):
    """Which numbers a clip ``[C, T, h, w]`` shows."""
    return [round((value - 5) / 5) for value in clip[0, :, 4, 4].tolist()]


@pytest.fixture
def video(tmp_path):
    return numbered(tmp_path / "one.mp4", 20)


@pytest.mark.parametrize(
    ("changes", "timeline"),
    [
        ({}, list(range(20))),
        ({"stride": 3}, list(range(0, 20, 3))),
        ({"rate": 25.0}, list(range(20))),
        ({"rate": 12.5}, list(range(0, 20, 2))),
        ({"rate": 50.0}, [n for n in range(20) for _ in range(2)]),
        ({"rate": 25.0, "stride": 2}, list(range(0, 20, 2))),
        ({"rate": 10.0}, [0, 2, 5, 7, 10, 12, 15, 17]),
        ({"rate": 0.5}, [0]),
    ],
)
def test_the_sampled_timeline(video, changes, timeline):
    preprocess = SMALL.override(**changes)
    whole = preprocess.whole(video)
    assert shown(whole) == timeline
    assert preprocess.whole_bytes(video) == whole.nbytes
    starts = max(1, len(timeline) - 3)
    held = timeline + [timeline[-1]] * 4
    for share in SHARES:
        start = int(share * starts)
        assert shown(preprocess.clip_of(video, share)) == held[start : start + 4]
    middle = (starts - 1) // 2
    assert shown(preprocess.apply(video)) == held[middle : middle + 4]


def test_variable_frame_rates_are_sampled_by_time(tmp_path):
    ticks = [0, 40, 50, 60, 500, 510, 900]
    for name in ("one.mp4", "one.mkv"):
        path = numbered(tmp_path / name, 7, ticks=ticks, tick=Fraction(1, 1000))
        assert shown(SMALL.whole(path)) == list(range(7))
        times = np.arange(10) * 0.1
        expected = [max(n for n, tick in enumerate(ticks) if tick / 1000 <= time + 1e-3) for time in times]
        assert shown(SMALL.override(rate=10).whole(path)) == expected


def test_times_rounded_to_milliseconds_lose_no_frame(tmp_path):
    ticks = [round(1000 * n / 30) for n in range(31)]
    path = numbered(tmp_path / "one.mkv", 31, ticks=ticks, tick=Fraction(1, 1000))
    assert shown(SMALL.override(rate=30).whole(path)) == list(range(31))


def test_short_videos_hold_their_last_frame(tmp_path):
    path = numbered(tmp_path / "short.mp4", 2)
    whole = SMALL.whole(path)
    assert shown(whole) == [0, 1]
    for clip in (SMALL.apply(path), SMALL.view(whole), SMALL.clip_of(path, 0.9), SMALL.window(whole, 0.9)):
        assert shown(clip) == [0, 1, 1, 1]
    assert [shown(clip) for clip in SMALL.spread(path)] == [[0, 1, 1, 1]] * 3


def test_evaluation_clips_are_spread_from_start_to_end(video):
    assert [shown(clip) for clip in SMALL.spread(video)] == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    assert [shown(clip) for clip in SMALL.override(clips=1).spread(video)] == [shown(SMALL.apply(video))]
    assert SMALL.spread(video).shape == (3, 3, 4, 8, 8)
    assert [shown(clip)[0] for clip in SMALL.override(clips=5).spread(video)] == [0, 4, 8, 12, 16]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"rate": 10.0}, {"stride": 4}, {"rate": 60.0, "stride": 2}])
def test_real_clips_are_the_same_from_the_file_as_from_memory(real_data, changes):
    folder = real_data / "video"
    paths = [*sorted((folder / "lung").rglob("*.*")), *sorted((folder / "frames" / "demo_dataset").glob("*/*"))]
    assert len(paths) == 18
    preprocess = VideoPreprocess(frames=6, crop=32, resize=40).override(**changes)
    for path in paths[::6] if changes else paths:
        whole = preprocess.whole(path)
        assert whole.nbytes == preprocess.whole_bytes(path)
        assert torch.equal(preprocess.view(whole), preprocess.apply(path))
        for share in (0.2, 0.7):
            assert torch.equal(preprocess.clip_of(path, share), preprocess.window(whole, share))
        spread = preprocess.spread(path)
        assert spread.shape == (3, 3, 6, 32, 32)
        assert torch.equal(spread[2], preprocess.center(preprocess.window(whole, 0.999999)))


def test_frames_look_as_torchvision_makes_them(tmp_path):
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (5, 6, 9, 3), dtype=np.uint8)
    frames = coarse.repeat(20, 1).repeat(20, 2)  # 120 x 180
    path = write_video(tmp_path / "one.mp4", frames, options={"qp": "0", "crf": "0"})
    preprocess = VideoPreprocess(frames=5, crop=56, resize=64)
    every = VideoPreprocess(frames=5, crop=120, resize=None).override(crop=1).whole(path)
    assert every.shape == (3, 5, 120, 180)
    theirs = v2.Compose([v2.Resize(64, antialias=True), v2.CenterCrop(56)])(every.transpose(0, 1)).transpose(0, 1)
    assert torch.equal(preprocess.apply(path), theirs)
    squashed = v2.functional.resize(every.transpose(0, 1), [56, 56], antialias=True).transpose(0, 1)
    assert torch.equal(preprocess.override(crop=0).apply(path), squashed)


def test_normalisation_is_torchvisions_of_kinetics():
    clip = torch.randint(0, 256, (2, 3, 4, 112, 112), dtype=torch.uint8)
    frames = clip.transpose(1, 2).contiguous()
    theirs = VideoClassification(crop_size=(112, 112), resize_size=(112, 112))(frames)
    x, mask = VideoPreprocess().inputs(clip)
    assert mask is None
    torch.testing.assert_close(x, theirs, rtol=0, atol=1e-6)


def test_a_batch(video):
    batch = SMALL.stack([SMALL.apply(video), SMALL.apply(video)])
    assert (batch.shape, batch.dtype) == ((2, 3, 4, 8, 8), torch.uint8)
    grey = SMALL.with_channels(1)
    assert grey.channels == 1
    assert grey.apply(video).shape == (1, 4, 8, 8)
    assert grey.mean == pytest.approx((sum(SMALL.mean) / 3,))
    with pytest.raises(DecodeError, match="the model expects 5"):
        SMALL.with_channels(5).apply(video)


def test_a_strip_is_cut_before_it_is_resized(tmp_path):
    frames = np.full((3, 16, 1600, 3), 255, np.uint8)
    frames[:, :, 672:928] = 0  # the middle sixteen times as long as wide
    path = write_video(tmp_path / "strip.mp4", frames)
    preprocess = VideoPreprocess(frames=2, crop=32, resize=32)
    whole = preprocess.whole(path)
    assert whole.shape == (3, 3, 32, 512)
    assert whole[..., 16:-16].max() < 8
    assert preprocess.whole_bytes(path) == 3 * 3 * 32 * 512
    assert preprocess.apply(path).shape == (3, 2, 32, 32)


def test_a_whole_that_does_not_fit_is_refused(video, monkeypatch):
    monkeypatch.setattr(module, "memory_bytes", lambda: 1000)
    with pytest.raises(DecodeError, match="more than half of this machine's memory"):
        SMALL.whole(video)
    assert shown(SMALL.clip_of(video, 0)) == [0, 1, 2, 3]


def test_times_that_lie_take_no_memory(tmp_path):
    path = numbered(tmp_path / "far.mkv", 4, ticks=[0, 40, 80, 10**9], tick=Fraction(1, 1000))
    assert probe(path).times[-1] == pytest.approx(10**6)
    preprocess = SMALL.override(rate=30)
    assert shown(preprocess.apply(path)) == [2, 2, 2, 2]
    assert preprocess.whole_bytes(path) > 10**9
    assert [shown(clip)[0] for clip in preprocess.spread(path)][:2] == [0, 2]


def test_what_is_saved_is_read_back():
    preprocess = VideoPreprocess(frames=8, rate=12.5, stride=2, crop=64, resize=72, clips=4, mean=(0.5,), std=(0.2,))
    assert preprocess_from_dict(preprocess.to_dict()) == preprocess
    partial = {"kind": "video", "mean": list(preprocess.mean), "std": [0.2]}
    assert preprocess_from_dict(partial) == VideoPreprocess(mean=(0.5,), std=(0.2,))
    assert str(VideoPreprocess()).startswith(
        "16 frames (the file's own) of 112 pixels (shorter side to 128, centre crop, bilinear), mean 0.43216,"
    )


def test_override():
    preprocess = VideoPreprocess()
    assert preprocess.override() == preprocess
    small = preprocess.override(image_size=56, frames=8, rate=10, stride=2, clips=1, mean=0.5, std=(0.1, 0.2, 0.3))
    assert (small.crop, small.resize, small.frames, small.rate, small.stride, small.clips) == (56, 64, 8, 10, 2, 1)
    assert (small.mean, small.std) == ((0.5,) * 3, (0.1, 0.2, 0.3))
    assert small.override(rate=0).rate is None
    assert small.override(crop=0).resize is None
    assert small.override(crop=0.5).resize == 112
    with pytest.raises(restune.UserError, match="--length does not apply to video"):
        preprocess.override(length=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames must be a whole number"),
        ({"frames": 2.5}, "frames must be a whole number"),
        ({"stride": 0}, "stride must be a whole number"),
        ({"clips": 1000}, "clips must be a whole number"),
        ({"rate": -1}, "the rate must be"),
        ({"rate": float("nan")}, "the rate must be"),
        ({"interpolation": "bilinaer"}, "Did you mean 'bilinear'"),
        ({"crop": 1.5}, "the crop must be a share"),
        ({"image_size": 0}, "the image size must be"),
        ({"mean": (0.1, 0.2)}, "2 values for 3 channels"),
        ({"std": 0}, "every std must be above"),
        ({"mean": float("inf")}, "must be finite"),
        ({"frames": 4096, "image_size": 2000}, "too large a clip"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(restune.UserError, match=message):
        VideoPreprocess().override(**changes)


def test_a_crop_must_fit():
    with pytest.raises(restune.UserError, match="does not fit"):
        VideoPreprocess(crop=112, resize=100)
