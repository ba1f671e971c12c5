"""Chat Completions on the wire: a conversation → a request's JSON; an answer's bytes → events. No I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from agentkit.errors import ProviderConnectionError, ProviderProtocolError, UnsupportedInputError
from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.messages import (
    FinishReason,
    ImagePart,
    JsonObject,
    Message,
    Problem,
    TextPart,
    ToolCall,
    Usage,
    clean_json,
    clean_text,
)
from agentkit.parsing import StreamParser
from agentkit.parsing.calls import RawCall, ToolBox
from agentkit.parsing.fit import plain
from agentkit.parsing.literals import strict_json
from agentkit.parsing.repair import read_json
from agentkit.providers._sse import as_count, as_object
from agentkit.providers.base import ModelRequest
from agentkit.tool import AnyTool

__all__ = ["FINISH_REASONS", "Turn", "first_choice", "read_usage", "request_body"]


# ── a conversation → the request's JSON ──────────────────────────────────────────────────────────────────────────────


def request_body(request: ModelRequest, model: str, max_tokens_field: str) -> JsonObject:
    settings = request.settings
    body: JsonObject = {
        "model": model,
        "messages": list(_wire_messages(request.messages)),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [tool.openai_schema for tool in request.tools]
        choice = request.tool_choice
        if choice in ("required", "none"):
            body["tool_choice"] = choice
        elif choice != "auto":  # auto is every server's default, and some refuse to be told
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
    for name, value in (
        ("temperature", settings.temperature),
        ("top_p", settings.top_p),
        (max_tokens_field, settings.max_tokens),
        ("seed", settings.seed),
        ("stop", list(settings.stop) or None),
    ):
        if value is not None:
            body[name] = value
    return body


def _wire_messages(messages: Sequence[Message]) -> Iterator[JsonObject]:
    unnamed = 0  # calls without an id, so far: the same one gets the same id in each request
    waiting: list[tuple[str, str]] = []  # of the last turn's: name, id
    for message in messages:
        calls: list[JsonObject] = []
        if message.calls:
            waiting.clear()
        for call in message.calls:
            call_id = call.id
            if not call_id:
                unnamed += 1
                call_id = f"call{unnamed:05}"  # nine letters and digits: some chat templates take nothing else
                waiting.append((call.name, call_id))
            calls.append(_wire_call(call, call_id))
        for result in message.results:
            call_id = result.call_id or _take(waiting, result.name)
            yield {"role": "tool", "tool_call_id": call_id, "content": clean_text(result.content)}
        content = _wire_content(message)
        if calls:
            yield {"role": message.role, "content": content or None, "tool_calls": calls}
        elif content or not message.results:
            yield {"role": message.role, "content": content}


def _wire_call(call: ToolCall, call_id: str) -> JsonObject:
    arguments = clean_text(json.dumps(call.arguments, ensure_ascii=False))
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _take(waiting: list[tuple[str, str]], name: str) -> str:
    for place, (called, call_id) in enumerate(waiting):
        if called == name:
            del waiting[place]
            return call_id
    return "call00000"  # of a call that is not in the history: the server will say so


def _wire_content(message: Message) -> str | list[JsonObject]:
    """Text as a string; with images, a list. Reasoning is not sent back."""
    if not any(isinstance(part, ImagePart) for part in message.content):
        return clean_text(message.text)
    if message.role != "user":
        raise UnsupportedInputError(f"Chat Completions take images only from the user, not from {message.role!r}")
    content: list[JsonObject] = []
    for part in message.content:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": clean_text(part.text)})
        elif isinstance(part, ImagePart):
            content.append({"type": "image_url", "image_url": {"url": _image_url(part)}})
    return content


def _image_url(image: ImagePart) -> str:
    return image.url or f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


# ── the answer's bytes → events ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Call:
    """A tool call that is being received."""

    given_id: str = ""  # the server's
    id: str = ""  # ours, set when the call is announced
    name: str = ""
    pieces: list[str] = field(default_factory=list)


class Turn:
    """Chunks of one answer → events. Servers differ in much; what is tolerated is said where it is done.

    A server that does not know its model's format leaves calls in the text: they are read from there. Such calls come
    at the end of the turn, and not at all where the server sent any as structure.
    """

    def __init__(self, server: str, tools: Sequence[AnyTool]) -> None:
        self._server = server
        self._tools = {tool.name for tool in tools}
        self._toolbox = ToolBox(tools)
        self._text = StreamParser(tools=tools) if tools else None
        self._written: list[ModelEvent] = []  # of calls that stood in the text
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._latest: _Call | None = None  # the one that last grew
        self._half = ""  # the first half of a character that a server cut in two
        self._finish: str | None = None
        self._refused = False
        self._usage = Usage()
        self._any_choice = False

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""
        return self._finish is not None

    def feed(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Take the next chunk."""
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = read_usage(usage)
        choice = first_choice(chunk)
        if choice is None:  # the chunk with the usage has none
            return
        self._any_choice = True
        delta = as_object(choice.get("delta") or choice.get("message"))  # `message`: the server does not stream
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            yield ReasoningDelta(clean_text(reasoning))
        content = delta.get("content")
        if content and (text := self._join(_flat(content))):
            yield from self._read_text(text)
        if (refusal := delta.get("refusal")) and isinstance(refusal, str):
            self._refused = True
            yield TextDelta(clean_text(refusal))
        if calls := delta.get("tool_calls"):
            for call in calls if isinstance(calls, list) else [calls]:
                yield from self._feed_call(as_object(call))
        elif legacy := delta.get("function_call"):
            yield from self._feed_call({"index": 0, "function": legacy})
        if finish := choice.get("finish_reason"):
            self._finish = str(finish)

    def finish(self) -> Iterator[ModelEvent]:
        """The answer is over.

        Raises:
            ProviderProtocolError: it held no choice.
            ProviderConnectionError: it ended before the model was done.
        """
        if not self._any_choice:
            raise ProviderProtocolError(f"{self._server} sent an answer without any choices")
        if self._finish is None:
            raise ProviderConnectionError(f"{self._server} ended its answer without a finish_reason: it is not whole")
        if self._half:
            yield from self._read_text("\ufffd")
        reason = FINISH_REASONS.get(self._finish, "stop")
        if self._text:
            yield from self._sorted(self._text.finish(truncated=reason == "length"))
        for call in self._calls:
            if not call.id and call.name:
                yield from self._announce(call)
            cut_off = call is self._latest and reason in ("length", "content_filter")
            yield _read_call(call, cut_off, self._toolbox)
        if not self._calls:
            yield from self._written
        yield ModelFinished("refusal" if self._refused and reason == "stop" else reason, self._usage)

    def _read_text(self, text: str) -> Iterator[ModelEvent]:
        if self._text is None:
            yield TextDelta(text)
        else:
            yield from self._sorted(self._text.feed(text))

    def _sorted(self, events: Iterable[ModelEvent]) -> Iterator[ModelEvent]:
        """Text at once; what concerns calls when it is known whether the server sends its own."""
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta):
                yield event
            else:
                self._written.append(event)

    def _join(self, text: str) -> str:
        """Text without lone surrogates; the two halves of a character may come in two chunks."""
        text = self._half + text
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return clean_text(text)

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
        if arguments:
            call.pieces.append(arguments)
        if announced and arguments:
            yield ToolCallDelta(call.id, clean_text(arguments))
        elif call.name and not announced and (call.pieces or self._is_final(call.name)):
            yield from self._announce(call)

    def _find(self, index: int | None, given_id: str, name: str, arguments: str) -> _Call:
        """The call that a delta belongs to, a new one if it begins one."""
        if index is not None:
            call = self._by_index.get(index)
        else:
            found = [call for call in self._calls if given_id and call.given_id == given_id]
            if not found and not (given_id and name):
                found = self._calls[-1:]
            call = found[0] if found else None
        if call is None or _begins_another(call, given_id, name, arguments):
            call = _Call()
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _announce(self, call: _Call) -> Iterator[ModelEvent]:
        taken = {other.id for other in self._calls}  # the empty id too: this call has it still
        call.id = call.given_id if call.given_id not in taken else f"call_{uuid4().hex[:24]}"
        yield ToolCallStart(call.name, call.id)
        if call.pieces:
            yield ToolCallDelta(call.id, clean_text("".join(call.pieces)))

    def _grown(self, name: str, more: str) -> str:
        """A name that comes in pieces, grows, or is repeated in each delta."""
        if name + more in self._tools or not more.startswith(name):
            return name + more
        return more

    def _is_final(self, name: str) -> bool:
        return name in self._tools and not any(other != name and other.startswith(name) for other in self._tools)


