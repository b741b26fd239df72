"""Texts, series, labels and numbers through the server, as `Model.predict` answers them."""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
import pytest
import requests
import torch

import restune
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.data.video_bytes import VideoBytes, VideoContent, VideoLimits
from restune.inference.model import Model
from restune.serving.answers import Limits
from restune.serving.app import make_app
from restune.serving.engine import Engine
from restune.weights.bundle import BundleInfo

sys.path.insert(0, str(Path(__file__).parents[1]))
from motion import write_video


def model(name, preprocess, task="single-label", **options):
    torch.manual_seed(0)
    network = restune.create_model(name, num_classes=2, **options).eval()
    info = BundleInfo(spec=network.spec, classes=("no", "yes"), preprocess=preprocess, task=task)
    return Model(network, info, "test")


@pytest.fixture(scope="module")
def models():
    images = restune.ImagePreprocess(crop=32)
    return {
        "text": model("textresnet", TextPreprocess(), width=8, in_channels=8, vocabulary=257),
        "series": model("resnet1d_ts", SignalPreprocess(channels=2), in_channels=2, width=4),
        "sounds": model("resnet1d_ts", SignalPreprocess(), in_channels=1, width=4),
        "labels": model("resnet8", images, task="multi-label"),
        "numbers": model("resnet8", images, task="regression"),
        "video": model("r3d_18", VideoPreprocess(frames=4, crop=16, resize=20, clips=2), width=4),
    }


@pytest.fixture(scope="module")
def kinds(models, running):
    limits = Limits()
    app = make_app({name: Engine(one) for name, one in models.items()}, limits)
    with running(app, limits) as address:
        yield address


def ask(kinds, name, **request):
    answer = requests.post(f"{kinds}/predict?model={name}", **request)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def check(found, predicted):
    for one, prediction in zip(found, predicted, strict=True):
        wanted = prediction.to_dict()
        assert one["label"] == wanted["label"]
        assert one["probability"] == pytest.approx(wanted["probability"], abs=1e-5)


def test_texts(models, kinds):
    texts = ["a fine film", "他说得对", ""]
    wanted = models["text"].predict(texts)
    check(ask(kinds, "text", json={"inputs": [{"text": text} for text in texts]}), wanted)
    check(ask(kinds, "text", data=texts[1].encode(), headers={"Content-Type": "text/plain"}), wanted[1:2])
    check(ask(kinds, "text", files=[("text", (None, texts[0]))]), wanted[:1])
    body = {"inputs": [{"name": "inputs", "shape": [3], "datatype": "BYTES", "data": texts}]}
    answer = requests.post(f"{kinds}/v2/models/text/infer", json=body).json()
    assert answer["outputs"][1]["data"] == [prediction.label for prediction in wanted]


def test_videos(models, kinds, tmp_path, monkeypatch):
    paths = []
    for number in range(2):
        frames = np.random.default_rng(number).integers(0, 255, (12, 24, 32, 3), dtype=np.uint8)
        paths.append(write_video(tmp_path / f"{number}.mp4", frames))
    contents, wanted = [path.read_bytes() for path in paths], models["video"].predict(paths)
    assert wanted[0].probability != wanted[1].probability

    def on_disk(*_, **__):
        raise AssertionError("an upload goes to the disk")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", on_disk)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", on_disk)
    check(ask(kinds, "video", data=contents[0], headers={"Content-Type": "video/mp4"}), wanted[:1])
    check(ask(kinds, "video", files=[("file", ("a.mp4", one)) for one in contents]), wanted)
    encoded = [base64.b64encode(one).decode() for one in contents]
    check(ask(kinds, "video", json={"inputs": [{"b64": one} for one in encoded]}), wanted)
    body = {"inputs": [{"name": "inputs", "shape": [2], "datatype": "BYTES", "data": encoded}]}
    answer = requests.post(f"{kinds}/v2/models/video/infer", json=body).json()
    assert answer["outputs"][1]["data"] == [prediction.label for prediction in wanted]
    for bad in (contents[0][:200], b"not a video", bytes(10_000)):
        refused = requests.post(f"{kinds}/predict?model=video", data=bad)
        assert refused.status_code == 422
        assert refused.json()["predictions"][0]["error"]
    monkeypatch.setattr(VideoContent, "read", lambda own: VideoBytes(own.content, VideoLimits(frames=11)))
    refused = requests.post(f"{kinds}/predict?model=video", data=contents[0])
    assert "more than 11 frames" in refused.json()["predictions"][0]["error"]


def test_series_and_sounds(models, kinds):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    values = np.random.default_rng(0).normal(size=(3, 2, 40)).astype(np.float32)
    wanted = models["series"].predict(list(values))
    check(ask(kinds, "series", json={"inputs": [{"series": one.tolist()} for one in values]}), wanted)
    client = triton.InferenceServerClient(kinds.removeprefix("http://"))
    tensor = triton.InferInput("inputs", list(values.shape), "FP32").set_data_from_numpy(values)
    answer = client.infer("series", [tensor])
    assert answer.as_numpy("label").tolist() == [prediction.label.encode() for prediction in wanted]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((1000 * values[0]).astype("<i2").tobytes())
    check(ask(kinds, "sounds", data=buffer.getvalue()), models["sounds"].predict(buffer.getvalue()))
    uneven = requests.post(f"{kinds}/predict?model=series", json={"inputs": [{"series": [[1.0], [1.0, 2.0]]}]})
    assert uneven.status_code == 422


def test_labels_and_numbers(models, kinds, photos):
    for name, field in (("labels", "probabilities"), ("numbers", "values")):
        (wanted,) = models[name].predict(photos["dark"])
        (found,) = ask(kinds, name, data=photos["dark"])
        assert found[field] == pytest.approx(wanted.to_dict()[field], abs=1e-4)
        answer = requests.post(f"{kinds}/predict?model={name}&explain=true", data=photos["dark"])
        assert answer.status_code == 422
        assert "predict one class" in answer.json()["error"]["what"]
    described = {one["name"]: (one["kind"], one["task"]) for one in requests.get(f"{kinds}/models").json()["models"]}
    assert described == {
        "text": ("text", "single-label"),
        "series": ("signal", "single-label"),
        "sounds": ("signal", "single-label"),
        "labels": ("image", "multi-label"),
        "numbers": ("image", "regression"),
        "video": ("video", "single-label"),
    }
