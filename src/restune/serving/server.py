"""Serve an application with uvicorn: time limits of connections, and a shutdown that answers what is accepted."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from restune.core.console import say
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.core.interrupt import Terminated
from restune.data.decode import max_pixels
from restune.serving.answers import Limits
from restune.serving.app import make_app
from restune.serving.engine import load_engine, model_file, served_name

HEAD_SECONDS = 10.0
_IDLE_SECONDS = 15
_MOST_CONNECTIONS = 1000
_LARGEST_HEAD = 32 * 2**10


class TimedProtocol(H11Protocol):
    """HTTP connections that are closed where a request's head does not arrive within `HEAD_SECONDS` to twice that."""

    head_seconds = HEAD_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch a connection."""
        super().connection_made(transport)
        self._waited_for: Any = transport  # what no request is
        self._check = self.loop.call_later(self.head_seconds, self._close_if_waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._check.cancel()
        super().connection_lost(exc)

    def _close_if_waiting(self) -> None:
        """Close a connection that has waited for a head since the last check."""
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and self._waited_for is self.cycle:
            self.transport.close()
            return
        self._waited_for = self.cycle if is_waiting else self.transport
        self._check = self.loop.call_later(self.head_seconds, self._close_if_waiting)


def serve(
    models: Sequence[str],
    *,
    host: str,
    port: int,
    limits: Limits,
    max_pixels_each: int | None = None,
    device: str = "auto",
    log: str = "text",
    engine: str = "torch",
    precision: str = "fp32",
) -> list[str]:
    """Serve models until SIGTERM or SIGINT; accepted requests are then answered.

    Returns the names under which they were served. Raises UserError.

    Args:
        models: files and runs' folders.
        max_pixels_each: of an image; None: as everywhere.
        log: ``text`` or ``json``.
        engine, precision: what computes the networks, see `exporting.engines.with_engine`.
    """
    if max_pixels_each is not None:
        os.environ["RESTUNE_MAX_PIXELS"] = str(max_pixels_each)  # where the decoder reads it
    max_pixels()
    named: dict[str, str] = {}
    for model in models:
        name = served_name(model)
        if name in named:
            raise UserError(
                f"two models would be served as {name!r}", where=f"MODEL {model}", fix="rename a file or a run's folder"
            )
        named[name] = model
    with bound(host, port) as sockets:  # a port in use is found before the models are loaded
        engines = {name: load_engine(model, device, engine, precision) for name, model in named.items()}
        files = {name: file for name, model in named.items() if (file := model_file(model)) is not None}
        server = make_server(make_app(engines, limits, files=files, log=log), limits)
        settle()
        names, address = ", ".join(named), f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        say(f"serving {names} at {address} (stop with Ctrl+C)")
        with suppress(KeyboardInterrupt, Terminated):  # raised again by uvicorn once everything is answered
            server.run(sockets)
    return list(named)


@contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Bind a socket to each address of a host; close them after this block. Raises UserError.

    A server begins to listen at them. Where another program does so first, this block raises UserError, too.
    """
    with ExitStack() as stack:
        try:
            sockets = [stack.enter_context(_bound(*address)) for address in _addresses(host, port)]
        except (OSError, UnicodeError) as error:
            raise _unusable(host, port, error) from error
        try:
            yield sockets
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _unusable(host, port, error) from error
            raise


def _unusable(host: str, port: int, error: OSError | UnicodeError) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(
        f"port {port} of {host} cannot be used: {reason}", where="--host, --port", fix="choose another port"
    )


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Return the addresses of a host that this machine has, such as those of IPv4 and IPv6 of `localhost`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses: dict[tuple[socket.AddressFamily, tuple[Any, ...]], None] = {
        (family, address): None for family, _, _, _, address in found
    }
    return [one for one in addresses if _exists(*one)] or list(addresses)


def _exists(family: socket.AddressFamily, address: tuple[Any, ...]) -> bool:
    """Return whether this machine has an address, whatever its ports."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True


def _bound(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    # asyncio sends at once (TCP_NODELAY) from sockets of this protocol only: else each answer would wait 40 ms.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # a port that was left a moment ago may be used again
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


def settle() -> None:
    """Leave everything that is loaded by now out of garbage collections, each of which would halt all requests."""
    gc.collect()
    gc.freeze()


def make_server(app: Any, limits: Limits) -> uvicorn.Server:
    """Return a server that limits heads and idle connections; it runs at sockets that are bound."""
    config = uvicorn.Config(
        app, http=TimedProtocol, ws="none", lifespan="on", access_log=False, server_header=False,
        log_level="warning", timeout_keep_alive=_IDLE_SECONDS, timeout_graceful_shutdown=int(2 * limits.timeout) + 1,
        limit_concurrency=_MOST_CONNECTIONS, h11_max_incomplete_event_size=_LARGEST_HEAD, backlog=1024,
    )  # fmt: skip
    return uvicorn.Server(config)


def read_keys(file: str | Path | None) -> tuple[str, ...]:
    """Return the API keys in a file, one per line; none for None. Raises UserError."""
    if file is None:
        return ()
    where = f"--api-key-file {file}"
    try:
        lines = user_path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the file of API keys cannot be read", where=where, fix="check the path") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise UserError("the file does not hold an API key", where=where, fix="write one key per line")
    return keys
