"""HTTP servers on 127.0.0.1 whose every byte a test decides.

    with serve(reply(b"slow down", status=429), sse(chunk(content="hi"), DONE)) as server:
        …  # server.base_url, server.requests

Each request is served by the next answer of the script. Leaving the block with answers unused, or asking for more
than there are, fails the test.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

DONE = "[DONE]"


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Exchange:
    """One request and the connection that its answer goes to."""

    request: Request
    connection: socket.socket
    server: Server
    keep_alive: bool = True

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(data)

    def chunk(self, data: bytes) -> None:
        """Send bytes as one chunk of a chunked body."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def hang(self) -> None:
        """Send nothing more until the client leaves, or the server is closed."""
        with suppress(OSError):
            while self.connection.recv(1024):
                pass
        self.server.left.set()
        self.keep_alive = False

    def close(self) -> None:
        """Close the connection when the answer returns."""
        self.keep_alive = False


Answer = Callable[[Exchange], None]


@dataclass
class Server:
    """A running server."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client has left an answer that hangs."""

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@contextmanager
def serve(*answers: Answer) -> Iterator[Server]:
    """A server in threads of its own, so that it outlives a test's event loops."""
    script = list(answers)
    faults: list[str] = []
    lock = threading.Lock()
    open_connections: set[socket.socket] = set()

    def answer_for(request: Request) -> Answer:
        with lock:
            server.requests.append(request)
            if script:
                return script.pop(0)
            faults.append(f"request {len(server.requests)} ({request.method} {request.path}) has no answer")
            return reply(b"the script is over", status=501)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with lock:
                server.connections += 1
                open_connections.add(self.request)
            with suppress(ConnectionError):
                while (request := _read_request(self.request)) is not None:
                    exchange = Exchange(request, self.request, server)
                    answer_for(request)(exchange)
                    if not exchange.keep_alive:
                        break
            with lock:
                open_connections.discard(self.request)

    class Listener(ThreadingTCPServer):
        request_queue_size = 128

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server = Server(f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
            with lock:
                for connection in open_connections:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
    assert not faults, faults
    assert not script, f"{len(script)} answers of the script were not asked for"


def _read_request(connection: socket.socket) -> Request | None:
    with connection.makefile("rb") as stream:  # a client here waits for its answer before it asks again
        line = stream.readline().decode()
        if not line.strip():
            return None
        method, path, _ = line.split(" ", 2)
        headers: dict[str, str] = {}
        while (header := stream.readline().decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        return Request(method, path, headers, stream.read(int(headers.get("content-length", 0))))


def head(status: int = 200, **headers: str) -> bytes:
    """A status line and headers; ``content_type`` is written as ``content-type``."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def reply(body: bytes | object, *, status: int = 200, content_type: str = "", **headers: str) -> Answer:
    """A whole answer: bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = content_type or ("text/plain" if isinstance(body, bytes) else "application/json")

    def answer(exchange: Exchange) -> None:
        exchange.send(head(status, content_type=kind, content_length=str(len(data)), **headers) + data)

    return answer


def event(item: object) -> bytes:
    """One server-sent event: a string as it is, anything else as JSON."""
    return f"data: {item if isinstance(item, str) else json.dumps(item)}\n\n".encode()


def begin_sse(exchange: Exchange) -> None:
    """The head of a chunked event stream."""
    exchange.send(head(content_type="text/event-stream", transfer_encoding="chunked"))


def sse(*items: object, pieces: int | None = None) -> Answer:
    """A whole event stream; bytes are sent as they are, other items as events. With ``pieces``, that many bytes go
    into one chunk; else one event."""
    parts = [item if isinstance(item, bytes) else event(item) for item in items]
    if pieces is not None:
        data = b"".join(parts)
        parts = [data[start : start + pieces] for start in range(0, len(data), pieces)]

    def answer(exchange: Exchange) -> None:
        begin_sse(exchange)
        for part in parts:
            exchange.chunk(part)
        exchange.send(b"0\r\n\r\n")

    return answer


def sse_then_close(*items: object) -> Answer:
    """An event stream that breaks off: the connection closes in the middle of the body."""

    def answer(exchange: Exchange) -> None:
        begin_sse(exchange)
        for item in items:
            exchange.chunk(item if isinstance(item, bytes) else event(item))
        exchange.close()

    return answer


def sse_then_hang(*items: object) -> Answer:
    """An event stream that stops without ending; the server's ``left`` tells when the client has gone."""

    def answer(exchange: Exchange) -> None:
        begin_sse(exchange)
        for item in items:
            exchange.chunk(item if isinstance(item, bytes) else event(item))
        exchange.hang()

    return answer


def close_at_once(exchange: Exchange) -> None:
    """No answer at all."""
    exchange.close()


def hang(exchange: Exchange) -> None:
    """Not even a status line."""
    exchange.hang()


def chunk(*, finish: str | None = None, **delta: object) -> dict[str, object]:
    """A chunk of a streamed chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "test",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def call(index: int | None = 0, *, id: str | None = None, name: str | None = None, arguments: object = None) -> object:
    """A tool call's delta, for `chunk(tool_calls=[…])`."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    given = {"index": index, "id": id}
    return {**{key: value for key, value in given.items() if value is not None}, "function": function}


def usage(**details: object) -> dict[str, object]:
    """The chunk that counts tokens: after the last choice, with no choice of its own."""
    counts = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, **details}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": counts}


def answer_text(text: str) -> Answer:
    """A plain, well-formed answer."""
    return sse(chunk(role="assistant", content=text), chunk(finish="stop"), usage(), DONE)
