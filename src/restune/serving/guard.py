"""Before every endpoint: API keys, limits of bodies, the access log; no fault of the program reaches a client."""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
import traceback
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restune.core.language import speaking
from restune.serving.answers import Limits, Refused
from restune.serving.metrics import Metrics

OPEN = ("/", "/healthz", "/v2/health/live", "/v2/health/ready")
"""Answered without an API key: nothing is computed there."""
_HELD = 8
"""Bodies of the largest size that are held at a time."""
_DISCARDED_SECONDS = 1.0
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Guard:
    """An ASGI application around another one.

    Args:
        app: the endpoints.
        limits: of bodies and time, and the API keys.
        metrics: told of each request.
        log: ``text`` or ``json``: one line per request on standard error; None: no lines.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, log: str | None = None) -> None:
        self.app, self.limits, self.metrics, self.log = app, limits, metrics, log
        self._keys = [key.encode() for key in limits.api_keys]
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, size = time.perf_counter(), 0, 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            self._check_key(scope)
            body = await self._body(scope, receive)
            size = len(body)
            try:
                with speaking(_language(scope)):
                    await self.app(scope, _replayed(body, receive), noting)
            finally:
                self._held -= size
        except Refused as refused:
            with speaking(_language(scope)):
                await _refuse(noting, refused, scope)
        except Exception:
            traceback.print_exc()
            if not status:
                await _refuse(noting, Refused(500, "the server failed; its log says why"), scope)
        finally:
            self._note(scope, status, size, time.perf_counter() - started)

    def _check_key(self, scope: Scope) -> None:
        """Raise Refused for a request without a known API key, in a time that says nothing about the keys."""
        if not self._keys or scope["path"] in OPEN or scope["path"].startswith("/page/"):
            return
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"")
        bearer = authorization[7:] if authorization[:7].lower() == b"bearer " else b""
        named = headers.get(b"x-api-key", bearer)
        if not sum(hmac.compare_digest(named, key) for key in self._keys):  # all are compared
            fix = "send the header X-API-Key, or Authorization: Bearer"
            raise Refused(401, "an API key is needed", "X-API-Key", fix)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body, which counts as held from then on. Raises Refused."""
        headers, most = dict(scope["headers"]), self.limits.max_body
        if headers.get(b"content-encoding", b"identity").lower() not in (b"", b"identity"):
            raise Refused(415, "compressed bodies are not accepted", "Content-Encoding", "send it uncompressed")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            await _discard(receive, most)
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the connection closed before the body was complete", "body")
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    self._held += len(part)
                    if size > most:
                        raise self._too_large()
                    if self._held > _HELD * most:
                        raise Refused(503, "too many large requests at a time", retry_after=1)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            self._held -= size
            raise Refused(408, f"the body took longer than {self.limits.timeout:g} s", "body") from None
        except BaseException:
            self._held -= size
            raise

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self.limits.max_body} bytes", "body", "send less at a time")

    def _note(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.answered(path, method, status, seconds)
        if self.log is not None:
            line = access_line(scope, status, size, seconds)
            print(json.dumps(line) if self.log == "json" else _as_text(line), file=sys.stderr, flush=True)


def access_line(scope: MutableMapping[str, Any], status: int, size: int, seconds: float) -> dict[str, Any]:
    """Return what the access log says of a request. Queries and headers are left out: they may hold secrets."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "client": (scope.get("client") or ("",))[0],
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "bytes": size,
        "ms": round(1000 * seconds, 2),
    }


def _as_text(line: dict[str, Any]) -> str:
    path = line["path"].encode("unicode_escape").decode()  # no line breaks, no control sequences
    return f"{line['time']} {line['client']} {line['method']} {path} {line['status']} {line['ms']} ms"


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body at once, then what the client does."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again


async def _discard(receive: Receive, most: int) -> None:
    """Read on for a moment, so that a client that still sends reads the answer, rather than a broken connection."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARDED_SECONDS):
            while size <= most:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _language(scope: Scope) -> str:
    """Return the language of a request's messages: the first that it accepts, where that is Chinese, else English."""
    accepted: bytes = dict(scope["headers"]).get(b"accept-language", b"")
    return "zh" if accepted.strip().lower().startswith(b"zh") else "en"


async def _refuse(send: Send, refused: Refused, scope: Scope) -> None:
    of_protocol = scope["path"].startswith("/v2")
    content = json.dumps({"error": refused.what} if of_protocol else refused.to_dict()).encode()
    headers: Iterable[tuple[bytes, bytes]] = (
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *(() if refused.retry_after is None else ((b"retry-after", str(refused.retry_after).encode()),)),
        *(((b"connection", b"close"),) if refused.status in (408, 413) else ()),
    )
    await send({"type": "http.response.start", "status": refused.status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": content})
