"""Measure a server: its overhead with a model that computes nothing, latency under load, throughput against bulk.

    python benchmarks/serving.py [MODEL FOLDER]

Without MODEL only the overhead is measured. FOLDER holds files of the model's kind, such as photos. The server, bulk
prediction and the clients run in processes of their own on the same machine; bulk prediction decodes and computes the
same files. All figures of one run belong together.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import restune
from restune.core.console import quiet
from restune.data.inputs import as_items
from restune.inference.load import load_model
from restune.inference.model import Model, Prediction, predict_items
from restune.networks.resnet import ResNet
from restune.serving.answers import Limits
from restune.serving.app import make_app
from restune.serving.engine import Engine
from restune.serving.server import bound, make_server, settle
from restune.weights.bundle import BundleInfo

SECONDS = 5.0
CLIENTS, FEW_CLIENTS = 64, 16
"""At saturation, and at half load: the first requests of clients that all connect at once are no steady load."""
HEAD = b"POST /predict?topk=1 HTTP/1.1\r\nHost: benchmark\r\nContent-Length: %d\r\n\r\n"


class NullEngine(Engine):
    """An engine that neither reads nor computes."""

    def read(self, item: Any) -> str:  # noqa: ARG002
        return ""

    def answer(self, settings: Any, batch: list[Any]) -> list[Prediction]:  # noqa: ARG002
        return [Prediction(input=item.id, label="a", probability=1.0, top=(("a", 1.0),)) for item, _ in batch]


def run_null_server(port: int) -> None:
    """Serve a model that computes nothing until the process is ended."""
    limits = Limits(max_queue=1024)
    server = make_server(make_app({"model": NullEngine(null_model())}, limits), limits)
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
    half = load(port, bodies, FEW_CLIENTS, SECONDS, rate / 2)
    return {
        "alone_ms": round(1000 * statistics.median(alone), 2),
        "requests_per_s": round(rate, 1),
        "p99_at_half_load_ms": round(1000 * float(np.quantile(half, 0.99)), 2),
        "p99_to_alone": round(float(np.quantile(half, 0.99)) / statistics.median(alone), 2),
    }


@contextmanager
def null_server(port: int) -> Iterator[Callable[[], bool]]:
    """Run a server of a model that computes nothing; yields whether it still runs."""
    process = multiprocessing.get_context("spawn").Process(target=run_null_server, args=(port,))
    process.start()
    try:
        yield process.is_alive
    finally:
        process.terminate()
        process.join()


@contextmanager
def real_server(port: int, model: str, *options: str) -> Iterator[Callable[[], bool]]:
    """Run `restune serve`; yields whether it still runs."""
    command = [sys.executable, "-m", "restune", "serve", model, "--port", str(port), "--quiet", *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        process.wait()


def served(bodies: list[bytes], model: str | None = None, *options: str) -> dict[str, float]:
    """Start a server in a process of its own and measure it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with null_server(port) if model is None else real_server(port, model, *options) as is_alive:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if not is_alive():
                raise SystemExit(f"the server of {model} ended")
            time.sleep(0.1)
        return measure(port, bodies)


def bulk(model: str, files: list[Path]) -> float:
    """Return inputs per second of bulk prediction: the files again and again for `SECONDS`, read and computed."""
    with quiet():
        loaded = load_model(model)
        items = as_items(files, loaded.kind)
        list(predict_items(loaded, items[:64]))
        start, count = time.perf_counter(), 0
        again = takewhile(lambda _: time.perf_counter() - start < SECONDS, cycle(items))
        for prediction in predict_items(loaded, again):
            assert prediction.error is None, prediction.error
            count += 1
        return count / (time.perf_counter() - start)


def bulk_apart(model: str, files: list[Path]) -> float:
    """Return `bulk` of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(bulk, (model, files))


def main() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(buffer, "PNG")
    print(json.dumps({"model": "null", **served([buffer.getvalue()])}), flush=True)
    if len(sys.argv) < 3:
        return
    model, folder = sys.argv[1:3]
    with quiet():
        files = list(islice(load_model(model).kind.files_below(Path(folder)), 256))
    if not files:
        raise SystemExit(f"there are no files of the model's kind in {folder}")
    bodies = [path.read_bytes() for path in files]
    before, found, after = bulk_apart(model, files), served(bodies, model), bulk_apart(model, files)
    share = found["requests_per_s"] / max(before, after)
    shown = {"model": model, **found, "bulk_inputs_per_s": [round(before, 1), round(after, 1)]}
    print(json.dumps({**shown, "share_of_bulk": round(share, 2)}))


if __name__ == "__main__":
    main()
