"""Recordings of what goes over the wire between a provider and its server, byte for byte.

Needs httpx2, which comes with the extra ``openai``.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from typing import Final, cast

from agentkit.errors import MissingExtraError
from agentkit.messages import JsonObject, JsonValue
from agentkit.testing.cassette import Cassette

try:
    import httpx2
except ImportError as error:
    raise MissingExtraError("agentkit.testing.http", "openai") from error

__all__ = ["RecordedTransport"]

_KEPT_HEADERS: Final = ("content-type", "content-encoding", "retry-after", "retry-after-ms")  # of the answer
_SHORTEST: Final = 8  # characters; what is shorter is no secret, but "Bearer" or a placeholder
_SECRET_NAME: Final = re.compile(r"(?i)auth|key|token|secret|password|cookie")


class RecordedTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport that plays a server's answers from a file; where that is not there, it sends the requests on
    and writes it.

        provider = OpenAIProvider("gpt-5", transport=RecordedTransport("bug.jsonl"))

    What a provider makes of an answer depends on its bytes: they are kept, in the pieces in which they came, and so is
    the error with which a connection broke off. Requests are compared by method, URL and body. Not written are: the
    request's headers, the answer's but those that providers read, the values of a URL's query, and the key wherever it
    occurs. A key would not be found if a model spelled it out over several events, or if a server compressed its answer
    although it was asked not to.

    Args:
        path: the file; see `Cassette`.
        secrets: more texts that are not written.

    Raises:
        ValueError: the file is no cassette.
    """

    def __init__(self, path: str | os.PathLike[str], *, secrets: Iterable[str] = ()) -> None:
        self._cassette = Cassette(path, secrets)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer that was recorded for this request.

        Raises:
            CassetteMismatch: none was.
            httpx2.TransportError: recorded, or of the connection while it is recorded.
        """
        url = request.url
        for name, value in (*request.headers.items(), *url.params.multi_items(), ("password", url.password)):
            if _SECRET_NAME.search(name):
                words = re.split(r"[\s;=,]+", value)  # Bearer and the key; a cookie's name and its value
                self._cassette.keep_out(*(word for word in words if len(word) >= _SHORTEST))
        asked: JsonObject = {
            "method": request.method,
            "url": str(url.copy_with(userinfo=b"", query=None)),
            "query": sorted(url.params.keys()),
            "body": _body(await request.aread()),
        }
        if self._cassette.recording:
            return await self._record(request, asked)
        exchange = self._cassette.play(asked)
        answer = cast("dict[str, JsonValue]", exchange.get("response", {}))
        played = _Played(exchange, request)
        if not answer:
            played.fail()
        headers = cast("dict[str, str]", answer["headers"])
        return httpx2.Response(cast("int", answer["status"]), headers=headers, stream=played)

    async def _record(self, request: httpx2.Request, asked: JsonObject) -> httpx2.Response:
        exchange: JsonObject = {"request": asked}
        request.headers["accept-encoding"] = "identity"  # so that the file can be read
        async with AsyncExitStack() as stack:
            # A connection of its own: transports are shared between event loops, connections cannot be.
            transport = await stack.enter_async_context(httpx2.AsyncHTTPTransport())
            try:
                response = await transport.handle_async_request(request)
            except httpx2.TransportError as error:
                self._cassette.record({**exchange, "error": _dump_error(error)})
                raise
            kept = {name: value for name, value in response.headers.items() if name in _KEPT_HEADERS}
            exchange["response"] = {"status": response.status_code, "headers": kept}
            stream = _Recorded(self._cassette, exchange, response, stack.pop_all())
            return httpx2.Response(response.status_code, headers=response.headers, stream=stream)


class _Recorded(httpx2.AsyncByteStream):
    """A body that is written to the cassette when it is closed, as far as it was read."""

    def __init__(
        self, cassette: Cassette, exchange: JsonObject, response: httpx2.Response, connection: AsyncExitStack
    ) -> None:
        self._cassette = cassette
        self._exchange = exchange
        self._stream = cast("httpx2.AsyncByteStream", response.stream)
        self._connection = connection
        self._pieces: list[bytes] = []

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self._stream:
                self._pieces.append(piece)
                yield piece
        except httpx2.TransportError as error:
            self._exchange["error"] = _dump_error(error)
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()
        await self._connection.aclose()
        whole = b"".join(self._pieces).decode(errors="replace")
        if self._cassette.holds_secret(whole):
            self._pieces = [whole.encode()]  # it may be divided between two, or be beside bytes that are no text
        self._cassette.record({**self._exchange, "body": [_dump_piece(piece) for piece in self._pieces]})


class _Played(httpx2.AsyncByteStream):
    """A recorded body."""

    def __init__(self, exchange: JsonObject, request: httpx2.Request) -> None:
        self._exchange = exchange
        self._request = request

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        for piece in cast("list[str | dict[str, str]]", self._exchange["body"]):
            yield piece.encode() if isinstance(piece, str) else base64.b64decode(piece["base64"])
        if "error" in self._exchange:
            self.fail()

    def fail(self) -> None:
        """Raise the recorded error."""
        error = cast("dict[str, str]", self._exchange["error"])
        kind: type[httpx2.TransportError] = getattr(httpx2, error["error"], httpx2.TransportError)
        raise kind(error["message"], request=self._request)


def _body(data: bytes) -> JsonValue:
    try:
        return cast("JsonValue", json.loads(data))
    except ValueError:
        return _dump_piece(data)


def _dump_piece(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:  # a character that is divided between two pieces, or a compressed body
        return {"base64": base64.b64encode(data).decode()}


def _dump_error(error: httpx2.TransportError) -> JsonObject:
    return {"error": type(error).__name__, "message": str(error)}
