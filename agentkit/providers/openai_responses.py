"""OpenAI's Responses API, in which a reasoning model's reasoning is kept from turn to turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentkit.errors import ProviderStatusError
from agentkit.messages import ImagePart, JsonObject
from agentkit.providers._conversation import may_call, needs_profile
from agentkit.providers._openai_server import OpenAIServer
from agentkit.providers._responses import ResponsesTurn, request_body
from agentkit.providers._sse import as_object
from agentkit.providers.base import ModelRequest, OutputMode
from agentkit.providers.profiles import UNKNOWN

if TYPE_CHECKING:
    import httpx2

__all__ = ["OpenAIResponsesProvider"]

_ENCRYPTED: Final = "reasoning.encrypted_content"
_STATUS_OF_CODE: Final = {"server_error": 500, "rate_limit_exceeded": 429}


class OpenAIResponsesProvider(OpenAIServer):
    """A model behind the Responses API, at OpenAI or a compatible server.

    Nothing is stored at the server (``store`` is false): each request holds the whole conversation, and in it the
    model's encrypted reasoning, which `ReasoningPart.state` carries.

    It may be used by several event loops, one after another or in several threads; each gets its own connections,
    closed when that loop is shut down (`asyncio.run` does it) or by `close`.

    Args:
        model: as the server names it.
        base_url: where the server is; by default ``OPENAI_BASE_URL``, else OpenAI itself.
        api_key: by default ``OPENAI_API_KEY``. With a base_url it may be missing.
        timeout: seconds that the server may be silent, before its answer and between two pieces of it; 120.
        retry: when and how often a request is tried again; by default 3 attempts.
        extra_body: more fields of the request: ``{"reasoning": {"effort": "low", "summary": "auto"}}``, say. Without
            a summary asked for, OpenAI shows no reasoning.
        profile: what the server can do; see `OpenAIProvider`.
        transport: what sends the requests, for tests; see `agentkit.testing.http.RecordedTransport`.

    Settings: there are no stop strings (`UnsupportedInputError`) and no seed (left out) in this API.

    Raises:
        ConfigError: no API key, or a base_url that is no URL.
        MissingExtraError: the openai package is not installed.
    """

    prefix = "openai_responses"
    path = "/responses"

    _asks_encrypted = True  # for reasoning in the form in which it can be sent back

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """``native`` at OpenAI; elsewhere a tool, since not every server of this API looks at the schema."""
        return "native" if (await self.profile()).schema == "with_tools" else "tool"

    async def _body(self, request: ModelRequest) -> JsonObject:
        known = self._profile or (await self.profile() if needs_profile(request, ImagePart) else UNKNOWN)
        body = request_body(request, self.model, known)
        return body | {"include": [_ENCRYPTED]} if self._asks_encrypted else body

    def _turn(self, request: ModelRequest) -> ResponsesTurn:
        tools = request.tools if may_call(request) else ()
        return ResponsesTurn(self._server, tools, request.settings.max_tokens)

    async def _open(self, request: ModelRequest) -> httpx2.Response:
        try:
            return await super()._open(request)
        except ProviderStatusError as error:
            if error.status != 400 or "ncrypted content is not supported" not in str(error):
                raise
        self._asks_encrypted = False  # a model that does not reason refuses even to be asked
        return await super()._open(request)

    def _error_in(self, chunk: JsonObject) -> object:
        whole = chunk if chunk.get("object") == "response" else as_object(chunk.get("response"))
        if chunk.get("type") == "response.failed" or whole.get("error"):
            error = as_object(whole.get("error")) or {"message": "the response failed"}
            overflow = error.get("code") == "context_length_exceeded"
            return error if overflow else error | {"code": _STATUS_OF_CODE.get(str(error.get("code")), 400)}
        error = as_object(chunk.get("error")) or (chunk if chunk.get("type") == "error" else {})
        code = error.get("code")
        return error | {"code": _STATUS_OF_CODE.get(str(code), code)} if error else chunk.get("error")
