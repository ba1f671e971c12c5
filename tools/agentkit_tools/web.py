"""Search the web, and read a page of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from agentkit import ToolError, tool
from agentkit.errors import MissingExtraError
from agentkit_tools._addresses import is_public

if TYPE_CHECKING:
    from agentkit_tools._http import Allow, Page, Resolve

__all__ = ["PageFetcher", "WebSearch", "fetch_page", "is_public", "web_search"]

MAX_RESULTS: Final = 10
MAX_QUERY: Final = 500
MAX_SNIPPET: Final = 500
MAX_URL: Final = 2000
MAX_TEXT: Final = 40_000
"""Characters of a page's text; below the 50,000 that a run passes on, so its last line is not lost."""

_ENGINE_TIMEOUT: Final = 5  # seconds for one search engine; ddgs asks up to nine, one or two at a time


class PageFetcher:
    """Reads web pages. Give an agent its `fetch_page`.

    Args:
        allow: which addresses may be connected to; `is_public` by default. Pass your own to let an agent read an
            intranet, and remember that the model, and whoever wrote what it reads, chooses the address.
        resolve: looks up a host and port; the system's resolver by default. Called once a request; the connection
            goes to one of the addresses that it gave.
        timeout: seconds for the whole fetch, redirects and the reading of the HTML included; 20.
        max_bytes: of the unpacked body; 2,000,000. A longer page is cut, and says so.
    """

    def __init__(
        self,
        *,
        allow: Allow = is_public,
        resolve: Resolve | None = None,
        timeout: float = 20.0,
        max_bytes: int = 2_000_000,
    ) -> None:
        self._allow = allow
        self._resolve = resolve
        self._timeout = timeout
        self._max_bytes = max_bytes

    # The address itself may carry away what the conversation holds; a GET changes nothing (RFC 9110, 9.2.1).
    @tool(effect="egress", untrusted=True, idempotent=True)
    async def fetch_page(self, url: str) -> str:
        """Read a web page as text. HTML, plain text and JSON can be read.

        Args:
            url: the full address, beginning with https:// or http://.
        """
        try:
            import trafilatura  # noqa: F401 - before the download, not after it

            from agentkit_tools import _http
        except ImportError as error:
            raise MissingExtraError("fetch_page", "web") from error
        if len(url) > MAX_URL:
            raise ToolError(f"The address has {len(url):,} characters; the limit is {MAX_URL:,}")
        try:
            async with asyncio.timeout(self._timeout):
                page = await _http.get(
                    url.strip(),
                    allow=self._allow,
                    resolve=self._resolve,
                    timeout=self._timeout,
                    max_bytes=self._max_bytes,
                )
                text = await asyncio.to_thread(_text, page)
        except TimeoutError as error:
            raise ToolError(f"{url!r} took more than {self._timeout:g} seconds: try later, or another page") from error
        if len(text) > MAX_TEXT:
            return f"{page.url}\n\n{text[:MAX_TEXT]}\n[The page is longer: cut after {MAX_TEXT:,} characters.]"
        note = f"\n[The page is longer: cut after {self._max_bytes:,} bytes.]" if page.is_cut else ""
        return f"{page.url}\n\n{text}{note}"


def _text(page: Page) -> str:
    decoded = _decoded(page)
    if page.media_type not in ("text/html", "application/xhtml+xml"):
        return decoded
    import trafilatura

    # Bytes where the server named no charset: the page itself may.
    source = decoded if page.charset else page.body
    text = trafilatura.extract(source, url=page.url, output_format="markdown", include_comments=False)
    # A page that is no article, a list of links for example, still has words.
    text = text or trafilatura.html2txt(source)
    if not text:
        raise ToolError(f"{page.url!r} has no text: it may need a browser that runs scripts")
    title = trafilatura.extract_metadata(source, default_url=page.url, extensive=False).title
    return f"{title}\n\n{text}" if title else text


def _decoded(page: Page) -> str:
    try:
        return page.body.decode(page.charset or "utf-8", errors="replace")
    except (LookupError, ValueError):  # a charset that Python does not know, or that is none
        return page.body.decode(errors="replace")


class WebSearch:
    """Searches the web. Give an agent its `web_search`.

    Args:
        engine: from a query and the most results wanted, results with ``title``, ``href`` and ``body``; the search
            engines that ddgs knows by default. Raise ToolError in your own to tell the model what went wrong.
    """

    def __init__(self, engine: Callable[[str, int], Iterable[Mapping[str, str]]] | None = None) -> None:
        self._engine = engine or _ddgs

    @tool(effect="read", untrusted=True)
    def web_search(self, query: str, max_results: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = 5) -> str:
        """Search the web. Each result has a title, an address and an excerpt; read a whole page with fetch_page.

        Args:
            query: a few words to search for.
            max_results: how many results to give.
        """
        query = " ".join(query.split())
        if not 0 < len(query) <= MAX_QUERY:
            raise ToolError(f"The query has {len(query):,} characters; it must have 1 to {MAX_QUERY}")
        wanted = min(max(max_results, 1), MAX_RESULTS)
        results = list(self._engine(query, wanted))[:wanted]
        if not results:
            return f"No results for {query!r}. Try fewer or other words."
        return "\n\n".join(
            f"{number}. {_line(result, 'title')}\n{_line(result, 'href')}\n{_line(result, 'body')}"
            for number, result in enumerate(results, 1)
        )


def _line(result: Mapping[str, str], key: str) -> str:
    text = " ".join(result.get(key, "").split())
    return text if len(text) <= MAX_SNIPPET else text[: MAX_SNIPPET - 1] + "…"


def _ddgs(query: str, max_results: int) -> Iterable[Mapping[str, str]]:
    try:
        from ddgs import DDGS
        from ddgs.exceptions import DDGSException
    except ImportError as error:
        raise MissingExtraError("web_search", "web") from error
    try:
        return list(DDGS(timeout=_ENGINE_TIMEOUT).text(query, max_results=max_results))
    except DDGSException as error:
        if "No results found" in str(error):
            return []
        raise ToolError(
            f"The search engines could not be reached ({str(error)[:200]}): check the network, or name a proxy in "
            "DDGS_PROXY; meanwhile answer from what you know and say so"
        ) from error


web_search = WebSearch().web_search
fetch_page = PageFetcher().fetch_page
