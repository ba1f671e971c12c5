"""A server that speaks one of OpenAI's APIs: connections, errors, and an answer's chunks as they come.

The SDK opens the connection and authenticates. Its request transform is left out on purpose: it walks the whole history
at each step, which makes a long run quadratic.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import weakref
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast
from urllib.parse import urlsplit

from agentkit.errors import (
    ConfigError,
    ContextOverflowError,
    MissingExtraError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from agentkit.events import ModelEvent
from agentkit.messages import JsonObject, clean_text
from agentkit.providers._json import JsonText, json_object
from agentkit.providers._sse import Payloads, as_count, as_object, load_chunk
from agentkit.providers.base import ModelRequest, Provider
from agentkit.providers.profiles import UNKNOWN, Profile, by_asking, by_host
from agentkit.providers.retry import Retry, retry_after

if TYPE_CHECKING:
    import ssl

    import httpx2
    from openai import AsyncOpenAI

__all__ = ["OpenAIServer", "Turn"]

_OPENAI_URL: Final = "https://api.openai.com/v1"
_PLACEHOLDER_KEY: Final = "no-key"  # local servers look at no key, but the SDK insists on one
_CONNECT_TIMEOUT: Final = 10.0  # seconds
_ASKING_TIMEOUT: Final = 2.0  # seconds, for a server to say what it can do
_DRAIN_TIMEOUT: Final = 0.1  # seconds, for the end of a body whose events are all here: the connection is used again
_LINGER: Final = 0.1  # seconds from the end of a provider to that of its connections
_MAX_ANSWER: Final = 256 * 2**20  # bytes of one answer on the wire; a token takes some 300 of them
_MAX_QUOTE: Final = 500  # characters of a server's or model's own words in a message


class Turn(Protocol):
    """One answer: chunks → events."""

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""

    def feed(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Take the next chunk."""

    def finish(self) -> Iterator[ModelEvent]:
        """The answer is over."""


