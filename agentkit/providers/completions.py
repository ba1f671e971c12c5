"""Models older than chat, behind Completions: GPT-3 and its kind, and base models at vLLM or llama.cpp's server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from agentkit.errors import UnsupportedInputError
from agentkit.events import ModelEvent, ModelFinished, ReasoningDelta, TextDelta, ToolCallEnd
from agentkit.messages import JsonObject, clean_text
from agentkit.parsing import StreamParser
from agentkit.providers._chat_completions import Choices
from agentkit.providers._conversation import may_call
from agentkit.providers._gbnf import turn_grammar
from agentkit.providers._openai_server import OpenAIServer
from agentkit.providers._react import REACT, opening, stops, write_prompt
from agentkit.providers.base import ModelRequest

__all__ = ["CompletionsProvider"]

DEFAULT_MAX_TOKENS: Final = 512
"""Of one turn, where the settings do not say: servers' own default is 16."""


class CompletionsProvider(OpenAIServer):
    """A model without chat, at a server that has ``/completions``. It learns in context to use tools: the prompt shows
    each one in use, and the conversation goes on as Thought, Action, Observation.

    Args:
        model: as the server names it.
        base_url: where the server is, ``http://localhost:8000/v1`` for example. By default ``OPENAI_BASE_URL``, else
            OpenAI itself.
        api_key: by default ``OPENAI_API_KEY``. With a base_url it may be missing: local servers need none.
        timeout: seconds that the server may be silent; 120.
        retry: when and how often a request is tried again; by default 3 attempts.
        extra_body: more fields of the request, for what only some servers know.
        profile: what the server can do. By default one that is not known by its address is asked when tools are
            offered: llama.cpp's server can keep a small model from making up names of tools.

    Settings: temperature 0 unless given; 512 tokens a turn unless ``max_tokens`` is given. Two of the four stop strings
    that OpenAI allows are taken.

    Raises:
        ConfigError: no API key, or a base_url that is no URL.
        MissingExtraError: the openai package is not installed.
    """

    prefix = "completions"
    path = "/completions"

    async def _body(self, request: ModelRequest) -> JsonObject:
        if request.output_schema is not None:
            raise UnsupportedInputError(
                f"{self.name} cannot hold an answer to output_schema: ask for JSON in the prompt"
            )
        settings = request.settings
        body: JsonObject = {
            "model": self.model,
            "prompt": write_prompt(request),
            "max_tokens": settings.max_tokens or DEFAULT_MAX_TOKENS,
            "temperature": settings.temperature or 0.0,
            "stop": [*stops(request), *settings.stop],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if settings.top_p is not None:
            body["top_p"] = settings.top_p
        if settings.seed is not None:
            body["seed"] = settings.seed
        if may_call(request) and (await self.profile()).grammar:
            body["grammar"] = turn_grammar(request)
        return body

    def _turn(self, request: ModelRequest) -> _Turn:
        return _Turn(self._server, request)


class _Turn:
    """Chunks of one answer → events."""

    def __init__(self, server: str, request: ModelRequest) -> None:
        self._choices = Choices(server)
        self._parser: StreamParser | None = None
        self._begun: list[ModelEvent] = []  # what the prompt already holds of the turn
        if may_call(request):
            self._parser = StreamParser(request.tools, REACT)
            self._begun = self._parser.feed(opening(request))
        self._said = False
        self._called = False
        self._held = ""  # of the end so far: space, which is no part of the turn if nothing follows; half a character

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""
        return self._choices.is_complete

    def feed(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Take the next chunk."""
        text = self._choices.next(chunk).get("text")
        if not isinstance(text, str):
            return
        text = self._held + text
        solid = text.rstrip()
        if solid and "\ud800" <= solid[-1] <= "\udbff":  # its other half may come next
            solid = solid[:-1]
        self._held = text[len(solid) :]
        yield from self._read(solid)

    def finish(self) -> Iterator[ModelEvent]:
        """The answer is over."""
        reason = self._choices.end()
        yield from self._read(self._held.rstrip())
        if self._parser:
            yield from self._known(self._parser.finish(truncated=reason == "length"))
        yield ModelFinished(reason, self._choices.usage)

    def _read(self, text: str) -> Iterator[ModelEvent]:
        text = clean_text(text)
        if self._parser:
            yield from self._known(self._parser.feed(text))
        elif text:
            yield TextDelta(text if self._said else text.lstrip())
            self._said = True

    def _known(self, events: Iterable[ModelEvent]) -> Iterator[ModelEvent]:
        """What the prompt already holds of the turn, and then what is said up to the first call, and further calls:
        no result was known yet."""
        begun, self._begun = self._begun, []
        for event in (*begun, *events):
            self._called = self._called or isinstance(event, ToolCallEnd)
            if not (self._called and isinstance(event, TextDelta | ReasoningDelta)):
                yield event
