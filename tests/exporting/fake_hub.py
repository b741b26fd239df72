"""A stand-in for the Hugging Face hub on this machine: tokens, repositories, and commits with large files."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".onnx", ".safetensors", ".npz")
"""What the real hub's .gitattributes has stored as large files."""


@dataclass
class FakeHub:
    """What the hub has, and what was asked of it."""

    address: str = ""
    users: dict[str, str] = field(default_factory=lambda: {"good": "ann"})
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Serve a hub on a free port of the loopback interface."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self, status: int, content: Any = None) -> None:
        body = json.dumps(content if content is not None else {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def _user(self) -> str | None:
        return self.hub.users.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def do_GET(self) -> None:
        self.hub.requests.append(f"GET {self.path}")
        if self._user is None:
            return self._answer(401, {"error": "Invalid user token."})
        if self.path.startswith("/api/whoami"):
            return self._answer(200, {"name": self._user, "type": "user", "orgs": []})
        repo = self.path.removeprefix("/api/models/").split("?")[0]
        if repo in self.hub.private:
            return self._answer(200, {"id": repo, "private": self.hub.private[repo], "sha": "0" * 40, "siblings": []})
        return self._answer(404, {"error": "Repository not found"})

    def do_PUT(self) -> None:
        self.hub.stored[self.path.rsplit("/", 1)[1]] = self._body()
        self._answer(200)

    def do_POST(self) -> None:
        body = self._body()
        self.hub.requests.append(f"POST {self.path}")
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if self._user is None:
            return self._answer(401, {"error": "Invalid user token."})
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        found = re.match(r"(?:/api/models)?/([^/]+/[^/]+?)(?:\.git)?/(preupload|commit|info)", self.path)
        assert found, self.path
        repo, action = found.groups()
        if repo.split("/")[0] != self._user:
            return self._answer(403, {"error": "Forbidden"})
        if action == "preupload":
            modes = [
                {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}
                for path in (one["path"] for one in json.loads(body)["files"])
            ]  # fmt: skip
            return self._answer(200, {"files": modes})
        if action == "info":
            return self._batch(json.loads(body))
        return self._commit(repo, body)

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or self._user
        repo = f"{owner}/{wanted['name']}"
        if owner != self._user:
            return self._answer(403, {"error": "Forbidden"})
        status = 409 if repo in self.hub.private else 200
        private = wanted.get("private", wanted.get("visibility") == "private")
        self.hub.private.setdefault(repo, private)
        return self._answer(status, {"url": f"{self.hub.address}/{repo}"})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.address}/store/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, body: bytes) -> None:
        files = self.hub.files.setdefault(repo, {})
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        url = f"{self.hub.address}/{repo}/commit/{'0' * 40}"
        self._answer(200, {"commitUrl": url, "commitOid": "0" * 40, "hookOutput": ""})
