"""A video in memory is read as its file is, and within limits where it comes from somebody unknown."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from restune.data import video
from restune.data.decode import DecodeError
from restune.data.preprocess.video import VideoPreprocess
from restune.data.video_bytes import VideoBytes, VideoContent, VideoLimits

sys.path.insert(0, str(Path(__file__).parents[1]))
from motion import write_video

SAMPLING = VideoPreprocess(frames=4, crop=16, resize=20, clips=3)


@pytest.fixture(scope="module")
def frames():
    shown = np.zeros((50, 48, 64, 3), np.uint8)
    for number, frame in enumerate(shown):
        frame[number // 2 : number // 2 + 12, number : number + 12] = 255 - 3 * number
    return shown


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.avi", "one.mpg"])
def test_bytes_are_read_as_their_file(tmp_path, frames, name):
    codec = {"one.avi": "mpeg4", "one.mpg": "mpeg1video"}.get(name, "libx264")
    path = write_video(tmp_path / name, frames, codec=codec)
    wanted = SAMPLING.views(path, "spread")
    assert wanted.float().std() > 10
    assert torch.equal(SAMPLING.views(path.read_bytes(), "spread"), wanted)
    assert torch.equal(SAMPLING.views(VideoContent(path.read_bytes()).read(), "spread"), wanted)


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(5000), b"\x00\x00\x00\x18ftypmp42" + bytes(3000)])
def test_bytes_that_are_no_video_are_reported(content):
    with pytest.raises(DecodeError):
        SAMPLING.views(content, "spread")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (VideoLimits(frames=49), "more than 49 frames"),
        (VideoLimits(seconds=1.9), "longer than 1.9 s"),
        (VideoLimits(pixels=48 * 64 - 1), "64x48 is too many pixels for a frame"),
        (VideoLimits(reading=0), "reading it takes longer"),
    ],
)
def test_each_limit_is_kept(tmp_path, frames, limits, reason):
    content = write_video(tmp_path / "one.mp4", frames).read_bytes()
    with pytest.raises(DecodeError, match=reason):
        SAMPLING.views(VideoBytes(content, limits), "spread")
    exact = VideoLimits(frames=50, seconds=2.0, pixels=48 * 64)
    assert SAMPLING.views(VideoBytes(content, exact), "spread").shape == (3, 3, 4, 16, 16)


def test_a_video_whose_decoding_takes_long_is_left(tmp_path, monkeypatch):
    """Its last frames are wanted and its one key frame is the first: all frames before them are decoded."""
    content = write_video(tmp_path / "long.mp4", np.zeros((300, 16, 16, 3), np.uint8)).read_bytes()
    late = VideoPreprocess(frames=2, crop=16, resize=16, clips=1, stride=149)
    assert late.views(VideoBytes(content), "single").shape == (1, 3, 2, 16, 16)
    decode = video._decode

    def slow(call):
        time.sleep(0.005)
        return decode(call)

    monkeypatch.setattr(video, "_decode", slow)
    with pytest.raises(DecodeError, match=r"reading it takes longer than 0.3 s"):
        late.views(VideoBytes(content, VideoLimits(reading=0.3)), "single")
