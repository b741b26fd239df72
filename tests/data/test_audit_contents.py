"""Findings about texts, series, videos and class names."""

from __future__ import annotations

import numpy as np
import pytest

from restune.data.audit.audit import Audit
from restune.data.audit.contents import (
    find_label_twins,
    find_series_faults,
    find_text_faults,
    find_video_faults,
)
from restune.data.dataset import Dataset, Item
from restune.data.sources import open_dataset


class Held:
    """A location that holds its content."""

    def __init__(self, content):
        self.content = content

    def read(self):
        return self.content

    def signature(self):
        return str(self.content)[:16]


def dataset(kind, contents):
    items = tuple(Item(str(place), Held(content), place % 2) for place, content in enumerate(contents))
    return Audit(Dataset(items, ("a", "b"), "held", kind=kind))


def found(findings):
    return {(one.item, one.finding) for one in findings}


def test_texts():
    texts = [f"an ordinary text of some length, number {number}" for number in range(40)]
    texts[3] = " \n"
    texts[5] = "A cafÃ© in ZÃ¼rich, number 5, which is ordinary"
    texts[6] = "itâ€™s an ordinary text of some length"
    texts[7] = "lost \ufffd characters in an ordinary text, 7"
    texts[8] = "word " * 900
    texts[9] = "x"
    texts[10] = "Émile déjà vu, Ça va, Ångström, São Paulo, 10 à 12"  # right as it is
    texts[11] = "Хорошо, 你好, 1 £ and 2 € and «quotes» in Ââà words"
    wanted = {("3", "flat"), ("5", "mixed-encoding"), ("6", "mixed-encoding"), ("7", "mixed-encoding")}
    wanted |= {("8", "odd-size"), ("9", "odd-size")}
    result = list(find_text_faults(dataset("text", texts)))
    assert found(result) == wanted
    assert next(one for one in result if one.item == "3").suggestion == "drop: an empty text"
    assert not list(find_series_faults(dataset("text", texts)))


def test_series():
    random = np.random.default_rng(0)
    series = [random.normal(size=(1, 100)).astype(np.float32) for _ in range(40)]
    series[2][:] = 3.0
    series[4][0, :30] = np.nan
    series[5][0, :30] = 9.0
    series[6] = random.normal(size=(1, 5000)).astype(np.float32)
    series[7] = np.tile([0.0, 0.0, 0.0, 1.0, 1.0], 20)[None].astype(np.float32)  # states, which stay where they are
    series[9][0, 50:54] = 9.0  # a peak
    series[8][0, ::4] = 9.0  # as often at its limit, but never in a row
    wanted = {("2", "flat"), ("4", "missing-values"), ("5", "saturated"), ("6", "odd-size")}
    assert found(find_series_faults(dataset("signal", series))) == wanted


def test_what_most_items_have_is_a_property_of_the_set():
    series = [np.where(np.arange(100) < 20, np.nan, np.random.default_rng(n).normal(size=100))[None] for n in range(30)]
    (one,) = find_series_faults(dataset("signal", series))
    assert (one.item, one.finding, one.severity, one.score) == ("", "missing-values", "note", 1.0)
    empty = list(find_text_faults(dataset("text", [""] * 10 + ["a text"] * 20)))
    assert len(empty) == 10, "each item that is to be dropped is named"


def test_videos(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    for name, count, moves in (("a/moving", 30, True), ("a/still", 30, False), ("b/short", 6, True)):
        path = tmp_path / "clips" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            still = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 64, 3))
            for number in range(count):
                frame = np.full((64, 64, 3), 8 * number, np.uint8) if moves else still
                for packet in stream.encode(av.VideoFrame.from_ndarray(frame)):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    audit = Audit(open_dataset(tmp_path / "clips"))
    texts = {one.item: one.suggestion for one in find_video_faults(audit)}
    assert texts == {
        "a/still.mp4": "look: nothing moves in this video",
        "b/short.mp4": "look: a video of 6 frames",
    }


def test_class_names(write_noise, tmp_path):
    data = write_noise(tmp_path / "data", Cat=(0, 6), cat=(60, 2), dog=(120, 6))
    (one,) = find_label_twins(Audit(open_dataset(data)))
    assert (one.finding, one.suggestion) == ("label-twins", "look: one class? 'Cat' (6), 'cat' (2)")
