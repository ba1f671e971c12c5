"""OpenAI, and every server that speaks its Chat Completions: vLLM, llama.cpp, Ollama, LM Studio and others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit.errors import ProviderStatusError
from agentkit.messages import ImagePart, JsonObject, ReasoningPart
from agentkit.providers._chat_completions import Turn, written_body
from agentkit.providers._conversation import may_call, needs_profile
from agentkit.providers._openai_server import OpenAIServer
from agentkit.providers.base import ModelRequest, OutputMode
from agentkit.providers.profiles import LLAMA_CPP_PYTHON, UNKNOWN

if TYPE_CHECKING:
    import httpx2

__all__ = ["OpenAIProvider"]


class OpenAIProvider(OpenAIServer):
    """A model behind Chat Completions, at OpenAI or any compatible server.

    It may be used by several event loops, one after another or in several threads; each gets its own connections,
    closed when that loop is shut down (`asyncio.run` does it) or by `close`.

    Args:
        model: as the server names it.
        base_url: where the server is, ``http://localhost:8000/v1`` for example. By default ``OPENAI_BASE_URL``, else
            OpenAI itself.
        api_key: by default ``OPENAI_API_KEY``. With a base_url it may be missing: local servers need none.
        timeout: seconds that the server may be silent, before its answer and between two pieces of it; 120. It is not
            a limit of the whole answer. Connecting may take 10 seconds, or ``timeout`` if that is less.
        retry: when and how often a request is tried again; by default 3 attempts.
        extra_body: more fields of the request, for what only some servers know: ``{"top_k": 20}``.
        profile: what the server can do, one of `agentkit.providers.profiles` or your own. By default OpenAI is known by
            its address, and another server is asked when a request depends on it: for at most 2 seconds, once.
        transport: what sends the requests, for tests; see `agentkit.testing.http.RecordedTransport`.

    Raises:
        ConfigError: no API key, or a base_url that is no URL.
        MissingExtraError: the openai package is not installed.
    """

    prefix = "openai"
    path = "/chat/completions"

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """``native`` where the server can hold an answer to a schema and, with tools, lets the model call them too.

        Where neither the address nor ``profile`` says what the server is, it is asked.
        """
        schema = (await self.profile()).schema
        return "native" if schema == "with_tools" or (schema == "without_tools" and not has_tools) else "tool"

    async def _body(self, request: ModelRequest) -> JsonObject:
        known = self._profile or (await self.profile() if needs_profile(request, ImagePart, ReasoningPart) else UNKNOWN)
        return written_body(request, self.model, known)

    async def _open(self, request: ModelRequest) -> httpx2.Response:
        try:
            return await super()._open(request)
        except ProviderStatusError as error:
            if self._profile not in (None, UNKNOWN) or "ChatCompletionRequestSystemMessage" not in str(error):
                raise
        # It gave itself away: no other server names its types so. It takes no null where a turn is only calls.
        self._profile = LLAMA_CPP_PYTHON
        return await super()._open(request)

    def _turn(self, request: ModelRequest) -> Turn:
        return Turn(self._server, request.tools if may_call(request) else ())
