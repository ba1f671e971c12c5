"""OpenAI, and every server that speaks its Chat Completions: vLLM, llama.cpp, Ollama, LM Studio and others."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from agentkit.errors import UnsupportedInputError
from agentkit.messages import JsonObject
from agentkit.providers._chat_completions import Turn, request_body
from agentkit.providers._openai_server import OpenAIServer
from agentkit.providers.base import ModelRequest

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
        transport: what sends the requests, for tests; see `agentkit.testing.http.RecordedTransport`.

    Raises:
        ConfigError: no API key, or a base_url that is no URL.
        MissingExtraError: the openai package is not installed.
    """

    prefix = "openai"
    path = "/chat/completions"

    def _body(self, request: ModelRequest) -> JsonObject:
        if request.output_schema is not None:
            raise UnsupportedInputError(
                f"{self.name} cannot hold an answer to output_schema yet: leave it out and ask for JSON in the prompt, "
                "or use a llama_cpp model"
            )
        return request_body(request, self.model, self._max_tokens_field)

    def _turn(self, request: ModelRequest) -> Turn:
        return Turn(self._server, () if request.tool_choice == "none" else request.tools)

    @property
    def _max_tokens_field(self) -> str:
        """OpenAI's newer models refuse the old name; most other servers know only that."""
        host = urlsplit(self.base_url).hostname or ""
        return "max_completion_tokens" if re.search(r"(^|\.)openai(\.azure)?\.com$", host) else "max_tokens"
