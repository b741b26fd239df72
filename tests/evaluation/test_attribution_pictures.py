"""Pictures of maps say what the map says, with and without colour."""

from __future__ import annotations

import base64
import io
import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from restune.evaluation.attribution.overlay import gallery_overlay, overlaid, strip
from restune.evaluation.attribution.series import series_svg, standalone
from restune.evaluation.attribution.words import shaded


def test_heat_is_orange_for_and_violet_against_and_the_unseen_is_faded():
    heat = np.zeros((40, 60), np.float32)
    heat[5:15, 5:15], heat[25:35, 25:35], heat[:, 50:] = 2.0, -2.0, np.nan
    drawn = overlaid(np.full((40, 60, 3), 90, np.uint8), heat).astype(int)
    red, green, blue = drawn[10, 10]
    assert red > green > blue
    red, green, blue = drawn[30, 30]
    assert blue > red > green
    assert len(set(drawn[20, 45])) == 1, "grey where the map is 0"
    assert drawn[20, 55].mean() > drawn[20, 45].mean() + 40
    outline = drawn[4:16, 4:16].mean(axis=2)
    assert outline[1, 5] == 0, "a black line inside the region"
    assert outline[0, 5] == 255, "a white line outside, on any photo"
    assert 0 not in drawn[24:36, 24:36].mean(axis=2), "evidence against is not outlined"


def test_frames_share_one_scale():
    frames = np.full((3, 20, 20, 1), 90, np.uint8)
    heat = np.zeros((3, 20, 20), np.float32)
    heat[0], heat[1] = 0.1, 1.0
    drawn = np.asarray(strip(frames, heat)).astype(int)
    first, second, third = (drawn[35, 10 + 24 * place] for place in range(3))
    assert second[0] - second[2] > 4 * (first[0] - first[2]) > 0
    assert third[0] == third[2]


def test_a_gallery_picture_is_small_upright_and_faithful():
    """A photo on its side, bright at the top of its upright form; the heat is at the bottom right."""
    image = Image.fromarray(np.full((60, 90, 3), 128, np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", exif=exif)
    heat = np.zeros((9, 6), np.float32)
    heat[8, 5] = 1
    url = gallery_overlay(buffer.getvalue(), heat, side=45)
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)
    assert drawn.shape == (45, 30, 3)
    assert len(url) < 3000
    assert drawn[43, 28, 0] - drawn[43, 28, 2] > 60
    assert abs(drawn[2, 2, 0] - drawn[2, 2, 2]) < 20


def test_a_series_is_drawn_whole():
    values = np.stack([np.sin(np.arange(5000) / 40), np.zeros(5000)]).astype(np.float32)
    heat = np.where(np.arange(5000) < 100, np.nan, np.linspace(-1, 1, 5000)).astype(np.float32)
    svg = series_svg(values, heat, 'a "series" <1>', "channel {n}", "evidence")
    root = ElementTree.fromstring(standalone(svg))
    assert root.attrib["aria-label"] == 'a "series" <1>'
    assert len(root.findall("{*}polyline")) == 2
    assert [text.text for text in root.findall("{*}text")] == [
        "channel 1",
        "channel 2",
        "evidence",
        "0",
        "2,499",
        "4,999",
    ]
    assert len(svg) < 60_000
    bars = [path.attrib["d"].count("M") for path in root.findall("{*}path")][-2:]
    assert bars[0] > 50 < bars[1]


def test_a_shaded_text_is_the_text():
    text = "a <b>&amp; \n 没有 </mark>"
    heat = np.linspace(-1, 1, len(text)).astype(np.float32)
    heat[3] = np.nan
    html = str(shaded(text, heat))
    assert unescape(re.sub(r"</?mark[^>]*>", "", html)) == text
    assert 'class="heat against"' in html
    assert 'class="heat strong"' in html
    assert str(shaded("long" * 10, np.zeros(40, np.float32), most=7)) == "longlon..."
