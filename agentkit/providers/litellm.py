"""Every other vendor through LiteLLM: Anthropic, Gemini, Bedrock, Mistral, Cohere and a hundred more."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from importlib.util import find_spec
from typing import Final, cast

from agentkit.errors import (
    ConfigError,
    MissingExtraError,
    UnsupportedInputError,
)
from agentkit.events import ModelEvent, ModelFinished, ReasoningDelta, ReasoningEnd
from agentkit.messages import JsonObject, Message, ReasoningPart
from agentkit.providers._chat_completions import Turn, first_choice, request_body
from agentkit.providers._conversation import may_call
from agentkit.providers._litellm_library import Library, load
from agentkit.providers._sse import as_object
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.providers.profiles import Profile
from agentkit.providers.retry import Retry

__all__ = ["LiteLLMProvider"]

_STATE: Final = "litellm"
"""The key of `ReasoningPart.state` under which a block of thinking is kept, with the vendor that signed it."""


class LiteLLMProvider(Provider):
    """A model of any vendor that LiteLLM knows.

    It may be used by several event loops, one after another or in several threads. Connections are LiteLLM's own: all
    providers of a loop share them, and they are closed when that loop is shut down (`asyncio.run` does it).

    Args:
        model: as LiteLLM names it: ``anthropic/claude-sonnet-4-5``, ``gemini/gemini-2.5-pro``, ``bedrock/…``.
        base_url: where the vendor's API is, if not where LiteLLM thinks.
        api_key: by default the vendor's environment variable, ``ANTHROPIC_API_KEY`` for example.
        timeout: seconds that the server may be silent; 120. It is not a limit of the whole answer.
        retry: when and how often a request is tried again; by default 3 attempts. LiteLLM's own retries are off.
        options: more arguments of `litellm.acompletion`: ``{"reasoning_effort": "low"}``, ``{"aws_region_name": …}``.
        profile: what the model can do; by default what LiteLLM's table of models says of it.

    Raises:
        ConfigError: a timeout that is none.
        MissingExtraError: the litellm package is not installed.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 120.0,
        retry: Retry | None = None,
        options: Mapping[str, object] | None = None,
        profile: Profile | None = None,
    ) -> None:
        if find_spec("litellm") is None:
            raise MissingExtraError("the litellm provider", "litellm")
        if not timeout > 0:
            raise ConfigError(f"{type(self).__name__}: timeout is {timeout!r}: it must be above 0 seconds")
        self.name = f"litellm:{model}"
        self.model = model
        self.timeout = timeout
        self._retry = retry or Retry()
        self._profile = profile
        given = {"api_base": base_url, "api_key": api_key}
        self._arguments = {name: value for name, value in given.items() if value} | dict(options or {})

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """One turn of the model: its events in order, `ModelFinished` last.

        Closing the generator, or cancelling the task that reads it, closes the connection, which stops the server.

        Raises:
            UnknownModelError: LiteLLM knows no vendor of this name.
            ProviderConnectionError: refused, not found, silent for ``timeout`` seconds, or broken off.
            ProviderStatusError: the vendor answered with an HTTP error.
            ProviderProtocolError: the answer is none that LiteLLM can read.
            ContextOverflowError: the vendor said that the prompt is too long; its numbers are 0 if it gave none.
            UnsupportedInputError: something that this model has no place for: tools, images or an ``output_schema``.
        """
        return self._retry.stream(lambda: self._attempt(request), request.deadline)

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """``native`` where LiteLLM says that the model can hold an answer to a schema; with tools only where that lets
        the model call them too."""
        schema = self._known(await load()).schema
        return "native" if schema == "with_tools" or (schema == "without_tools" and not has_tools) else "tool"

    async def context_size(self) -> int | None:
        """What LiteLLM's table of models says that a prompt may have."""
        return self._known(await load()).context

    async def _attempt(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        library = await load()
        vendor = library.vendor(self.model)
        arguments = self._request(request, library, vendor)
        turn = Turn(self.name, request.tools if may_call(request) else ())
        thinking = _Thinking(vendor)
        cost = 0.0
        async with aclosing(library.stream(self.name, arguments)) as chunks:
            async for chunk in chunks:
                cost = _cost(chunk) or cost
                ends = list(thinking.feed(chunk))
                for event in turn.feed(chunk):
                    if ends and not isinstance(event, ReasoningDelta):  # before what comes after the thinking
                        for end in ends:
                            yield end
                        ends = []
                    yield event
                for end in ends:
                    yield end
        for event in turn.finish():
            yield replace(event, usage=replace(event.usage, cost=cost)) if isinstance(event, ModelFinished) else event

    def _request(self, request: ModelRequest, library: Library, vendor: str) -> JsonObject:
        profile = self._known(library)
        if request.output_schema is not None and profile.schema == "unknown":
            raise UnsupportedInputError(
                f"LiteLLM knows no way to hold an answer of {self.model} to output_schema: leave it out "
                "(Provider.output_mode says how to ask for the answer instead), or pass profile=… if this model can"
            )
        body = request_body(request, self.model, profile)
        _put_back_thinking(request.messages, body, vendor)
        for name in {"tools", "response_format"} & set(body):
            body[name] = copy.deepcopy(body[name])  # some vendors' schemas are rewritten in place
        if "seed" in body and not library.takes(self.model, "seed"):  # it is asked for where a vendor can
            del body["seed"]
        return body | {"timeout": self.timeout} | self._arguments

    def _known(self, library: Library) -> Profile:
        return self._profile or library.profile(self.model)


class _Thinking:
    """Blocks of thinking that a vendor signed (Anthropic, also at Bedrock and Vertex) and wants back unchanged while
    the model uses tools."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._text = ""

    def feed(self, chunk: JsonObject) -> Iterator[ReasoningEnd]:
        """The blocks that end in this chunk."""
        blocks = as_object((first_choice(chunk) or {}).get("delta")).get("thinking_blocks")
        for block in map(as_object, blocks if isinstance(blocks, list) else []):
            self._text += str(block.get("thinking") or "")
            if block.get("type") == "redacted_thinking":  # unreadable to us, and one piece
                yield self._end({"type": "redacted_thinking", "data": block.get("data")})
            elif signature := block.get("signature"):  # the last piece
                yield self._end({"type": "thinking", "thinking": self._text, "signature": signature})
                self._text = ""

    def _end(self, block: JsonObject) -> ReasoningEnd:
        return ReasoningEnd({_STATE: {"vendor": self._vendor, "block": block}})


def _put_back_thinking(messages: Sequence[Message], body: JsonObject, vendor: str) -> None:
    """Give the assistant's messages of a request the blocks of thinking that this vendor signed."""
    wire = cast("list[JsonObject]", body["messages"])
    theirs = [message for message in wire if message["role"] == "assistant"]
    ours = [message for message in messages if message.role == "assistant"]
    for message, written in zip(ours, theirs, strict=True):
        kept = [as_object(part.state.get(_STATE)) for part in message.content if isinstance(part, ReasoningPart)]
        if blocks := [state["block"] for state in kept if state.get("vendor") == vendor]:
            written["thinking_blocks"] = blocks


def _cost(chunk: JsonObject) -> float:
    """US dollars, as LiteLLM works them out at the end of an answer; 0 for a model whose price it does not know."""
    cost = as_object(chunk.get("usage")).get("cost")
    return float(cost) if isinstance(cost, int | float) else 0.0
