"""Measure a server: its overhead with a model that computes nothing, latency under load, throughput against bulk.

    python benchmarks/serving.py [MODEL PHOTOS]

Without MODEL only the overhead is measured. The server runs in a process of its own, the clients in this one, on the
same machine; all figures of one run belong together.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import re
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import restune
from restune.core.console import quiet
from restune.inference.load import load_model
from restune.inference.model import Model, Prediction
from restune.networks.resnet import ResNet
from restune.serving.answers import Limits
from restune.serving.app import make_app
from restune.serving.engine import Engine
from restune.serving.server import bound, make_server, settle
from restune.weights.bundle import BundleInfo

SECONDS = 5.0
CLIENTS = 16
HEAD = b"POST /predict?topk=1 HTTP/1.1\r\nHost: benchmark\r\nContent-Length: %d\r\n\r\n"


class NullEngine(Engine):
    """An engine that neither reads nor computes."""

    def read(self, item: Any) -> str:  # noqa: ARG002
        return ""

    def answer(self, settings: Any, batch: list[Any]) -> list[Prediction]:  # noqa: ARG002
        return [Prediction(input=item.id, label="a", probability=1.0, top=(("a", 1.0),)) for item, _ in batch]


def run_server(model: str | None, port: int) -> None:
    """Serve a model, or one that computes nothing, until the process is ended."""
    limits = Limits(max_queue=1024)
    with quiet():
        engine = Engine(load_model(model)) if model else NullEngine(null_model())
    server = make_server(make_app({"model": engine}, limits), limits)
    settle()
    with bound("127.0.0.1", port) as sockets:
        server.run(sockets)


def null_model() -> Model:
    """Return a model whose network is never used."""
    network: ResNet = restune.create_model("resnet8", num_classes=2)
    info = BundleInfo(spec=network.spec, classes=("a", "b"), preprocess=restune.ImagePreprocess(crop=32))
    return Model(network, info, "null")


def load(port: int, bodies: list[bytes], clients: int, seconds: float, rate: float | None = None) -> list[float]:
    """Return the seconds of each request of clients that send one after the other, from one thread.

    Args:
        rate: requests per second of all clients together; None: as many as they can.
    """
    found: list[float] = []
    start = time.perf_counter()

    async def ask(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while (now := time.perf_counter()) - start < seconds:
            due = start + (number / clients + count) * clients / rate if rate else now
            if due > now:
                await asyncio.sleep(due - now)
            body = bodies[(number + count * clients) % len(bodies)]
            began = time.perf_counter()
            writer.write(HEAD % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            found.append(time.perf_counter() - began)
            count += 1
        writer.close()

    async def ask_all() -> None:
        await asyncio.gather(*map(ask, range(clients)))

    asyncio.run(ask_all())
    return found


def measure(port: int, bodies: list[bytes]) -> dict[str, float]:
    """Return latencies alone and at half load, and requests per second at saturation."""
    load(port, bodies, 2, 1.0)
    alone = load(port, bodies, 1, SECONDS)
    full = load(port, bodies, CLIENTS, SECONDS)
    rate = len(full) / SECONDS
    half = load(port, bodies, CLIENTS, SECONDS, rate / 2)
    return {
        "alone_ms": round(1000 * statistics.median(alone), 2),
        "requests_per_s": round(rate, 1),
        "p99_at_half_load_ms": round(1000 * float(np.quantile(half, 0.99)), 2),
        "p99_to_alone": round(float(np.quantile(half, 0.99)) / statistics.median(alone), 2),
    }


def served(model: str | None, bodies: list[bytes]) -> dict[str, float]:
    """Start a server in a process of its own and measure it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=run_server, args=(model, port))
    process.start()
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.is_alive()
            time.sleep(0.1)
        return measure(port, bodies)
    finally:
        process.terminate()
        process.join()


def bulk(model: str, bodies: list[bytes]) -> float:
    """Return images per second of `Model.predict` over the same images, repeated for `SECONDS`."""
    with quiet():
        loaded = load_model(model)
        loaded.predict(bodies)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            loaded.predict(bodies)
            count += len(bodies)
        return count / (time.perf_counter() - start)


def main() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(buffer, "PNG")
    print(json.dumps({"model": "null", **served(None, [buffer.getvalue()])}))
    if len(sys.argv) == 3:
        model, folder = sys.argv[1:]
        files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))[:256]
        bodies = [path.read_bytes() for path in files]
        before, found, after = bulk(model, bodies), served(model, bodies), bulk(model, bodies)
        share = found["requests_per_s"] / max(before, after)
        shown = {"model": model, **found, "bulk_images_per_s": [round(before, 1), round(after, 1)]}
        print(json.dumps({**shown, "share_of_bulk": round(share, 2)}))


if __name__ == "__main__":
    main()
