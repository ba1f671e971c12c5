"""The Responses API on the wire: a conversation → a request's JSON; an answer's events → ours. No I/O.

Names and shapes are those of the openai package's ``openai.types.responses``. Nothing is stored at the server: each
request holds the whole conversation, with the reasoning items that the model wants to see again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from agentkit.errors import ProviderConnectionError, ProviderProtocolError, UnsupportedInputError
from agentkit.events import ModelEvent, ReasoningDelta, ReasoningEnd
from agentkit.messages import (
    FinishReason,
    ImagePart,
    JsonObject,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    clean_json,
    clean_text,
)
from agentkit.providers._answer import Answer, Call
from agentkit.providers._conversation import (
    CallIds,
    image_url,
    result_text,
    text_or_parts,
    wire_arguments,
    wire_schema,
)
from agentkit.providers._sse import as_count, as_object
from agentkit.providers._strict import strict_parameters
from agentkit.providers.base import ModelRequest
from agentkit.providers.profiles import Profile
from agentkit.tool import AnyTool

__all__ = ["ResponsesTurn", "request_body"]

_STATE: Final = "openai_responses"
"""The key of `ReasoningPart.state` under which an item of this API is kept."""


# ── a conversation → the request's JSON ──────────────────────────────────────────────────────────────────────────────


def request_body(request: ModelRequest, model: str, profile: Profile) -> JsonObject:
    """The request's JSON.

    Raises:
        UnsupportedInputError: an image that is not the user's or a tool's, or that the model does not see; a schema
            that the server cannot hold an answer to; stop strings.
    """
    settings = request.settings
    if settings.stop:
        raise UnsupportedInputError(
            f"The Responses API knows no stop strings ({', '.join(map(repr, settings.stop))}): leave "
            "ModelSettings.stop out, or use Chat Completions (openai:…)"
        )
    body: JsonObject = {
        "model": model,
        "input": list(_wire_items(request.spelled_out().messages, profile)),
        "stream": True,
        "store": False,
    }
    if request.tools:
        body["tools"] = [_wire_tool(tool, profile) for tool in request.tools]
        choice = request.tool_choice
        if choice in ("required", "none"):
            body["tool_choice"] = choice
        elif choice != "auto":
            body["tool_choice"] = {"type": "function", "name": choice}
    if request.output_schema is not None:
        if profile.schema != "with_tools":
            raise UnsupportedInputError(
                f"It is not known that {profile.server} holds an answer of the Responses API to output_schema: use "
                "Chat Completions (openai:…), or pass profile=… if it does"
            )
        body["text"] = {"format": {"type": "json_schema", **wire_schema(request.output_schema)}}
    for name, value in (
        ("temperature", settings.temperature),
        ("top_p", settings.top_p),
        ("max_output_tokens", settings.max_tokens),
    ):
        if value is not None:
            body[name] = value
    return body


def _wire_tool(tool: AnyTool, profile: Profile) -> JsonObject:
    strict = strict_parameters(tool) if profile.strict else None
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters if strict is None else strict,
        "strict": strict is not None,  # left out it would count as true
    }


def _wire_items(messages: Sequence[Message], profile: Profile) -> Iterator[JsonObject]:
    ids = CallIds()
    for message in messages:
        ids.begin(message)
        for result in message.results:
            output = _wire_output(result, profile)
            yield {"type": "function_call_output", "call_id": ids.of_result(result), "output": output}
        if message.role == "assistant":
            yield from _wire_turn(message, ids, profile)
        elif any(not isinstance(part, ToolResult) for part in message.content):
            role = "user" if message.role == "tool" else message.role
            yield {"type": "message", "role": role, "content": _wire_content(message, profile)}


def _wire_turn(message: Message, ids: CallIds, profile: Profile) -> Iterator[JsonObject]:
    """The model's own turn, in the order in which it was written. Reasoning that led to nothing is left out, as in a
    turn that was cut off: the API refuses it."""
    text_or_parts(message, profile)  # refuses images
    reasoning: list[JsonObject] = []
    phase: JsonObject = {}  # of the message that comes next
    for part in message.content:
        item: JsonObject
        if isinstance(part, ReasoningPart):
            item = as_object(part.state.get(_STATE))
            if item.get("type") == "reasoning":
                reasoning.append(item)
            else:
                phase = item
            continue
        if isinstance(part, TextPart):
            text = {"type": "output_text", "text": clean_text(part.text)}
            item = {"type": "message", "role": "assistant", "content": [text], **phase}
        elif isinstance(part, ToolCall):
            arguments = wire_arguments(part)
            item = {"type": "function_call", "call_id": ids.of_call(part), "name": part.name, "arguments": arguments}
        else:
            continue
        yield from reasoning
        reasoning.clear()
        yield item


def _wire_content(message: Message, profile: Profile) -> str | list[JsonObject]:
    content = text_or_parts(message, profile)
    return content if isinstance(content, str) else [_wire_part(part) for part in content]


def _wire_output(result: ToolResult, profile: Profile) -> str | list[JsonObject]:
    text = result_text(result, profile)
    if not result.images or profile.sees is False:
        return text
    return [_wire_part(TextPart(text)), *map(_wire_part, result.images)]


def _wire_part(part: TextPart | ImagePart) -> JsonObject:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": clean_text(part.text)}
    return {"type": "input_image", "image_url": image_url(part), "detail": "auto"}


# ── the answer's events → ours ───────────────────────────────────────────────────────────────────────────────────────


class ResponsesTurn:
    """Events of one answer → ours. Servers leave out much of what OpenAI sends twice: pieces, or the whole item, or
    only the whole response at the end. Each is read from whatever comes first.

    ``max_tokens`` is the request's, for servers that do not say when it was reached.
    """

    def __init__(self, server: str, tools: Sequence[AnyTool], max_tokens: int | None) -> None:
        self._server = server
        self._max_tokens = max_tokens
        self._answer = Answer(tools)
        self._calls: dict[object, Call] = {}  # by the keys of their items
        self._streamed: set[object] = set()  # keys of items that came in pieces
        self._any_item = False  # whether any came as a whole, by itself
        self._writing: Call | None = None  # whose arguments are not all here
        self._response: JsonObject | None = None
        self._any_event = False

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""
        return self._response is not None

    def feed(self, event: JsonObject) -> Iterator[ModelEvent]:
        """Take the next event."""
        kind = event.get("type")
        self._any_event = self._any_event or str(kind).startswith("response.")
        delta = event.get("delta")
        if isinstance(delta, str) and delta:
            yield from self._feed_delta(str(kind), delta, event)
        elif kind == "response.reasoning_summary_part.added" and event.get("summary_index"):
            yield ReasoningDelta("\n\n")
        elif kind == "response.output_item.added":
            yield from self._begin(as_object(event.get("item")), _keys(event))
        elif kind == "response.function_call_arguments.done":
            yield from self._end_call(self._call(_keys(event)), event)
        elif kind == "response.output_item.done":
            yield from self._end(as_object(event.get("item")), _keys(event))
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._end_response(as_object(event.get("response")))
        elif event.get("object") == "response":  # the server does not stream
            self._any_event = True
            yield from self._end_response(event)

    def finish(self) -> Iterator[ModelEvent]:
        """The answer is over.

        Raises:
            ProviderProtocolError: it was no answer of this API.
            ProviderConnectionError: it ended before the model was done.
        """
        if not self._any_event:
            raise ProviderProtocolError(f"{self._server} sent an answer without any event of the Responses API")
        if self._response is None:
            raise ProviderConnectionError(
                f"{self._server} ended its answer without response.completed: it is not whole"
            )
        usage = _usage(as_object(self._response.get("usage")))
        reason = _INCOMPLETE.get(str(as_object(self._response.get("incomplete_details")).get("reason")), "stop")
        if "incomplete_details" not in self._response and usage.output_tokens >= (self._max_tokens or math.inf):
            reason = "length"  # llama.cpp's server says "completed" all the same
        yield from self._answer.finish(reason, usage, self._writing if reason != "stop" else None)

    def _feed_delta(self, kind: str, delta: str, event: JsonObject) -> Iterator[ModelEvent]:
        self._streamed |= _keys(event)
        if kind == "response.output_text.delta":
            yield from self._answer.text(delta)
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            yield ReasoningDelta(clean_text(delta))
        elif kind == "response.refusal.delta":
            yield from self._answer.refusal(delta)
        elif kind == "response.function_call_arguments.delta":
            yield from self._answer.arguments(self._call(_keys(event)), delta)

    def _begin(self, item: JsonObject, keys: set[object]) -> Iterator[ModelEvent]:
        if item.get("type") == "function_call":
            yield from self._name(self._call(keys), item)
        elif item.get("type") == "message" and item.get("phase"):
            yield _kept({"phase": item["phase"]})

    def _end(self, item: JsonObject, keys: set[object]) -> Iterator[ModelEvent]:
        self._any_item = True
        kind = item.get("type")
        if kind == "function_call":
            call = self._call(keys)
            yield from self._name(call, item)
            yield from self._end_call(call, item)
        elif kind == "message" and not keys & self._streamed:
            for part in _parts(item.get("content")):
                if isinstance(text := part.get("text"), str):
                    yield from self._answer.text(text)
                elif isinstance(refusal := part.get("refusal"), str):
                    yield from self._answer.refusal(refusal)
        elif kind == "reasoning":
            if not keys & self._streamed:
                texts = [str(part.get("text")) for part in _parts(item.get("summary")) or _parts(item.get("content"))]
                if texts:
                    yield ReasoningDelta(clean_text("\n\n".join(texts)))
            # By its id alone the server would find nothing: it was not stored.
            if item.get("encrypted_content") or item.get("content"):
                yield _kept({key: value for key, value in item.items() if value is not None and key != "status"})

    def _end_response(self, response: JsonObject) -> Iterator[ModelEvent]:
        self._response = response
        if not self._any_item:
            known = self._streamed | self._calls.keys()
            for index, item in enumerate(_parts(response.get("output"))):
                yield from self._end(item, known & {index, str(item.get("id"))} or {index})

    def _call(self, keys: set[object]) -> Call:
        """The call that an event belongs to, a new one if it is the first."""
        call = next((self._calls[key] for key in keys if key in self._calls), None if keys else self._writing)
        if call is None:
            call = self._writing = Call()
            self._answer.calls.append(call)
        self._calls |= dict.fromkeys(keys, call)
        return call

    def _name(self, call: Call, item: JsonObject) -> Iterator[ModelEvent]:
        if not call.id and isinstance(name := item.get("name"), str) and name:
            call.name = clean_text(name)
            call.given_id = str(item.get("call_id") or "")
            yield from self._answer.announce(call)

    def _end_call(self, call: Call, whole: JsonObject) -> Iterator[ModelEvent]:
        arguments = whole.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        if not call.pieces:
            yield from self._answer.arguments(call, arguments)
        elif arguments:
            call.pieces = [arguments]
        if call is self._writing and whole.get("status") != "incomplete":
            self._writing = None


def _keys(event: JsonObject) -> set[object]:
    """What an event's item is known by: its place where that is said, since some servers change its id as they go."""
    index = event.get("output_index")
    key = index if isinstance(index, int) else event.get("item_id") or as_object(event.get("item")).get("id")
    return {key} if isinstance(key, int | str) else set()


_INCOMPLETE: Final[Mapping[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}


def _kept(item: JsonObject) -> ReasoningEnd:
    return ReasoningEnd({_STATE: clean_json(item)})


def _parts(content: object) -> list[JsonObject]:
    return [as_object(part) for part in content] if isinstance(content, list) else []


def _usage(usage: JsonObject) -> Usage:
    return Usage(
        as_count(usage.get("input_tokens")),
        as_count(usage.get("output_tokens")),
        as_count(as_object(usage.get("input_tokens_details")).get("cached_tokens")),
        as_count(as_object(usage.get("output_tokens_details")).get("reasoning_tokens")),
    )
