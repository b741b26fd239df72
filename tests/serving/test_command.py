"""`restune serve` as a process: it starts, answers, and ends well on SIGTERM under load."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import restune.cli.serve
import restune.serving.server
from restune.core.errors import UserError
from restune.serving.server import TimedProtocol, bound

LIMIT = 60
"""Seconds until a test fails that waits for an event, however busy the machine is."""


@pytest.fixture
def port():
    """A free port that no other program gets until the test ends: a socket that does not listen holds it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, so that both may bind it
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_sigterm_under_load_answers_everything_accepted(model_path, photos, port):
    statuses, refused = [], []
    command = [sys.executable, "-m", "restune", "serve", str(model_path), "--port", str(port), "--log", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
                connection.connect()
            except OSError:  # it no longer listens
                refused.append(True)
                return
            try:
                connection.request("POST", "/predict", photos["dark"])
                statuses.append(connection.getresponse().status)
            except OSError as error:  # accepted by the kernel alone, when the server closed its port
                refused.append(error)
                return

    try:
        end = time.monotonic() + 2 * LIMIT
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.1)
        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        while len(statuses) < 40:  # each client has asked again after its first answer
            assert any(client.is_alive() for client in clients), refused
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        printed, logged = process.communicate(timeout=2 * LIMIT)
        stop.set()
        for client in clients:
            client.join(LIMIT)
            assert not client.is_alive()
    finally:
        process.kill()
    assert process.returncode == 0, logged
    assert "Traceback" not in logged
    assert f"http://127.0.0.1:{port}/" in printed + logged
    assert set(statuses) == {200}
    answered = sum('"path": "/predict"' in line and '"status": 200' in line for line in logged.splitlines())
    assert answered == len(statuses)  # what the server answered has arrived, and nothing else was promised


def test_missing_packages_are_named_once(run, model_path, monkeypatch):
    monkeypatch.setattr(restune.cli.serve, "find_spec", lambda _name: None)
    done = run("serve", model_path)
    assert done.returncode == 2
    assert "pip install 'restune[serve]'" in done.stderr


@pytest.mark.parametrize("content", [None, "", "# nothing\n\n"])
def test_a_file_without_api_keys_is_refused(run, model_path, tmp_path, content):
    path = tmp_path / "keys.txt"
    if content is not None:
        path.write_text(content)
    done = run("serve", model_path, "--api-key-file", path)
    assert done.returncode == 2
    assert "API key" in done.stderr


def test_two_models_of_one_name_are_refused(run, model_path):
    done = run("serve", model_path, model_path)
    assert done.returncode == 2
    assert "rename" in done.stderr


def test_a_port_in_use_is_reported_before_a_model_is_loaded(run, model_path, monkeypatch):
    def loaded(*_):
        raise AssertionError("a model is loaded for nothing")

    monkeypatch.setattr(restune.serving.server, "load_engine", loaded)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", model_path, "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert "choose another port" in done.stderr
    assert "in use" in done.stderr
    unknown = run("serve", model_path, "--host", "no.such.host.invalid")
    assert unknown.returncode == 2
    assert "no.such.host.invalid" in unknown.stderr


def test_a_port_that_is_taken_while_models_are_loaded_is_reported():
    with (
        pytest.raises(UserError, match="choose another port"),
        bound("127.0.0.1", 0) as (own,),
        socket.create_server(own.getsockname()),
    ):
        own.listen()


def test_answers_are_sent_at_once(address, monkeypatch):
    """Without TCP_NODELAY a client that keeps its connection waits 40 ms for each answer."""
    nodelay, connection_made = [], TimedProtocol.connection_made

    def noted(protocol, transport):
        own = transport.get_extra_info("socket")
        nodelay.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        connection_made(protocol, transport)

    monkeypatch.setattr(TimedProtocol, "connection_made", noted)
    connection = http.client.HTTPConnection("127.0.0.1", int(address.rpartition(":")[2]), timeout=LIMIT)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    connection.close()
    assert nodelay == [1]


def test_localhost_is_every_address_of_it():
    with bound("localhost", 0) as sockets:
        assert "127.0.0.1" in {own.getsockname()[0] for own in sockets}
