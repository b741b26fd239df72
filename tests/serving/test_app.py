"""The server's endpoints give what `predict` gives, and refuse what harms, with an error that says why."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import tempfile
import threading
import time
import zlib

import numpy as np
import pytest
import requests
from PIL import Image

import restune
from restune.serving.answers import Limits
from restune.serving.app import make_app
from restune.serving.engine import Engine, load_engine
from restune.serving.server import TimedProtocol

LIMIT = 60
"""Seconds until a test fails that waits for an event, however busy the machine is."""


def expected(model_path, content):
    """What `predict --json` prints of an input, without its name."""
    (prediction,) = restune.load(model_path, device="cpu").predict(content)
    return {key: value for key, value in prediction.to_dict().items() if key != "input"}


def same(found, wanted):
    assert found["label"] == wanted["label"]
    assert [name for name, _ in found["top"]] == [name for name, _ in wanted["top"]]
    np.testing.assert_allclose([p for _, p in found["top"]], [p for _, p in wanted["top"]], atol=1e-5)


def test_bytes_json_and_upload_get_the_same_answers_as_predict(address, model_path, photos):
    wanted = {name: expected(model_path, content) for name, content in photos.items()}
    assert {name: one["label"] for name, one in wanted.items()} == {"dark": "dark", "bright": "bright"}
    raw = requests.post(f"{address}/predict", data=photos["dark"], headers={"Content-Type": "image/png"})
    assert raw.status_code == 200
    same(raw.json()["predictions"][0], wanted["dark"])
    by_curl = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl --data-binary sends
    same(
        requests.post(f"{address}/predict", data=photos["dark"], headers=by_curl).json()["predictions"][0],
        wanted["dark"],
    )
    encoded = [{"b64": base64.b64encode(photos[name]).decode(), "name": name} for name in ("bright", "dark")]
    answered = requests.post(f"{address}/predict?topk=1", json={"inputs": encoded}).json()["predictions"]
    assert [(one["input"], one["label"], len(one["top"])) for one in answered] == [
        ("bright", "bright", 1),
        ("dark", "dark", 1),
    ]
    files = [("file", (f"{name}.png", content)) for name, content in photos.items()]
    for one, name in zip(requests.post(f"{address}/predict", files=files).json()["predictions"], photos, strict=True):
        assert one["input"] == f"{name}.png"
        same(one, wanted[name])


def test_an_unreadable_input_is_reported_in_place_and_only_such_ones_are_an_error(address, photos):
    files = [("file", ("bad.png", b"not an image")), ("file", ("good.png", photos["dark"]))]
    answer = requests.post(f"{address}/predict", files=files)
    assert answer.status_code == 200
    bad, good = answer.json()["predictions"]
    assert bad["input"] == "bad.png"
    assert "error" in bad
    assert good["label"] == "dark"
    alone = requests.post(f"{address}/predict", data=photos["dark"][:60])
    assert alone.status_code == 422
    assert alone.json()["predictions"][0]["error"]


def test_threshold_and_explanation(address, photos):
    answer = requests.post(f"{address}/predict?threshold=1&explain=true", data=photos["bright"]).json()
    (prediction,) = answer["predictions"]
    assert prediction["abstained"] is True
    assert prediction["label"] is None
    head, _, content = prediction["explanation"].partition(",")
    assert head.startswith("data:image/")
    with Image.open(io.BytesIO(base64.b64decode(content))) as drawn:
        assert drawn.width / drawn.height == pytest.approx(40 / 32, rel=0.01)


@pytest.mark.parametrize(
    ("path", "body", "content_type", "status"),
    [
        ("/predict?model=nothing", b"x", "", 404),
        ("/predict?topk=0", b"x", "", 422),
        ("/predict?threshold=nan", b"x", "", 422),
        ("/predict", b"", "", 422),
        ("/predict", b"{", "application/json", 400),
        ("/predict", b'{"inputs": [{"b64": "?"}]}', "application/json", 422),
        ("/predict", b'{"inputs": [{"text": "a"}]}', "application/json", 422),
        ("/predict", b'{"inputs": [{"b64": "", "other": 1}]}', "application/json", 422),
        ("/predict", b'{"inputs": []}', "application/json", 422),
        ("/predict", b'{"inputs": [{"b64": ""}], "more": 1}', "application/json", 422),
        ("/predict", b'{"inputs": [{"b64": null}]}', "application/json", 422),
        ("/predict", b'{"inputs": [{"series": [true]}]}', "application/json", 422),
        ("/predict", b'{"inputs": [' + b"1," * 300 + b"1]}", "application/json", 413),
        ("/predict", b"[" * 100_000, "application/json", 400),
        ("/predict", b'{"inputs": [' + b"[]," * 250_000 + b"[]]}", "application/json", 413),
        ("/predict", b"x", "multipart/form-data", 400),
        ("/predict", b"--b\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b", 400),
        ("/predict", b'--b\r\nContent-Disposition: form-data; name="file"', "multipart/form-data; boundary=b", 400),
        ("/predict", b"\r\n" * 500_000, "multipart/form-data; boundary=b", 400),
        ("/predict", b"--b\r\n" * 100_000 + b"--b--", "multipart/form-data; boundary=b", 413),
        ("/predict", b"x", "application/xml", 415),
        ("/predict", b"x" * (2**20 + 1), "", 413),
        ("/v2/models/light/infer", b'{"inputs": [{"name": "a"}]}', "application/json", 400),
        ("/v2/models/nothing/infer", b"{}", "application/json", 404),
        ("/nothing", b"", "", 404),
    ],
)
def test_wrong_requests_are_refused_with_one_reason(address, path, body, content_type, status):
    answer = requests.post(
        f"{address}{path}", data=body, headers={"Content-Type": content_type} if content_type else {}
    )
    assert answer.status_code == status
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


def bomb():
    """A PNG of 20,000 x 9,000 pixels in a few hundred kilobytes."""

    def chunk(name, content):
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    head = (20_000).to_bytes(4, "big") + (9_000).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    packed = zlib.compress(bytes(20_001) * 9_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_bombs_and_mislabelled_files_are_unreadable_inputs(address, photos, photo):
    for content in (bomb(), b"GIF89a" + bytes(50), b"\xff\xd8\xff" + bytes(900), b"%PDF-1.7", bytes(100_000)):
        assert requests.post(f"{address}/predict", data=content).status_code == 422
    named_wrong = requests.post(f"{address}/predict", data=photo(20, "JPEG"), headers={"Content-Type": "image/png"})
    assert named_wrong.json()["predictions"][0]["label"] == "dark"


def test_a_body_that_grows_without_end_is_refused(address):
    def endless():
        for _ in range(64):
            yield bytes(2**16)

    answer = requests.post(f"{address}/predict", data=endless())
    assert answer.status_code == 413


def test_uploads_stay_in_memory(engine, running, photos, monkeypatch):
    def roll_over(_file):
        raise AssertionError("an upload goes to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", roll_over)
    limits = Limits()
    with running(make_app({"light": engine}, limits), limits) as address:
        files = [("file", ("large.png", bytes(3 * 2**20))), ("file", ("dark.png", photos["dark"]))]
        large, dark = requests.post(f"{address}/predict", files=files).json()["predictions"]
    assert "error" in large
    assert dark["label"] == "dark"


def test_slow_bodies_and_slow_heads_are_ended(engine, monkeypatch, running):
    limits = Limits(timeout=0.5)
    with running(make_app({"light": engine}, limits), limits) as address:
        port = int(address.rpartition(":")[2])
        with monkeypatch.context() as patch:
            patch.setattr(TimedProtocol, "head_seconds", 0.2)
            for begun in (b"", b"GET / HT"):
                with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as slow:
                    slow.sendall(begun)
                    assert slow.recv(100) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
            assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_an_api_key_opens_everything_but_health_and_the_page(engine, photos, running):
    limits = Limits(api_keys=("secret", "other"))
    with running(make_app({"light": engine}, limits), limits) as address:
        for path in ("/", "/healthz", "/v2/health/ready", "/page/main.js"):
            assert requests.get(address + path).status_code == 200
        for path in ("/models", "/metrics", "/openapi.json", "/structure", "/v2/models/light"):
            assert requests.get(address + path).status_code == 401
        assert requests.post(f"{address}/predict", data=photos["dark"], headers={"X-API-Key": "no"}).status_code == 401
        for headers in ({"X-API-Key": "other"}, {"Authorization": "Bearer secret"}):
            assert requests.post(f"{address}/predict", data=photos["dark"], headers=headers).status_code == 200


def wait_for_queue(address, length):
    """Wait until the server has accepted so many items of the model "slow" and answered none of them."""
    end = time.monotonic() + LIMIT
    while f'restune_queue_length{{model="slow"}} {length}.0' not in requests.get(f"{address}/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue_says_when_to_come_back(engine, photos, running):
    gate = threading.Event()

    class Slow(Engine):
        def answer(self, settings, batch):
            gate.wait(LIMIT)
            return super().answer(settings, batch)

    limits = Limits(max_queue=2)
    with running(make_app({"slow": Slow(engine.model)}, limits), limits) as address:
        waiting = [
            threading.Thread(target=requests.post, args=(f"{address}/predict",), kwargs={"data": photos["dark"]})
            for _ in range(2)
        ]
        for thread in waiting:
            thread.start()
        wait_for_queue(address, 2)
        answer = requests.post(f"{address}/predict", data=photos["dark"])
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        gate.set()
        for thread in waiting:
            thread.join(LIMIT)
            assert not thread.is_alive()


def test_many_clients_lose_nothing_while_the_model_is_replaced(tmp_path, photos, running, write_model, capsys):
    path = write_model(tmp_path / "light.safetensors")
    limits, found, lost, over = Limits(), set(), [], threading.Event()

    with running(make_app({"light": load_engine(str(path), "cpu")}, limits, files={"light": path}), limits) as address:

        def ask():
            with requests.Session() as session:
                while not over.is_set():
                    answer = session.post(f"{address}/predict", data=photos["dark"])
                    if answer.status_code == 200:
                        found.add(answer.json()["predictions"][0]["label"])
                    else:
                        lost.append(answer.status_code)

        def until(reached):
            """Wait while the clients keep asking: how long it takes depends on the machine."""
            end = time.monotonic() + LIMIT
            while not reached():
                assert time.monotonic() < end
                time.sleep(0.05)

        clients = [threading.Thread(target=ask) for _ in range(16)]
        for client in clients:
            client.start()
        try:
            until(lambda: "dark" in found)
            path.write_bytes(b"half a file")  # a file that cannot be loaded leaves the model as it is
            until(lambda: "the changed file cannot be loaded" in capsys.readouterr().err)
            write_model(tmp_path / "next.safetensors", classes=("night", "day")).replace(path)
            until(lambda: "night" in found)
        finally:
            over.set()
            for client in clients:
                client.join(LIMIT)
        assert requests.get(f"{address}/healthz").json()["reloads"] == {"light": 1}
    assert not lost
    assert found == {"dark", "night"}


def test_shutdown_answers_what_is_accepted(engine, photos, running):
    limits, statuses, gate = Limits(), [], threading.Event()

    class Slow(Engine):
        def answer(self, settings, batch):
            gate.wait(LIMIT)
            return super().answer(settings, batch)

    with running(make_app({"slow": Slow(engine.model)}, limits), limits) as address:
        port = int(address.rpartition(":")[2])

        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
            connection.request("POST", "/predict", photos["dark"])
            statuses.append(connection.getresponse().status)

        clients = [threading.Thread(target=ask) for _ in range(12)]
        for client in clients:
            client.start()
        wait_for_queue(address, 12)
        threading.Timer(0.3, gate.set).start()  # the server has begun to shut down, or does so while it answers
    for client in clients:
        client.join(LIMIT)
    assert statuses == [200] * 12


def test_triton_client_gets_the_same_answers(address, model_path, photos):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("light")
    assert client.get_model_metadata("light")["outputs"][0]["shape"] == [-1, 2]
    tensor = triton.InferInput("inputs", [2], "BYTES")
    tensor.set_data_from_numpy(np.array([photos["dark"], photos["bright"]], dtype=np.object_), binary_data=True)
    answer = client.infer("light", [tensor])
    wanted = [dict(expected(model_path, photos[name])["top"]) for name in ("dark", "bright")]
    found = answer.as_numpy("probabilities")
    np.testing.assert_allclose(found, [[row["dark"], row["bright"]] for row in wanted], atol=1e-5)
    assert answer.as_numpy("label").tolist() == [b"dark", b"bright"]
    encoded = [base64.b64encode(photos["dark"]).decode()]
    body = {"id": "7", "inputs": [{"name": "inputs", "shape": [1], "datatype": "BYTES", "data": encoded}]}
    plain = requests.post(f"{address}/v2/models/light/infer", json=body).json()
    assert plain["id"] == "7"
    np.testing.assert_allclose(plain["outputs"][0]["data"], found[0], atol=1e-5)


def test_a_fault_of_the_program_is_logged_and_not_shown(engine, running, photos, capsys):
    class Broken(Engine):
        def answer(self, _settings, _batch):
            raise RuntimeError("a secret of the program")

    limits = Limits()
    with running(make_app({"broken": Broken(engine.model)}, limits), limits) as address:
        answer = requests.post(f"{address}/predict", data=photos["dark"])
        assert requests.get(f"{address}/healthz").status_code == 200
    assert answer.status_code == 500
    assert answer.json() == {"error": {"what": "the server failed; its log says why", "where": None, "fix": None}}
    assert "a secret of the program" in capsys.readouterr().err


def test_figures_and_log(engine, photos, capsys, running):
    limits = Limits()
    with running(make_app({"light": engine}, limits, log="json"), limits) as address:
        requests.post(f"{address}/predict?secret=1", data=photos["dark"])
        requests.get(f"{address}/never/heard/of")
        text = requests.get(f"{address}/metrics").text
    assert 'restune_requests_total{method="POST",path="/predict",status="200"} 1.0' in text
    assert 'restune_requests_total{method="GET",path="other",status="404"} 1.0' in text
    assert 'restune_batch_size_count{model="light"} 1.0' in text
    first = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (first["path"], first["status"], first["bytes"]) == ("/predict", 200, len(photos["dark"]))
