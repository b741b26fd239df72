"""Frames come out as PyAV alone decodes them, whatever the container, the place and the damage."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.data import video
from restune.data.decode import DecodeError
from restune.data.video import probe, read_frames

sys.path.insert(0, str(Path(__file__).parents[1]))
from motion import write_video

FORMS = {
    "b-frames.mp4": {"options": {"bf": "3", "x264-params": "log-level=none:keyint=12:bframes=3", "preset": "medium"}},
    "open-gop.mp4": {"options": {"preset": "medium", "x264-params": "log-level=none:open-gop=1:keyint=8:bframes=2"}},
    "b-frames.avi": {"options": {"preset": "medium", "x264-params": "log-level=none:bframes=2:keyint=10"}},
    "one.mkv": {"options": {"preset": "medium", "x264-params": "log-level=none:keyint=10"}},
    "one.mov": {"codec": "mpeg4", "options": {"bf": "2"}},
    "one.m4v": {"codec": "mpeg4"},
    "one.avi": {"codec": "mpeg4"},
    "one.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "10"}},
    "nine.webm": {"codec": "libvpx-vp9", "options": {"g": "10", "cpu-used": "8"}},
    "one.mpg": {"codec": "mpeg1video"},
    "two.mpeg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "one.gif": {"codec": "gif", "pixels": "rgb8"},
    "raw.h264": {"options": {"preset": "medium", "x264-params": "log-level=none:bframes=2"}},
}


def moving(count=40, height=48, width=64):
    """A square that moves over a gradient: every frame differs from all others."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 200, width)
    frames[..., 1] = np.linspace(0, 200, height)[:, None]
    for number, frame in enumerate(frames):
        left, top = (3 * number) % (width - 10), (2 * number) % (height - 10)
        frame[top : top + 10, left : left + 10] = 255 - 4 * (number % 16)
    return frames


