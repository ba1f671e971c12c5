"""Chat Completions on the wire: a conversation → a request's JSON; an answer's bytes → events. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from agentkit.errors import ProviderConnectionError, ProviderProtocolError
from agentkit.events import (
    ModelEvent,
    ReasoningDelta,
)
from agentkit.messages import (
    FinishReason,
    ImagePart,
    JsonObject,
    JsonValue,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    clean_text,
)
from agentkit.providers._answer import Answer, Call
from agentkit.providers._conversation import (
    CallIds,
    check_schema,
    image_url,
    result_text,
    text_or_parts,
    wire_arguments,
    wire_schema,
)
from agentkit.providers._json import JsonText, Kept, json_list, json_text
from agentkit.providers._sse import as_count, as_object
from agentkit.providers._strict import strict_parameters
from agentkit.providers.base import ModelRequest
from agentkit.providers.profiles import UNKNOWN, Profile
from agentkit.tool import AnyTool, read_tools

__all__ = ["Choices", "Turn", "first_choice", "request_body", "written_body"]


# ── a conversation → the request's JSON ──────────────────────────────────────────────────────────────────────────────


def request_body(request: ModelRequest, model: str, profile: Profile = UNKNOWN) -> JsonObject:
    """The request as Python values.

    Raises:
        UnsupportedInputError: an image that is not the user's or a tool's, or that the model does not see; a schema
            that would keep the model from calling tools.
    """
    tools = [_wire_tool(tool, strict=profile.strict) for tool in request.tools]
    return _body(request, model, profile, list(_wire_messages(_shown(request, profile), profile)), tools)


def written_body(request: ModelRequest, model: str, profile: Profile = UNKNOWN) -> JsonObject:
    """`request_body`, with the messages and the tools as `JsonText`. What earlier requests had of them is not written
    again."""
    read_tools(request.tools)
    tools = json_list(map(_kept_tools(profile.strict), request.tools))
    return _body(request, model, profile, _messages_json(_shown(request, profile), profile), tools)


def _shown(request: ModelRequest, profile: Profile) -> Sequence[Message]:
    return (request if profile.reasoning else request.spelled_out()).messages


def _body(request: ModelRequest, model: str, profile: Profile, messages: JsonValue, tools: JsonValue) -> JsonObject:
    settings = request.settings
    body: JsonObject = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = tools
        choice = request.tool_choice
        if choice in ("required", "none"):
            body["tool_choice"] = choice
        elif choice != "auto":  # auto is every server's default, and some refuse to be told
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if request.output_schema is not None:
        check_schema(request, profile)
        body["response_format"] = {"type": "json_schema", "json_schema": wire_schema(request.output_schema)}
    for name, value in (
        ("temperature", settings.temperature),
        ("top_p", settings.top_p),
        (profile.max_tokens, settings.max_tokens),
        ("seed", settings.seed),
        ("stop", list(settings.stop) or None),
    ):
        if value is not None:
            body[name] = value
    return body


def _messages_json(messages: Sequence[Message], profile: Profile) -> JsonText:
    kept = _kept_messages(profile.reasoning, profile.null_content)
    texts = [text for text in map(kept, messages) if text]
    if len(texts) < len(messages):
        texts = [json_text(message) for message in _wire_messages(messages, profile)]
    return json_list(texts)


@cache
def _kept_messages(reasoning: str, null_content: bool) -> Kept[Message, JsonText | None]:
    profile = replace(UNKNOWN, reasoning=reasoning, null_content=null_content)

    def write(message: Message) -> JsonText | None:
        """A message's text by itself; none if it depends on what stands beside it, as ids that are made up and images
        do, or on whether the model sees."""
        named = all(call.id for call in message.calls) and all(result.call_id for result in message.results)
        shows = any(isinstance(part, ImagePart) for part in message.content) or any(r.images for r in message.results)
        if not named or shows:
            return None
        return JsonText(b",".join(map(json_text, _wire_messages([message], profile))))

    return Kept(write)


@cache
def _kept_tools(strict: bool) -> Kept[AnyTool, JsonText]:
    return Kept(lambda tool: json_text(_wire_tool(tool, strict=strict)))


def _wire_tool(tool: AnyTool, *, strict: bool) -> JsonObject:
    parameters = strict_parameters(tool) if strict else None
    if parameters is None:
        return tool.openai_schema
    described: JsonObject = {
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
        "strict": True,
    }
    return {"type": "function", "function": described}


def _wire_messages(messages: Sequence[Message], profile: Profile) -> Iterator[JsonObject]:
    ids = CallIds()
    shown: list[JsonObject] = []  # what tools showed, which no tool's message can hold: the user's turn does
    for message in messages:
        ids.begin(message)
        calls = [_wire_call(call, ids.of_call(call)) for call in message.calls]
        for result in message.results:
            text = result_text(result, profile)
            yield {"role": "tool", "tool_call_id": ids.of_result(result), "content": text}
            shown += _wire_shown(result, profile)
        content = _wire_content(message, profile)
        if message.results and not content:
            continue
        if shown and message.role == "user":  # not two turns of the user: some chat templates want them to alternate
            content = [*shown, *([_wire_part(TextPart(content))] if isinstance(content, str) else content)]
        elif shown:
            yield {"role": "user", "content": shown}
        shown = []
        wire: JsonObject = {"role": message.role, "content": content}
        if calls:
            wire |= {"content": content or (None if profile.null_content else ""), "tool_calls": calls}
        if profile.reasoning and message.reasoning:
            wire[profile.reasoning] = clean_text(message.reasoning)
        yield wire
    if shown:
        yield {"role": "user", "content": shown}


def _wire_call(call: ToolCall, call_id: str) -> JsonObject:
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": wire_arguments(call)}}


def _wire_shown(result: ToolResult, profile: Profile) -> list[JsonObject]:
    if not result.images or profile.sees is False:
        return []
    return [_wire_part(TextPart(f"Shown by {result.name}:")), *map(_wire_part, result.images)]


def _wire_content(message: Message, profile: Profile) -> str | list[JsonObject]:
    content = text_or_parts(message, profile)
    return content if isinstance(content, str) else [_wire_part(part) for part in content]


def _wire_part(part: TextPart | ImagePart) -> JsonObject:
    if isinstance(part, TextPart):
        return {"type": "text", "text": clean_text(part.text)}
    return {"type": "image_url", "image_url": {"url": image_url(part)}}


# ── the answer's bytes → events ──────────────────────────────────────────────────────────────────────────────────────


class Choices:
    """The chunks of one answer, as far as Completions and Chat Completions are the same.

    Attributes:
        usage: what was counted so far.
    """

    def __init__(self, server: str) -> None:
        self.usage = Usage()
        self._server = server
        self._finish: str | None = None
        self._any = False

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""
        return self._finish is not None

    def next(self, chunk: JsonObject) -> JsonObject:
        """The next chunk's choice, empty if it has none, as the one with the usage."""
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = _usage(usage)
        choice = first_choice(chunk)
        if choice is None:
            return {}
        self._any = True
        if finish := choice.get("finish_reason"):
            self._finish = str(finish)
        return choice

    def end(self) -> FinishReason:
        """The answer is over.

        Raises:
            ProviderProtocolError: it held no choice.
            ProviderConnectionError: it ended before the model was done.
        """
        if not self._any:
            raise ProviderProtocolError(f"{self._server} sent an answer without any choices")
        if self._finish is None:
            raise ProviderConnectionError(f"{self._server} ended its answer without a finish_reason: it is not whole")
        return _FINISH_REASONS.get(self._finish, "stop")