def _begins_another(call: _Call, given_id: str, name: str, arguments: str) -> bool:
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


def _read_call(call: _Call, cut_off: bool, toolbox: ToolBox) -> ToolCallEnd | ProblemFound:
    """The call, or what is wrong with it. Only arguments that were never written count as none.

    What is broken in a safe way is repaired. A tool that does not exist and arguments that do not fit are left to the
    execution, which answers under the call's id.
    """
    raw = clean_text("".join(call.pieces))
    if not call.name:
        return _problem(
            "missing_name", "A tool call named no tool. Write the call again with a tool's name.", call, raw
        )
    if not raw.strip() and not cut_off:
        return ToolCallEnd(ToolCall(call.name, {}, call.id))  # OpenAI's habit for tools without parameters
    try:
        arguments, repairs = (strict_json(raw), []) if cut_off else read_json(raw)
    except (ValueError, RecursionError) as error:
        if cut_off:
            message = f"The call of {call.name} was cut off before its arguments were complete, so it was not run. "
            return _problem("truncated", message + "Make the call again, shorter.", call, raw)
        message = f"The arguments of the call of {call.name} are not valid JSON ({_reason(error)}): {raw[:200]!r}. "
    else:
        fitted = toolbox.finish(RawCall(call.name, arguments, raw, call.id, list(repairs)), "open")
        if isinstance(fitted, ToolCall):
            return ToolCallEnd(fitted)
        if isinstance(arguments := clean_json(plain(arguments)), dict):
            return ToolCallEnd(ToolCall(call.name, arguments, call.id, list(repairs)))
        message = f"The arguments of the call of {call.name} are no JSON object: {raw[:200]!r}. "
    message += "The call was not run. Make it again with one JSON object as the arguments."
    return _problem("invalid_json", message, call, raw)


def _problem(kind: str, message: str, call: _Call, raw: str) -> ProblemFound:
    return ProblemFound(Problem(kind, message, call.name, raw))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
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


def read_usage(usage: JsonObject) -> Usage:
    prompt = as_object(usage.get("prompt_tokens_details"))
    completion = as_object(usage.get("completion_tokens_details"))
    return Usage(
        as_count(usage.get("prompt_tokens")),
        as_count(usage.get("completion_tokens")),
        as_count(prompt.get("cached_tokens")),
        as_count(completion.get("reasoning_tokens")),
    )
