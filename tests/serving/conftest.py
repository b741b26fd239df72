"""A small model that tells dark photos from bright ones, and its server in a thread of this process."""

from __future__ import annotations

import io
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.data.preprocess.image import ImagePreprocess
from restune.inference.load import load_model
from restune.serving.answers import Limits
from restune.serving.app import make_app
from restune.serving.engine import Engine
from restune.serving.server import bound, make_server
from restune.weights import bundle


def write_model(path, classes=("dark", "bright")):
    """Write a network whose logits follow the mean brightness: the second class for bright photos."""
    torch.manual_seed(0)
    network = restune.create_model("resnet8", num_classes=len(classes)).eval()
    with torch.inference_mode():
        dark, bright = (network.embed(torch.full((1, 3, 32, 32), value), None)[0] for value in (-1.0, 1.0))
    direction = (bright - dark) / (bright - dark).square().sum()
    network.fc.weight.data.zero_()
    network.fc.weight.data[1] = 8 * direction
    network.fc.bias.data.zero_()
    network.fc.bias.data[1] = -8 * (direction @ (bright + dark)) / 2
    preprocess = ImagePreprocess(crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    info = bundle.BundleInfo(spec=network.spec, name="resnet8", classes=tuple(classes), preprocess=preprocess)
    bundle.write_bundle(path, network.state_dict(), info)
    return path


def photo(value, form="PNG", size=(40, 32)):
    """Return an encoded photo of one brightness, with a little noise."""
    pixels = np.clip(value + np.random.default_rng(0).integers(-9, 9, (size[1], size[0], 3)), 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("served") / "light.safetensors")


@pytest.fixture(scope="session")
def photos():
    """An encoded photo of each class."""
    return {"dark": photo(20), "bright": photo(235)}


@pytest.fixture(scope="session", name="write_model")
def _write_model():
    return write_model


@pytest.fixture(scope="session", name="photo")
def _photo():
    return photo


@pytest.fixture(scope="session", name="running")
def _running():
    return running


@contextmanager
def running(app, limits):
    """Run an application at a free port; yields its address."""
    with bound("127.0.0.1", 0) as sockets:
        port = sockets[0].getsockname()[1]
        server = make_server(app, limits)
        thread = threading.Thread(target=server.run, args=(sockets,), daemon=True)
        thread.start()
        end = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def engine(model_path):
    return Engine(load_model(model_path, device="cpu"))


@pytest.fixture(scope="session")
def address(engine):
    """The address of a server with a small limit of bodies."""
    limits = Limits(max_body=2**20, timeout=60)
    with running(make_app({"light": engine}, limits), limits) as found:
        yield found