class Turn:
    """Chunks of one answer → events. Servers differ in much; what is tolerated is said where it is done."""

    def __init__(self, server: str, tools: Sequence[AnyTool]) -> None:
        self._choices = Choices(server)
        self._tools = {tool.name for tool in tools}
        self._answer = Answer(tools)
        self._by_index: dict[int, Call] = {}
        self._latest: Call | None = None  # the one that last grew

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""
        return self._choices.is_complete

    def feed(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Take the next chunk."""
        choice = self._choices.next(chunk)
        delta = as_object(choice.get("delta") or choice.get("message"))  # `message`: the server does not stream
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            yield ReasoningDelta(clean_text(reasoning))
        if content := delta.get("content"):
            yield from self._answer.text(_flat(content))
        if (refusal := delta.get("refusal")) and isinstance(refusal, str):
            yield from self._answer.refusal(refusal)
        if calls := delta.get("tool_calls"):
            for call in calls if isinstance(calls, list) else [calls]:
                yield from self._feed_call(as_object(call))
        elif legacy := delta.get("function_call"):
            yield from self._feed_call({"index": 0, "function": legacy})

    def finish(self) -> Iterator[ModelEvent]:
        """The answer is over.

        Raises:
            ProviderProtocolError: it held no choice.
            ProviderConnectionError: it ended before the model was done.
        """
        reason = self._choices.end()
        cut_off = self._latest if reason in ("length", "content_filter") else None
        yield from self._answer.finish(reason, self._choices.usage, cut_off)

    def _feed_call(self, delta: JsonObject) -> Iterator[ModelEvent]:
        function = as_object(delta.get("function"))
        name, arguments = function.get("name"), function.get("arguments")
        name = clean_text(name) if isinstance(name, str) else ""
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):  # an object instead of its text
            arguments = json.dumps(arguments, ensure_ascii=False)
        given_id = str(delta.get("id") or "")
        index = delta.get("index")
        call = self._find(index if isinstance(index, int) else None, given_id, name, arguments)
        self._latest = call
        call.given_id = call.given_id or given_id
        announced = bool(call.id)
        if name and not announced:
            call.name = self._grown(call.name, name)
        yield from self._answer.arguments(call, arguments)
        if call.name and not announced and (call.pieces or self._is_final(call.name)):
            yield from self._answer.announce(call)

    def _find(self, index: int | None, given_id: str, name: str, arguments: str) -> Call:
        """The call that a delta belongs to, a new one if it begins one."""
        calls = self._answer.calls
        if index is not None:
            call = self._by_index.get(index)
        else:
            found = [call for call in calls if given_id and call.given_id == given_id]
            if not found and not (given_id and name):
                found = calls[-1:]
            call = found[0] if found else None
        if call is None or _begins_another(call, given_id, name, arguments):
            call = Call()
            calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _grown(self, name: str, more: str) -> str:
        """A name that comes in pieces, grows, or is repeated in each delta."""
        if name + more in self._tools or not more.startswith(name):
            return name + more
        return more

    def _is_final(self, name: str) -> bool:
        return name in self._tools and not any(other != name and other.startswith(name) for other in self._tools)


def _begins_another(call: Call, given_id: str, name: str, arguments: str) -> bool:
    """Whether a delta with the index of a call, or with none, is nevertheless of another one: some servers give each
    call index 0, no index, or one id. Others repeat the name in each delta, or make up an id for each."""
    if not name or not call.name:
        return False
    other_id = bool(given_id and call.given_id and given_id != call.given_id)
    if not call.pieces:
        return other_id
    whole = call.pieces[-1].rstrip().endswith("}") and _is_object(call.pieces)
    return whole and (other_id or bool(arguments.strip()))


def _is_object(pieces: Sequence[str]) -> bool:
    try:
        return isinstance(json.loads("".join(pieces)), dict)
    except (ValueError, RecursionError):
        return False


_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}
"""Any other one is a server's own word for an end, ``eos`` for example."""


def first_choice(chunk: JsonObject) -> JsonObject | None:
    choices = chunk.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and not choice.get("index"):  # we ask for one only
                return choice
    return None


def _flat(content: object) -> str:
    """Content that is a string, or a list of text parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(text for part in parts if isinstance(text := as_object(part).get("text"), str))


def _usage(usage: JsonObject) -> Usage:
    prompt = as_object(usage.get("prompt_tokens_details"))
    completion = as_object(usage.get("completion_tokens_details"))
    return Usage(
        as_count(usage.get("prompt_tokens")),
        as_count(usage.get("completion_tokens")),
        as_count(prompt.get("cached_tokens")),
        as_count(completion.get("reasoning_tokens")),
    )
