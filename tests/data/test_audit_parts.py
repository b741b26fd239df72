"""Parts of restune check against computations of another kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from restune.data.audit.copies import grouped_copies, numbered
from restune.data.audit.image_measures import MEASURES, measure
from restune.data.audit.perceptual import TRANSFORMS, coefficients_of, distances, hashes_of
from restune.data.audit.text_copies import _resemblance, _resembling
from restune.data.audit.verify import _accepted
from restune.data.decode import decode_image, decode_preview

PILLOW = {
    "mirrored": ImageOps.mirror, "flipped upside down": ImageOps.flip,
    "rotated by 180 degrees": lambda image: image.rotate(180),
    "rotated by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "rotated by 270 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "transposed": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "transposed along the other diagonal": lambda image: image.transpose(Image.Transpose.TRANSVERSE),
}  # fmt: skip


@pytest.mark.parametrize("name", PILLOW)
def test_hashes_of_turned_images_follow_from_the_coefficients(name):
    thumbnail = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    turned = np.asarray(PILLOW[name](Image.fromarray(thumbnail)))
    transform = next(one for one in TRANSFORMS if one.name == name)
    assert (transform.of_images(thumbnail[None])[0] == turned).all()
    followed = hashes_of(np.ascontiguousarray(transform.of_coefficients(coefficients_of(thumbnail[None]))))
    assert distances(followed, hashes_of(coefficients_of(turned[None])))[0] <= 1  # a coefficient of nearly 0


def test_brightness_and_blur_are_cleanvisions(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 200, (48, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    values = dict(
        zip(MEASURES, measure(Image.fromarray(pixels), decode_preview(content, 128), len(content)), strict=False)
    )
    red, green, blue = pixels.astype(int).transpose(2, 0, 1)
    brightness = np.sqrt(0.241 * red**2 + 0.691 * green**2 + 0.068 * blue**2) / 255  # calculate_brightness
    assert values["brightest"] == pytest.approx(np.percentile(brightness, 99), abs=1e-5)
    assert values["darkest"] == pytest.approx(np.percentile(brightness, 5), abs=1e-5)
    assert (values["width"], values["height"]) == (60, 48)


def test_large_jpeg_files_are_decoded_at_a_reduced_size_and_upright(tmp_path):
    ramp = np.linspace(0, 255, 900, dtype=np.uint8)[:, None, None] * np.ones((1, 600, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp).save(tmp_path / "a.jpg", exif=exif, quality=95)
    content = (tmp_path / "a.jpg").read_bytes()
    preview = decode_preview(content, 128)
    assert (preview.width, preview.height, preview.orientation) == (900, 600, 6)
    assert 128 <= min(preview.pixels.shape[1:]) < 300
    whole = decode_image(content).float().mean((0, 1))
    assert preview.pixels.float().mean((0, 1))[[0, -1]].tolist() == pytest.approx(whole[[0, -1]].tolist(), abs=3)


def test_resembling_texts_are_those_of_all_pairs():
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefghij"), 6)) for _ in range(400)]
    texts = [" ".join(random.choice(words, 30)) for _ in range(60)]
    for place in range(0, 40, 2):  # every second one becomes a copy with up to two other words
        copied = texts[place].split()
        for _ in range(place % 3):
            copied[random.integers(30)] = words[random.integers(400)]
        texts[place + 1] = " ".join(copied)
    first, second, _ = _resembling(texts, np.arange(60))
    pairs = {(a, b) for a in range(60) for b in range(a) if _resemblance(texts[a], texts[b]) >= 0.8}
    assert len(pairs) >= 15
    assert {(max(a, b), min(a, b)) for a, b in zip(first.tolist(), second.tolist(), strict=True)} == pairs


def test_the_limit_rises_where_many_pairs_lie_just_below_it():
    random = np.random.default_rng(0)
    strokes = random.uniform(0.3, 0.9, 5000).astype(np.float32)
    copies = np.full(300, 0.99, np.float32)
    least = np.full(5300, 0.7)
    accepted = _accepted(np.concatenate([strokes, copies]), least, items=2000)
    assert accepted[5000:].all()
    assert not accepted[:5000].any()
    photos = np.concatenate([random.uniform(0, 0.5, 5000).astype(np.float32), copies])
    assert _accepted(photos, least, items=2000).sum() == 300


def test_groups_are_the_components_of_equal_and_similar_items():
    keys = np.array([5, 7, 5, 9, 9, 1], np.uint64)
    others = np.array([1, 2, 3, 4, 5, 2], np.uint64)
    exact = numbered(keys, others, is_known=np.array([True] * 5 + [False]))
    assert [exact[0] == exact[2], exact[3] == exact[4], exact[1] == exact[5]] == [True, True, False]
    copies = grouped_copies(
        exact, np.array([0]), np.array([3]), np.array([0.9], np.float32), np.array([2]), ("a", "b", "c")
    )
    assert [rows.tolist() for rows in copies.members()] == [[0, 2, 3, 4]]
    assert copies.twins[[2, 4, 1]].tolist() == [3, 0, -1]
