"""A Hugging Face hub on 127.0.0.1: the part of its protocol that huggingface_hub uses to list and fetch models.

    with serve_hub({"owner/repo": {"model-Q4_K_M.gguf": b"GGUF…"}}) as hub:
        …  # HF_ENDPOINT=hub.url; hub.requests

As on the real hub, a file's address redirects to another host, where its bytes are.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class HubRequest:
    """What a client asked for; ``range`` and ``token`` are empty where it sent none."""

    method: str
    path: str
    range: str
    token: str


@dataclass
class Hub:
    """A running hub, and how it misbehaves.

    Attributes:
        repos: repository → file → content.
        sizes: what is said of a file's size, where that is not its content's.
        gated: repositories that want a token; ``hf_powerless`` is one that opens none.
        damaged: files of which the last byte is changed on the way.
        cut_at: break the next download's connection after so many bytes.
        hang_at: send so many bytes of the next download, then nothing until the client leaves; sets ``hanging``.
    """

    repos: Mapping[str, Mapping[str, bytes]]
    url: str = ""
    files_url: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    cut_at: int | None = None
    hang_at: int | None = None
    hanging: threading.Event = field(default_factory=threading.Event)
    requests: list[HubRequest] = field(default_factory=list)

    def fetched(self, name: str) -> list[str]:
        """The ``Range`` of each request for a file's bytes."""
        return [r.range for r in self.requests if r.method == "GET" and r.path.endswith(f"/bytes/{name}")]


@contextmanager
def serve_hub(repos: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    hub = Hub(repos)
    with _listening(hub, _Api) as api, _listening(hub, _Files) as files:
        hub.url, hub.files_url = f"http://127.0.0.1:{api}", f"http://localhost:{files}"  # two hosts
        yield hub


@contextmanager
def _listening(hub: Hub, kind: type[_Handler]) -> Iterator[int]:
    class Handler(kind):  # type: ignore[valid-type, misc]
        served = hub

    class Listener(ThreadingHTTPServer):
        daemon_threads = True

    with Listener(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def note(self) -> str:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.served.requests.append(HubRequest(self.command, path, self.headers.get("Range", ""), token))
        return path

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Api(_Handler):
    def do_GET(self) -> None:
        path = self.note()
        if info := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            self.send_info(info[1])
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self.send_file(file[1], file[2])
        else:
            self.answer(404, {})

    do_HEAD = do_GET

    def send_info(self, repo: str) -> None:
        if repo not in self.served.repos:  # the hub does not tell strangers what is missing and what is private
            self.answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return
        siblings: list[dict[str, object]] = [{"rfilename": "README.md", "size": 3, "blobId": "0" * 40}]
        for name, content in self.served.repos[repo].items():
            size = self.served.sizes.get(name, len(content))
            lfs = {"size": size, "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
            siblings.append({"rfilename": name, "size": size, "blobId": "0" * 40, "lfs": lfs})
        body = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
        self.answer(200, {"Content-Type": "application/json"}, body)

    def send_file(self, repo: str, name: str) -> None:
        if repo in self.served.gated and not self.headers.get("Authorization"):
            self.answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted"})
            return
        if self.headers.get("Authorization") == "Bearer hf_powerless":
            self.answer(403, {"X-Error-Message": "This token may not read this"})
            return
        content = self.served.repos[repo][name]
        self.answer(
            302,
            {
                "Location": f"{self.served.files_url}/{repo}/bytes/{name}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            },
        )


class _Files(_Handler):
    def do_GET(self) -> None:
        path = self.note()
        repo, _, name = path[1:].partition("/bytes/")
        content = self.served.repos[repo][name]
        if name in self.served.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        body = content[start:]
        headers = {"Content-Length": str(len(body)), "ETag": '"cdn"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut, hang = self.served.cut_at, self.served.hang_at
        self.served.cut_at = self.served.hang_at = None
        if cut is None and hang is None:
            self.answer(206 if start else 200, headers, body)
            return
        self.answer(206 if start else 200, headers, body[: cut if cut is not None else hang])
        self.wfile.flush()
        if hang is not None:
            self.served.hanging.set()
            with suppress(ConnectionError):
                self.connection.recv(1)  # until the client is gone
        self.close_connection = True