class OpenAIServer(Provider):
    """What the providers of OpenAI's APIs share. Each says how a request is written and how its answer is read.

    It may be used by several event loops, one after another or in several threads; each gets its own connections,
    closed when that loop is shut down (`asyncio.run` does it) or by `close`.
    """

    prefix: ClassVar[str]
    """Of the model's name."""
    path: ClassVar[str]
    """Where requests go, under ``base_url``."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 120.0,
        retry: Retry | None = None,
        extra_body: Mapping[str, object] | None = None,
        profile: Profile | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        if find_spec("openai") is None:
            raise MissingExtraError(f"the {self.prefix} provider", "openai")
        if not timeout > 0:
            raise ConfigError(f"{type(self).__name__}: timeout is {timeout!r}: it must be above 0 seconds")
        given_url = base_url or os.environ.get("OPENAI_BASE_URL")
        self.name = f"{self.prefix}:{model}"
        self.model = model
        self.base_url = given_url or _OPENAI_URL
        self.timeout = timeout
        self._server = _shown_url(self.base_url)
        self._api_key = _check_key(api_key or os.environ.get("OPENAI_API_KEY") or "", required=given_url is None)
        self._retry = retry or Retry()
        self._extra_body = dict(extra_body or {})
        self._profile = profile or by_host(self.base_url)
        self._transport = transport
        self._clients: dict[asyncio.AbstractEventLoop, _Client] = {}
        weakref.finalize(self, _close_later, self._clients).atexit = False

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """One turn of the model: its events in order, `ModelFinished` last.

        Closing the generator, or cancelling the task that reads it, closes the connection, which stops the server.

        Raises:
            ProviderConnectionError: refused, not found, silent for ``timeout`` seconds, or broken off.
            ProviderStatusError: the server answered with an HTTP error, or reported one in its stream.
            ProviderProtocolError: the answer is no stream of this API.
            ContextOverflowError: the server said that the prompt is too long; its numbers are 0 if it gave none.
            UnsupportedInputError: something that this API has no place for: an image that is not the user's, for
                example.
        """
        return self._retry.stream(lambda: self._attempt(request), request.deadline)

    async def profile(self) -> Profile:
        """What the server can do. It is asked once, and not at all if the provider was told or the address says it.

        Two seconds at most. A server that does not answer by then, or fails, counts as unknown until the next time.
        """
        if self._profile is None:
            client = await self._held()
            async with client.asking:
                if self._profile is None:
                    try:
                        async with asyncio.timeout(_ASKING_TIMEOUT):
                            self._profile = await by_asking(self._get, self.base_url, self.model)
                    except (ProviderError, TimeoutError):
                        return UNKNOWN
        return self._profile

    async def context_size(self) -> int | None:
        """What the server says of itself: llama.cpp's, vLLM and LM Studio do."""
        return (await self.profile()).context

    @abstractmethod
    async def _body(self, request: ModelRequest) -> JsonObject:
        """The request's JSON. What a run sends again with each step may be a `JsonText`: to write it anew each time is
        what makes a long run quadratic.

        Raises:
            UnsupportedInputError: something that this API has no place for.
        """

    @abstractmethod
    def _turn(self, request: ModelRequest) -> Turn:
        """What reads the answer."""

    async def close(self) -> None:
        """Close the connections, those of other running event loops too."""
        here = asyncio.get_running_loop()
        while self._clients:
            loop, client = (
                self._clients.popitem()
            )  # before it is closed: should that be cancelled, it is of no more use
            if loop is here:
                await client.keeper.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(_start_closing(loop, client))

    async def _attempt(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        turn = self._turn(request)
        response = await self._open(request)
        try:
            async with aclosing(self._receive(response, turn)) as payloads:
                async for payload in payloads:
                    chunk = load_chunk(payload, self._server)
                    if error := self._error_in(chunk):
                        raise self._reported(error)
                    for event in turn.feed(chunk):
                        yield event
        finally:
            await response.aclose()
        for event in turn.finish():
            yield event

    def _error_in(self, chunk: JsonObject) -> object:
        """The error that a chunk reports, if it does."""
        return chunk.get("error")

    async def _get(self, url: str) -> JsonObject:
        """The JSON object at a URL; an empty one where the server has nothing there."""
        import httpx2
        from openai import APIConnectionError, APIStatusError

        client = await self._client()
        try:
            response = await client.get(url, cast_to=httpx2.Response)
        except APIStatusError as error:
            if error.status_code >= 500:
                raise self._failed(error.body, error.status_code, None) from None
            return {}
        except (APIConnectionError, httpx2.RequestError) as error:
            raise self._broken(error.__cause__ or error) from error
        try:
            return as_object(response.json())
        except ValueError:
            return {}

    async def _open(self, request: ModelRequest) -> httpx2.Response:
        """Ask for the answer, which is yet to be read."""
        return await self._send(json_object(await self._body(request) | self._extra_body))

    async def _send(self, body: JsonText) -> httpx2.Response:
        import httpx2
        from openai import APIConnectionError, APIStatusError, AsyncStream

        client = await self._client()
        try:
            response = await client.post(
                self.path,
                content=body,
                cast_to=cast("type[AsyncStream[object]]", httpx2.Response),  # unread and unparsed
                stream=True,
                stream_cls=AsyncStream[object],
            )
        except APIStatusError as error:
            raise self._failed(error.body, error.status_code, retry_after(error.response.headers)) from None
        except (APIConnectionError, httpx2.RequestError) as error:
            raise self._broken(error.__cause__ or error) from error
        return cast("httpx2.Response", response)

    async def _client(self) -> AsyncOpenAI:
        return (await self._held()).sdk

    async def _held(self) -> _Client:
        """This event loop's client: connections cannot be shared between loops."""
        import httpx2
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        loop = asyncio.get_running_loop()
        held = self._clients.get(loop)
        if held is None:
            for closed in [other for other in self._clients if other.is_closed()]:
                del self._clients[closed]
            sdk = AsyncOpenAI(
                api_key=self._api_key or _PLACEHOLDER_KEY,
                base_url=self.base_url,
                timeout=httpx2.Timeout(self.timeout, connect=min(_CONNECT_TIMEOUT, self.timeout)),
                max_retries=0,
                http_client=DefaultAsyncHttpxClient(verify=_tls_context(), transport=self._transport),
            )
            held = self._clients[loop] = _Client(sdk, _keep(sdk))
            await anext(held.keeper)
        return held

    async def _receive(self, response: httpx2.Response, turn: Turn) -> AsyncGenerator[str, None]:
        """The JSON texts of the answer: each event's, or the whole body where a server does not stream."""
        import anyio
        import httpx2

        events = Payloads()
        received, beginning = 0, b""
        async with aclosing(response.aiter_bytes()) as chunks:
            try:
                async for data in chunks:
                    received += len(data)
                    beginning = beginning or data[:_MAX_QUOTE]
                    if received > _MAX_ANSWER:
                        raise ProviderProtocolError(f"{self._server} sent more than {_MAX_ANSWER} bytes in one answer")
                    for payload in events.feed(data):
                        if payload.startswith("[DONE]"):
                            await _drain(chunks)
                            return
                        yield payload
            except (httpx2.RequestError, OSError, anyio.EndOfStream) as error:
                if turn.is_complete:  # all that was missing is the end of the body
                    return
                raise self._broken(error) from error
        for payload in events.finish():
            if not payload.startswith("[DONE]"):
                yield payload
        if not events.found:
            kind = response.headers.get("content-type", "no content type")
            raise ProviderProtocolError(
                f"{self._server} answered with {kind} instead of an event stream: "
                f"{self._quote(beginning.decode(errors='replace')) or 'nothing'}. {self._url_hint()}"
            )

    def _broken(self, error: BaseException) -> ProviderConnectionError:
        import httpx2

        if isinstance(error, httpx2.ReadTimeout):
            return ProviderTimeoutError(
                f"{self._server} was silent for {self.timeout:g} seconds: give the provider a longer timeout=… "
                "if the model is that slow"
            )
        what = self._quote(str(error)) or type(error).__name__
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return ProviderConnectionError(
                f"{self._server} could not be reached ({what}): is the server running, and base_url right?"
            )
        return ProviderConnectionError(f"{self._server} broke off before its answer was complete ({what})")

    def _reported(self, error: object) -> ProviderError:
        """An error that the server wrote into its stream."""
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, str) and code.isdecimal():
            code = int(code)
        return self._failed(error, code if isinstance(code, int) and 400 <= code < 600 else None, None)

    def _failed(self, body: object, status: int | None, wait: float | None) -> ProviderError:
        said = self._quote(_server_message(body)) or "no reason given"
        numbers = _overflow(body, said)
        if numbers is not None:
            tokens, limit = numbers
            return ContextOverflowError(f"{self._server}: {said}", tokens=tokens, limit=limit)
        if status is None:
            return ProviderConnectionError(f"{self._server} broke off with an error: {said}")
        hint = ""
        if status == 401:
            what = "Check api_key" if self._api_key else "No api_key was given: pass one"
            hint = f" {what}, or set OPENAI_API_KEY."
        elif status == 404:
            hint = f" Check the model's name, {self.model!r}. {self._url_hint()}"
        return ProviderStatusError(f"{self._server} answered {status}: {said}.{hint}", status=status, retry_after=wait)

    def _url_hint(self) -> str:
        ends = "" if self._server.endswith("/v1") else "; most servers' ends in /v1"
        return f"Check base_url, {self._server}{ends}."

    def _quote(self, text: str) -> str:
        """Somebody else's words, fit for a message: one line, not too long, without the key."""
        text = " ".join(clean_text(text).split())
        if len(self._api_key) >= 8:  # a shorter one is no secret, but "EMPTY" or the like
            text = text.replace(self._api_key, "***")
        return (text if len(text) <= _MAX_QUOTE else text[: _MAX_QUOTE - 1] + "…").rstrip(".")


