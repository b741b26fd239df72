"""Class folders of videos and of folders of frames are data of the kind video; images stay images."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset
from restune.data.sources.clips import VIDEO_SUFFIXES, ClipLocation, is_video_name, looks_like_clips, open_clips
from restune.data.video import probe

sys.path.insert(0, str(Path(__file__).parents[1]))
from motion import CLASSES, motion_frames, write_motion, write_video

VIDEO = DataOptions(kind="video")


@pytest.fixture
def videos(tmp_path):
    return write_motion(tmp_path / "motion", clips_per_class=2, size=32, frames=4)


def write_images(folder, count=3):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (16, 12), (number, 0, 0)).save(folder / f"frame_{number}.jpg")


def summary(dataset):
    return [(item.id, dataset.classes[item.target], item.split) for item in dataset.items]


def test_class_folders_of_video_files(videos):
    dataset = open_dataset(videos)
    assert (dataset.kind, dataset.classes, len(dataset)) == ("video", CLASSES, 24)
    assert summary(dataset)[:2] == [("move_e/0000.mp4", "move_e", None), ("move_e/0001.mp4", "move_e", None)]
    for item in dataset.items:
        path = item.location.read()
        assert path == videos / item.id
        assert len(probe(path)) == 4


def test_split_folders_and_every_suffix(videos, tmp_path):
    for split in ("train", "test"):
        for number, suffix in enumerate(sorted(VIDEO_SUFFIXES)):
            folder = tmp_path / "data" / split / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(videos / "move_n" / "0000.mp4", folder / f"{number}{suffix.upper()}")
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.kind, dataset.classes) == ("video", ("class0", "class1"))
    assert dataset.splits() == {"train": len(VIDEO_SUFFIXES), "test": len(VIDEO_SUFFIXES)}
    assert len(VIDEO_SUFFIXES) == 36


def test_folders_of_frames_are_clips_where_the_kind_is_named(tmp_path):
    for name in ("run/one", "run/deeper/two", "jump/one"):
        write_images(tmp_path / "data" / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "run" / "poster.jpg")  # beside the clips, and none itself
    dataset = open_dataset(tmp_path / "data", VIDEO)
    assert dataset.kind == "video"
    assert summary(dataset) == [
        ("jump/one", "jump", None),
        ("run/deeper/two", "run", None),
        ("run/one", "run", None),
    ]
    assert len(probe(dataset.items[0].location.read())) == 3
    assert open_dataset(tmp_path / "data").kind == "image"


def test_files_and_folders_of_frames_together(videos):
    write_images(videos / "move_n" / "frames")
    named = open_dataset(videos, VIDEO)
    assert len(named) == 25
    assert "move_n/frames" in set(named.ids())


def test_images_stay_images(photos, videos):
    assert not looks_like_clips(photos)
    shutil.copy(videos / "move_n" / "0000.mp4", photos / "red" / "stray.mp4")
    assert not looks_like_clips(photos)
    assert open_dataset(photos).kind == "image"
    gifs = photos.parent / "gifs"
    for name in ("a", "b"):
        (gifs / name).mkdir(parents=True)
        frames = motion_frames("move_n", np.random.default_rng(0), 16, 3)
        write_video(gifs / name / "0.gif", frames, codec="gif", pixels="rgb8")
    assert not looks_like_clips(gifs)
    assert open_dataset(gifs).kind == "image"
    assert open_dataset(gifs, VIDEO).kind == "video"
    shutil.copy(videos / "move_n" / "0000.mp4", gifs / "a" / "1.mp4")
    assert looks_like_clips(gifs)
    assert len(open_dataset(gifs)) == 3


def test_layouts_that_are_none_are_refused(tmp_path, videos, photos):
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(restune.UserError, match="no videos here"):
        open_clips(tmp_path / "empty", kind_named=True)
    with pytest.raises(restune.UserError, match=r"2 videos lie outside any class folder, such as 0000\.mp4"):
        open_clips(videos / "move_n")
    with pytest.raises(restune.UserError, match="2 videos lie outside any class folder, such as blue"):
        open_clips(photos, kind_named=True)


def test_a_table_of_real_clips_with_patients(real_data):
    root = real_data / "video" / "lung"
    options = DataOptions(root=root, group_column="patient_id")
    dataset = open_dataset(real_data / "video" / "lung.csv", options)
    assert (dataset.kind, dataset.class_counts()) == ("video", {"Cov": 7, "Reg": 7})
    assert {item.group for item in dataset.items} == {"120", "134", "119", "3", "10", "4", "118"}
    for item in dataset.items:
        assert item.location.read() == root / item.id
        assert item.location.read().is_file()


def test_real_folders_of_frames(real_data):
    dataset = open_dataset(real_data / "video" / "frames", VIDEO)
    assert [item.id for item in dataset.items] == ["jumping/0001", "jumping/0002", "running/0001", "running/0002"]
    assert dataset.classes == ("jumping", "running")


def test_signatures_follow_the_content(tmp_path):
    write_images(tmp_path / "clip")
    location = ClipLocation(tmp_path / "clip")
    before = location.signature()
    assert before.startswith("3:")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "clip" / "frame_1.jpg")
    assert location.signature() != before
    (tmp_path / "one.mp4").write_bytes(b"12345")
    assert ClipLocation(tmp_path / "one.mp4").signature() == "5"
    assert ClipLocation(tmp_path / "none.mp4").signature() == "missing"


def test_what_cannot_be_read_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        ClipLocation(tmp_path / "none.mp4").read()
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(FileNotFoundError, match="neither a file nor a folder"):
        ClipLocation(tmp_path / "pipe.mp4").read()


def test_names():
    assert is_video_name("a/b.MP4")
    assert is_video_name("x.gif")
    assert not is_video_name("x.jpg")
    assert not is_video_name("mp4")


def test_the_motion_data_say_nothing_by_one_frame(tmp_path):
    """The same seed gives the same files; a motion backwards is another class with the same places."""
    one, two = (write_motion(tmp_path / name, 1, seed=3, size=32, frames=4) for name in ("one", "two"))
    for path in one.rglob("*.mp4"):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    assert (
        write_motion(tmp_path / "three", 1, seed=4, size=32, frames=4).joinpath("zoom_in/0000.mp4").read_bytes()
        != (one / "zoom_in" / "0000.mp4").read_bytes()
    )
    # A nearest-neighbour look at single middle frames stays at chance, 1 in 12.
    frames = np.array(
        [
            [motion_frames(name, np.random.default_rng((7, place, n)), 16, 9)[4] for n in range(60)]
            for place, name in enumerate(CLASSES)
        ],
        np.float32,
    ).mean(-1)
    frames = frames.reshape(12, 60, -1)
    known, unknown = frames[:, :40].reshape(480, -1), frames[:, 40:].reshape(240, -1)
    nearest = ((unknown[:, None] - known[None]) ** 2).sum(-1).argmin(1) // 40
    assert (nearest == np.arange(240) // 20).mean() < 0.16
