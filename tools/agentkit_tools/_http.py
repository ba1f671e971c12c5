"""One GET over HTTP, bounded, and only to addresses that were checked. Imports httpx2: load it late."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias

import httpx2

from agentkit import ToolError
from agentkit_tools._addresses import Address

__all__ = ["Allow", "Page", "Resolve", "get"]

Allow: TypeAlias = Callable[[Address], bool]
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

MAX_REDIRECTS: Final = 5
_ADDRESSES_TRIED: Final = 4
_CONNECT_TIMEOUT: Final = 5.0  # seconds for one address, so that a dead one leaves time for the next
_HEADERS: Final = {
    "User-Agent": "agentkit/0.1 (fetch_page)",
    "Accept": "text/html,application/xhtml+xml,application/json,text/*;q=0.9",
    "Accept-Encoding": "gzip",  # the one that we unpack with a bound
}


@dataclass(frozen=True, slots=True)
class Page:
    """What a server sent. ``is_cut`` tells that there was more than was taken."""

    url: str
    media_type: str
    charset: str | None
    body: bytes
    is_cut: bool


async def get(url: str, *, allow: Allow, resolve: Resolve | None, timeout: float, max_bytes: int) -> Page:
    """Fetch a URL, following up to five redirects, each checked like the first.

    Raises:
        ToolError: it cannot or must not be fetched; the message is for the model.
        TimeoutError: a step took longer than ``timeout`` seconds. Bounding the whole is left to the caller.
    """
    try:
        return await _get(url, _CheckedTransport(allow, resolve or _resolve), timeout, max_bytes)
    except httpx2.ConnectTimeout as error:
        raise ToolError(
            f"{url!r} could not be reached within {_CONNECT_TIMEOUT:g} seconds: try another page"
        ) from error
    except httpx2.TimeoutException as error:
        raise TimeoutError(str(error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, UnicodeError, ValueError) as error:
        raise ToolError(f"{url!r} could not be fetched: {_reason(error)}") from error


async def _get(url: str, transport: _CheckedTransport, timeout: float, max_bytes: int) -> Page:
    # No proxy from the environment: it would look the name up itself and connect where it likes.
    limits = httpx2.Timeout(timeout, connect=_CONNECT_TIMEOUT)
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=limits, headers=_HEADERS) as client:
        request = client.build_request("GET", url)
        for _ in range(MAX_REDIRECTS + 1):
            response = await client.send(request, stream=True)
            try:
                if response.next_request is None:
                    return await _read(response, max_bytes)
                request = response.next_request
            finally:
                await response.aclose()
    raise ToolError(f"{url!r} redirects more than {MAX_REDIRECTS} times: fetch {str(request.url)!r} if that is meant")


async def _read(response: httpx2.Response, max_bytes: int) -> Page:
    url = str(response.url)
    if response.status_code != 200:
        raise ToolError(f"{url!r} answered {response.status_code} {response.reason_phrase}: try another page")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _is_text(media_type):
        raise ToolError(f"{url!r} is {media_type or 'of no stated type'}: only HTML, text and JSON can be read")
    body = bytearray()
    async for chunk in _unpacked(response, max_bytes):
        body += chunk
        if len(body) > max_bytes:
            return Page(url, media_type, response.charset_encoding, bytes(body[:max_bytes]), True)
    return Page(url, media_type, response.charset_encoding, bytes(body), False)


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in ("application/xhtml+xml", "application/json") or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )  # fmt: skip


async def _unpacked(response: httpx2.Response, max_bytes: int) -> AsyncIterator[bytes]:
    """The body's bytes. Unpacked here, because a packed chunk may hold a thousand times its size."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        async for chunk in response.aiter_raw():
            yield chunk
    elif encoding in ("gzip", "x-gzip"):
        unpack = zlib.decompressobj(wbits=31)
        async for chunk in response.aiter_raw():
            try:
                yield unpack.decompress(chunk, max_bytes + 1)
            except zlib.error as error:
                raise ToolError(f"{str(response.url)!r} sent a broken gzip body: try another page") from error
    else:
        raise ToolError(f"{str(response.url)!r} is packed with {encoding!r}, which was not asked for")


class _CheckedTransport(httpx2.AsyncBaseTransport):
    """Looks a name up once, checks what it found, and connects to exactly that.

    Every request goes through here, redirects too, so nothing is reached unchecked; and a name that changes its
    address after the check gains nothing, because it is not looked up again. The server still sees its own name, in
    the Host header and in TLS, where the certificate must carry it.
    """

    def __init__(self, allow: Allow, resolve: Resolve) -> None:
        self._allow = allow
        self._resolve = resolve
        # A kept connection is found again by address; two names on one address must not share one.
        self._inner = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise ToolError("That is no web address: it must begin with http:// or https:// and a host's name")
        if url.userinfo:
            raise ToolError("A web address with a user name or password in it is not fetched: leave them out")
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        if port > 65535:
            raise ToolError(f"A port of {port} does not exist: the highest is 65535")
        addresses = await self._addresses(host, port)
        for address in addresses[:-1]:
            try:
                return await self._send(request, host, address)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._send(request, host, addresses[-1])

    async def _send(self, request: httpx2.Request, host: str, address: Address) -> httpx2.Response:
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=str(address)),
            headers=request.headers,  # Host among them
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise ToolError(f"No address was found for {host!r}: check its spelling and the network") from error
        addresses = [ip_address(text) for text in dict.fromkeys(found)]
        allowed = [address for address in addresses if self._allow(address)]
        if not allowed:
            raise ToolError(f"{host!r} is not on the public internet: private and local addresses are not fetched")
        return allowed[:_ADDRESSES_TRIED]

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:300]
