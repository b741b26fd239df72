"""Explanations and feature maps through the server: the maps of `Model.explain`, and the stages' own outputs."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import requests
import torch
from PIL import Image

import restune
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.inference.model import Model
from restune.serving.answers import Limits
from restune.serving.app import make_app
from restune.serving.engine import Engine
from restune.weights.bundle import BundleInfo

sys.path.insert(0, str(Path(__file__).parents[1]))
from motion import write_video


def model(name, preprocess, **options):
    torch.manual_seed(0)
    network = restune.create_model(name, num_classes=2, **options).eval()
    return Model(network, BundleInfo(spec=network.spec, classes=("no", "yes"), preprocess=preprocess), "test")


@pytest.fixture(scope="module")
def models():
    return {
        "text": model("textresnet", TextPreprocess(), width=8, in_channels=8, vocabulary=257),
        "series": model("resnet1d_ts", SignalPreprocess(channels=2, length=500), in_channels=2, width=4),
    }


@pytest.fixture(scope="module")
def kinds(models, running):
    limits = Limits()
    with running(make_app({name: Engine(one) for name, one in models.items()}, limits), limits) as address:
        yield address


def explanation(kinds, name, one):
    answer = requests.post(f"{kinds}/predict?model={name}&explain=true", json={"inputs": [one]})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"][0]["explanation"]


def test_a_text_comes_in_pieces_with_the_value_of_each_character(models, kinds):
    text = "他说得对 cafe\u0301 <b>"  # an accent that is composed
    found = explanation(kinds, "text", {"text": text})["pieces"]
    (wanted,) = models["text"].explain(text)
    assert "".join(piece for piece, _ in found) == wanted.text
    values = [value for piece, value in found for _ in piece]
    np.testing.assert_allclose(np.array(values, float), wanted.on_original(), rtol=1e-3, atol=1e-6)
    long = explanation(kinds, "text", {"text": "word " * 10_000})["pieces"]
    assert sum(len(piece) for piece, _ in long) == 20_001
    assert long[-1] == ["…", None]


def test_a_series_comes_with_its_map_where_the_network_saw_it(models, kinds):
    values = np.random.default_rng(0).normal(size=(2, 520)).astype(np.float32)
    found = explanation(kinds, "series", {"series": values.tolist()})
    (wanted,) = models["series"].explain(values)
    assert found["length"] == 520
    np.testing.assert_allclose(np.array(found["heat"], float), wanted.on_original(), rtol=1e-3, atol=1e-6)
    assert found["heat"][:10] == [None] * 10  # cut off by the preprocessing
    np.testing.assert_allclose(found["channels"], values, rtol=1e-4)


def test_a_long_series_is_thinned_without_losing_its_peaks(models, kinds):
    values = np.zeros((2, 50_000), np.float32)
    values[0, 31_234], values[1, 77] = 9.0, -7.0
    found = explanation(kinds, "series", {"series": values.tolist()})
    assert len(found["heat"]) == 600
    assert [len(channel) for channel in found["channels"]] == [600, 600]
    assert (max(found["channels"][0]), min(found["channels"][1])) == (9.0, -7.0)
    assert found["channels"][0].index(9.0) == pytest.approx(600 * 31_234 / 50_000, abs=2)


def pixels(url):
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_feature_maps_are_the_most_varied_channels_of_each_stage(address, engine, photos):
    answer = requests.post(f"{address}/feature-maps?maps=3", data=photos["dark"])
    assert answer.status_code == 200, answer.text
    network, preprocess = engine.model.module, engine.model.preprocess
    with torch.inference_mode():
        outputs = network.forward_stages(preprocess.normalize(preprocess.apply(photos["dark"])[None]))
    stages = answer.json()["stages"]
    assert [stage["name"] for stage in stages] == ["stem", "stage1", "stage2", "stage3"]
    for stage in stages:
        values = outputs[stage["name"]][0].numpy()
        assert stage["shape"] == list(values.shape)
        best = np.argsort(-values.std(axis=(1, 2)), kind="stable")[:3]
        assert [one["channel"] for one in stage["maps"]] == best.tolist()
        for one in stage["maps"]:
            own = values[one["channel"]]
            assert (one["least"], one["largest"]) == pytest.approx((own.min(), own.max()), rel=1e-3, abs=1e-6)
            grey = np.zeros_like(own) if own.max() == own.min() else (own - own.min()) / (own.max() - own.min()) * 255
            np.testing.assert_allclose(pixels(one["image"]).astype(float), grey, atol=1)


def test_feature_maps_of_series_are_lines_without_their_padding(models, kinds):
    values = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32)
    answer = requests.post(f"{kinds}/feature-maps?model=series&maps=2", json={"inputs": [{"series": values.tolist()}]})
    stages = answer.json()["stages"]
    assert {stage["shape"][1] for stage in stages} == {40}
    assert pixels(stages[1]["maps"][0]["image"]).shape == (1, 40)


def test_what_feature_maps_refuse(address, photos):
    def refused(status, **request):
        answer = requests.post(f"{address}/feature-maps", **request)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]["what"]

    refused(422, data=photos["dark"], params={"maps": 17})
    refused(422, data=photos["dark"], params={"maps": 0})
    refused(404, data=photos["dark"], params={"model": "other"})
    assert "cannot be read" in refused(422, data=photos["dark"][:70])
    two = [("file", (name, content)) for name, content in photos.items()]
    assert "too many" in refused(413, files=two)


def test_the_structure_is_drawn_in_both_languages(address):
    for language, word in (("en", "stage 1"), ("zh", "第 1 阶段")):
        drawn = requests.get(f"{address}/structure", params={"lang": language}).json()
        for form in ("wide", "narrow"):
            root = ElementTree.fromstring(drawn[form])
            parts = [group.get("data-part") for group in root if group.get("data-part")]
            assert parts == ["title", "stem", "stage1", "stage2", "stage3", "head"]
            assert word in "".join(root.itertext())


def test_errors_are_in_the_language_that_the_client_accepts(address, photos):
    def reason(language):
        answer = requests.post(f"{address}/predict", data=b"no image", headers={"Accept-Language": language})
        body = answer.json()
        return body["error"]["what"], body["predictions"][0]["error"]

    assert reason("en-GB,zh;q=0.5") == reason("fr") == ("no input can be read", "not an image in a known format")
    assert reason("zh-CN,zh;q=0.9,en;q=0.8") == ("没有可以读取的输入", "不是已知格式的图像")


def test_a_clip_comes_as_eight_frames_and_the_same_with_their_map(running, tmp_path):
    torch.manual_seed(0)
    network = restune.create_model("r3d_18", num_classes=2, width=4).eval()
    preprocess = VideoPreprocess(frames=16, crop=32, resize=36, stride=2, clips=1)
    clips = Model(network, BundleInfo(spec=network.spec, classes=("no", "yes"), preprocess=preprocess), "test")
    shades = np.repeat(np.arange(0, 256, 8, dtype=np.uint8), 40 * 48 * 3).reshape(32, 40, 48, 3)
    content = write_video(tmp_path / "one.mp4", shades).read_bytes()
    limits = Limits()
    with running(make_app({"clips": Engine(clips)}, limits), limits) as address:
        answer = requests.post(f"{address}/predict?explain=true", data=content).json()
        found = answer["predictions"][0]["explanation"]
        encoded = [found[name].partition(",")[2] for name in ("frames", "map")]
        pictures = [Image.open(io.BytesIO(base64.b64decode(one))) for one in encoded]
        assert [picture.size for picture in pictures] == [(4 * 32, 2 * 32)] * 2
        grey = np.asarray(pictures[0].convert("L"), float)
        middles = [grey[row + 16, column + 16] for row in (0, 32) for column in (0, 32, 64, 96)]
        assert middles == sorted(middles)  # in the order of time
        assert middles[-1] - middles[0] > 60
        stages = requests.post(f"{address}/feature-maps?maps=2", data=content).json()["stages"]
        assert len(stages[1]["shape"]) == 4
        assert pixels(stages[1]["maps"][0]["image"]).shape == tuple(stages[1]["shape"][2:])