@cache
def _tls_context() -> ssl.SSLContext:
    """One for all clients: reading the certificates takes 20 ms."""
    import httpx2

    return httpx2.create_ssl_context()


@dataclass(frozen=True, slots=True)
class _Client:
    sdk: AsyncOpenAI
    keeper: AsyncGenerator[None, None]
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while the server is asked what it can do


async def _keep(client: AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Closes the client when it is closed itself, which an event loop does to its generators as it shuts down. A client
    has no such moment of its own, and would leave sockets open."""
    try:
        yield
    finally:
        await client.close()


def _close_later(clients: Mapping[asyncio.AbstractEventLoop, _Client]) -> None:
    """Nobody has the provider any more. Often that is because the program is done: then the loop's own shutdown comes
    first, which unlike a task of ours waits until all is closed."""
    for loop, client in clients.items():
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(loop.call_later, _LINGER, _start_closing, loop, client)


def _start_closing(loop: asyncio.AbstractEventLoop, client: _Client) -> Future[None]:
    return asyncio.run_coroutine_threadsafe(_close(client), loop)


async def _close(client: _Client) -> None:
    await client.keeper.aclose()


async def _drain(chunks: AsyncGenerator[bytes, None]) -> None:
    """Read the rest of a body that is as good as over."""
    try:
        async with asyncio.timeout(_DRAIN_TIMEOUT):
            async for _ in chunks:
                pass
    except Exception:  # the answer is here: whatever becomes of the connection is no error of the turn
        return


def _shown_url(url: str) -> str:
    """The URL as messages show it: without a password or a query."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, say
        usable = False
    if not usable:
        shown = url.rpartition("@")[2].partition("?")[0]
        raise ConfigError(f"base_url {shown!r} is no URL of a server: write http://localhost:8000/v1, for example")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _check_key(key: str, *, required: bool) -> str:
    key = key.strip()  # a key read from a file often ends in a newline
    if not key and required:
        raise ConfigError(
            "No API key for OpenAI: set OPENAI_API_KEY or pass api_key=…; for a local server pass base_url=…, "
            "or set OPENAI_BASE_URL"
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError("The API key (api_key or OPENAI_API_KEY) has characters that no HTTP header can carry")
    return key


def _server_message(body: object) -> str:
    """A server's own words, in the places where servers put them."""
    if isinstance(body, dict):
        for key in ("message", "error", "detail", "error_description"):
            if body.get(key):
                return _server_message(body[key])
        return json.dumps(body)
    if isinstance(body, str) and "<html" in body.lower():
        return re.sub(r"<[^>]*>", " ", body)
    return "" if body is None else str(body)


def _overflow(body: object, said: str) -> tuple[int, int] | None:
    """(tokens, limit) if a server says that the prompt is too long: OpenAI, vLLM, llama.cpp; 0 for what it leaves
    out."""
    details = as_object(body)
    codes = ("context_length_exceeded", "exceed_context_size_error")
    known = details.get("code") in codes or details.get("type") in codes
    if not known and not re.search(r"maximum context length|exceeds? the available context size", said):
        return None
    limit, tokens, *_ = [*map(int, re.findall(r"(\d+) (?:\w+ )?tokens", said)), 0, 0]
    return as_count(details.get("n_prompt_tokens")) or tokens, as_count(details.get("n_ctx")) or limit