def plainly_decoded(path):
    """Every frame, in the order that PyAV gives them."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def read(path, wanted=None, fit=torch.clone, channels=3):
    timeline = probe(path)
    wanted = range(len(timeline)) if wanted is None else wanted
    return [pixels.permute(1, 2, 0).numpy() for pixels in read_frames(path, timeline, wanted, fit, channels)]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FORMS)
def test_every_frame_is_what_the_library_decodes(tmp_path, name):
    path = write_video(tmp_path / name, moving(), **FORMS[name])
    expected = plainly_decoded(path)
    assert len(expected) == 40
    timeline = probe(path)
    assert (len(timeline), timeline.width, timeline.height) == (40, 64, 48)
    np.testing.assert_allclose(timeline.times, np.arange(40) / 25, atol=6e-4)
    assert_same(read(path), expected)
    for first in (0, 1, 7, 11, 12, 24, 33, 39):  # whatever key frame decoding starts at
        assert_same(read(path, range(first, 40, 3)), expected[first::3])
    assert_same(read(path, [5, 5, 38, 38]), [expected[n] for n in (5, 5, 38, 38)])


def test_far_frames_are_reached_from_their_key_frames(tmp_path, monkeypatch):
    params = {"x264-params": "log-level=none:keyint=20:min-keyint=20:scenecut=0"}
    path = write_video(tmp_path / "long.mp4", moving(600), options=params)
    expected = plainly_decoded(path)
    timeline = probe(path)
    assert len(timeline.keys) == 30
    decoded = []
    monkeypatch.setattr(video, "_decode", lambda call, real=video._decode: decoded.append(0) or real(call))
    assert_same(read(path, [30, 31, 333, 590]), [expected[n] for n in (30, 31, 333, 590)])
    assert len(decoded) < 60


def test_a_file_that_cannot_be_sought_is_gone_through(tmp_path, monkeypatch):
    path = write_video(tmp_path / "one.mp4", moving(), **FORMS["b-frames.mp4"])
    expected = plainly_decoded(path)
    real = video._opened
    tries = []

    class Unseekable:
        def __init__(self, container):
            self._container, self._end = container, False

        def seek(self, *_, **__):
            tries.append(0)
            self._end = True

        def demux(self, stream):
            return iter(()) if self._end else self._container.demux(stream)

    def opened(path):
        from contextlib import contextmanager

        @contextmanager
        def inner():
            with real(path) as (container, stream):
                yield Unseekable(container), stream

        return inner()

    timeline = probe(path)
    decoded = []
    monkeypatch.setattr(video, "_decode", lambda call, real=video._decode: decoded.append(0) or real(call))
    monkeypatch.setattr(video, "_opened", opened)
    assert_same(read(path, [30, 35]), [expected[30], expected[35]])
    assert tries
    assert len(decoded) < 20  # what comes before the key frame is passed over
    assert len(timeline.keys) == 4


def test_variable_frame_rate(tmp_path):
    ticks = [0, 40, 50, 60, 500, 510, 1700, 1710]
    for name in ("one.mp4", "one.mkv", "one.webm"):
        codec = {"codec": "libvpx"} if name.endswith("webm") else {"options": {"preset": "medium"}}
        path = write_video(tmp_path / name, moving(8), ticks=ticks, tick=Fraction(1, 1000), **codec)
        np.testing.assert_allclose(probe(path).times, np.array(ticks) / 1000, atol=6e-4)
        assert_same(read(path), plainly_decoded(path))


def test_times_count_from_the_first_frame(tmp_path):
    path = write_video(tmp_path / "late.mkv", moving(5), ticks=[700, 740, 780, 820, 860], tick=Fraction(1, 1000))
    np.testing.assert_allclose(probe(path).times, np.arange(5) / 25, atol=6e-4)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_flags_are_honoured(tmp_path, rotation, flip):
    frames = moving(3)
    path = write_video(tmp_path / "turned.mp4", frames, rotation=rotation, flip=flip)
    expected = [np.rot90(frame, rotation // 90) for frame in plainly_decoded(path)]
    expected = [frame[:, ::-1] if flip else frame for frame in expected]
    timeline = probe(path)
    assert (timeline.height, timeline.width) == expected[0].shape[:2]
    assert_same(read(path), expected)


def test_transparency_lies_over_white(tmp_path):
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 4), (200, 0, 0, 0), np.uint8), format="rgba")
    with av.open(str(tmp_path / "clear.mov"), "w") as file:
        stream = file.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgba"
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    for channels in (1, 3):
        assert (read(tmp_path / "clear.mov", channels=channels)[0] == 255).all()


def test_one_channel_is_luma(tmp_path):
    path = write_video(tmp_path / "one.mp4", moving(3))
    weights = np.array([0.299, 0.587, 0.114])
    for grey, colour in zip(read(path, channels=1), plainly_decoded(path), strict=True):
        assert grey.shape == (48, 64, 1)
        assert np.abs(grey[..., 0] - colour @ weights).mean() < 2
    with pytest.raises(DecodeError, match="1 or 3 channels"):
        read(path, channels=4)


def test_frames_of_another_size_later_on(tmp_path):
    one = write_video(tmp_path / "one.h264", moving(10))
    two = write_video(tmp_path / "two.h264", moving(10, 32, 32))
    (tmp_path / "both.h264").write_bytes(one.read_bytes() + two.read_bytes())
    timeline = probe(tmp_path / "both.h264")
    assert (len(timeline), timeline.height, timeline.width) == (20, 48, 64)
    sizes = [frame.shape[:2] for frame in read(tmp_path / "both.h264")]
    assert sizes == [(48, 64)] * 10 + [(32, 32)] * 10


def test_decoding_does_not_depend_on_threads(tmp_path):
    path = write_video(tmp_path / "one.mp4", moving(), **FORMS["b-frames.mp4"])
    expected = plainly_decoded(path)
    with ThreadPoolExecutor(8) as pool:
        for start, frames in enumerate(pool.map(lambda start: read(path, range(start, 40)), range(24))):
            assert_same(frames, expected[start:])


@pytest.mark.parametrize(
    "name", ["index-last.mp4", "index-first.mp4", "one.avi", "one.gif", "one.webm", "two.mpeg", "one.mkv"]
)
def test_truncated_files_give_what_is_there_or_say_so(tmp_path, name, capfd):
    container = {"movflags": "faststart"} if name == "index-first.mp4" else None
    whole = write_video(tmp_path / name, moving(), container=container, **FORMS.get(name, {})).read_bytes()
    expected = plainly_decoded(tmp_path / name)
    lengths = []
    for cut in range(1, 40):
        path = tmp_path / f"cut{cut}{Path(name).suffix}"
        path.write_bytes(whole[: len(whole) * cut // 40])
        try:
            frames = read(path)
        except DecodeError:
            lengths.append(0)
            continue
        lengths.append(len(frames))
        assert all(frame.shape == (48, 64, 3) for frame in frames)
        if len(frames) > 1:  # the only one may be cut itself
            np.testing.assert_array_equal(frames[0], expected[0])
        assert_same(read(path, range(len(frames) // 2, len(frames))), frames[len(frames) // 2 :])
    assert all(before <= after for before, after in pairwise(lengths))
    if name != "index-last.mp4":
        assert 35 <= lengths[-1] <= 40
        assert sum(length > 0 for length in lengths) > 10
    assert capfd.readouterr().err == ""


def test_broken_key_frames_are_what_came_before_them(tmp_path):
    path = write_video(tmp_path / "one.mov", moving(), codec="png", pixels="rgb24")  # every frame a key frame
    expected = plainly_decoded(path)
    with av.open(str(path)) as file:
        places = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size][20:30]
    content = bytearray(path.read_bytes())
    for place, size in places:
        content[place : place + size] = bytes(size)
    path.write_bytes(content)
    assert len(probe(path).keys) == 40
    assert_same(read(path, range(18, 32)), [*expected[18:20], *[expected[19]] * 10, *expected[30:32]])
    assert_same(read(path, [25, 31]), [expected[19], expected[31]])


def test_frames_that_an_edit_list_hides_are_not_there(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", moving())
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 5 * packet.duration, packet.dts - 5 * packet.duration
                packet.stream = stream
                file.mux(packet)
    with av.open(str(tmp_path / "cut.mp4")) as file:
        assert sum(packet.is_discard for packet in file.demux(video=0)) == 5
    assert len(probe(tmp_path / "cut.mp4")) == 35
    assert_same(read(tmp_path / "cut.mp4"), plainly_decoded(whole)[5:])


@pytest.mark.parametrize("name", ["b-frames.mp4", "b-frames.avi", "one.webm", "two.mpeg", "one.gif"])
def test_damaged_files_never_crash(tmp_path, name):
    whole = np.frombuffer(write_video(tmp_path / name, moving(), **FORMS[name]).read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    used = 0
    for number in range(60):
        damaged = whole.copy()
        places = random.integers(0, len(whole), random.choice([1, 5, 50]))
        damaged[places] = random.integers(0, 256, len(places))
        path = tmp_path / f"{number}{Path(name).suffix}"
        path.write_bytes(damaged.tobytes())
        try:
            assert len(read(path)) == len(probe(path))
            used += 1
        except DecodeError:
            pass
    assert used > 20


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>not found</html>", "a web page, not a video"),
        (b"#EXTM3U\n#EXTINF:1\nother.ts\n", "not a video"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "not a video"),
        (b"label text\n" * 100, "not a video"),
        (bytes(range(256)) * 64, "not a video"),
    ],
)
def test_what_is_no_video(tmp_path, content, reason):
    write_video(tmp_path / "other.mp4", moving(3))
    (tmp_path / "one.mp4").write_bytes(content)
    with pytest.raises(DecodeError, match=reason):
        probe(tmp_path / "one.mp4")


def test_an_image_a_sound_and_a_pipe_are_no_videos(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    (tmp_path / "still.png").rename(tmp_path / "still.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        file.mux(stream.encode(samples))
        file.mux(stream.encode())
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (
        ("still", "not a video"),
        ("sound", "no video in this"),
        ("pipe", "neither a file"),
        ("gone", "No such"),
    ):
        with pytest.raises(DecodeError, match=reason):
            probe(tmp_path / f"{name}.mp4")


def test_sound_beside_the_video_does_no_harm(tmp_path):
    with av.open(str(tmp_path / "both.mp4"), "w") as file:
        sound = file.add_stream("aac", rate=16000, layout="mono")
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in moving(20):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate = 16000
            file.mux(sound.encode(samples))
        file.mux(stream.encode())
    assert_same(read(tmp_path / "both.mp4"), plainly_decoded(tmp_path / "both.mp4"))


def test_too_many_pixels(tmp_path, monkeypatch):
    path = write_video(tmp_path / "one.mp4", moving(3))
    monkeypatch.setenv("RESTUNE_MAX_PIXELS", "3000")
    video._probe_file.cache_clear()
    with pytest.raises(DecodeError, match="64x48 is too many pixels"):
        probe(path)


def test_a_size_that_only_the_stream_tells_is_limited_too(tmp_path, monkeypatch):
    """Of raw H.264 the decoder itself is the first to know the size: it is told the limit."""
    small = write_video(tmp_path / "small.h264", moving(300, 32, 32))
    large = write_video(tmp_path / "large.h264", moving(3, 480, 640))
    (tmp_path / "both.h264").write_bytes(small.read_bytes() + large.read_bytes())
    monkeypatch.setenv("RESTUNE_MAX_PIXELS", "3000")
    frames = read(tmp_path / "both.h264")
    assert [frame.shape for frame in frames] == [(32, 32, 3)] * 303


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write_video(tmp_path / "one.mp4", moving(3))
    video._probe_file.cache_clear()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(restune.UserError, match=r"pip install 'restune\[video\]'"):
        probe(path)


def write_images(folder, frames, pattern="frame_{}.png"):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / pattern.format(number))
    return folder


def test_a_folder_of_frames_is_ordered_by_number(tmp_path):
    frames = moving(12)
    folder = write_images(tmp_path / "clip", frames)
    (folder / ".frame_3.png").write_bytes(b"hidden")
    (folder / "notes.txt").write_text("no image")
    timeline = probe(folder)
    assert (len(timeline), timeline.width, timeline.height) == (12, 64, 48)
    np.testing.assert_allclose(timeline.times, np.arange(12) / 25)
    assert_same(read(folder), list(frames))
    assert_same(read(folder, [2, 2, 10]), [frames[2], frames[2], frames[10]])


def test_a_broken_image_is_the_one_before_it(tmp_path):
    frames = moving(6)
    folder = write_images(tmp_path / "clip", frames)
    for number in (0, 3, 4):
        (folder / f"frame_{number}.png").write_bytes(b"broken")
    shown = [frames[n] for n in (1, 1, 2, 2, 2, 5)]
    assert_same(read(folder), shown)
    for start in range(6):
        assert_same(read(folder, range(start, 6)), shown[start:])
    for image in folder.iterdir():
        image.write_bytes(b"broken")
    os.utime(folder, (1, 1))
    with pytest.raises(DecodeError, match="none of the 6 images"):
        probe(folder)
    with pytest.raises(DecodeError, match="no images"):
        probe(tmp_path)


MEASURED = """
import sys
from pathlib import Path
from restune.data.preprocess.video import VideoPreprocess
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
short, long = map(Path, sys.argv[1:])
preprocess = VideoPreprocess(frames=8, crop=56, resize=64)
for path in (short, long):
    preprocess.apply(path), preprocess.spread(path), preprocess.clip_of(path, 0.7)
    preprocess.override(rate=0.2).apply(path)
    print(peak())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path):
    frames = moving(50, 240, 320)
    short = write_video(tmp_path / "short.mp4", frames)
    with av.open(str(short)) as source, av.open(str(tmp_path / "long.mp4"), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        content = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        step = 50 * packets[0].duration
        for repeat in range(120):  # four minutes, 1.3 GiB of pixels
            for data, pts, dts, key in content:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.is_keyframe = pts + repeat * step, dts + repeat * step, key
                packet.time_base, packet.stream = packets[0].time_base, stream
                file.mux(packet)
    assert len(probe(tmp_path / "long.mp4")) == 6000
    command = [sys.executable, "-c", MEASURED, str(short), str(tmp_path / "long.mp4")]
    before, after = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert after - before < 24  # MiB; 20 whole frames are 4.4


def test_real_clips_decode(real_data):
    folder = real_data / "video"
    with (folder / "lung.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    for number, row in enumerate(rows):
        path, count = folder / "lung" / row["file"], int(row["frames"])
        timeline = probe(path)
        assert len(timeline) == count
        assert timeline.duration == pytest.approx(count / float(row["fps"]), rel=1e-3)
        wanted = [0, count // 3, count // 2, count - 1]
        ours = read(path, wanted)
        if number % 3 == 0:
            with av.open(str(path)) as file:
                decoded = list(file.decode(video=0))
            assert_same(ours, [decoded[n].to_ndarray(format="rgb24") for n in wanted])


def test_real_folders_of_frames_decode(real_data):
    folders = sorted((real_data / "video" / "frames" / "demo_dataset").glob("*/*"))
    assert len(folders) == 4
    for folder in folders:
        names = sorted(folder.iterdir())
        expected = [np.asarray(Image.open(name).convert("RGB")) for name in names]
        for ours, theirs in zip(read(folder), expected, strict=True):
            assert np.abs(ours.astype(int) - theirs).max() <= 3  # two JPEG decoders
