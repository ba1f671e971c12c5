"""Messages in the shape that a chat template reads.

All templates read OpenAI's shape, but they differ in how they want the arguments of a call, a turn that is only calls,
and what the model thought. No template declares it: it is seen in what the template renders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from agentkit.messages import JsonObject, JsonValue, Message, ReasoningPart, ToolCall, ToolResult
from agentkit.providers.llama_cpp.taught import TAUGHT

__all__ = ["PROBE_TOOLS", "Shape", "alternating", "in_parts", "shape_of", "system_in_user", "wire_messages"]

_THOUGHT: Final = "probe thought"
_EMPTY: Final = re.compile(r"<think>\s*</think>\s*<think>")
_CALL: Final = ToolCall("probe_tool", {"probe_key": "probe value"}, "probe0000")
_CONVERSATION: Final = (
    Message("user", "A question."),
    Message("assistant", _CALL),
    Message("tool", ToolResult(_CALL.id, _CALL.name, "A result.")),
)
_THINKING: Final = (_CONVERSATION[0], Message("assistant", [ReasoningPart(_THOUGHT), _CALL]), _CONVERSATION[2])
PROBE_TOOLS: Final[list[JsonObject]] = [
    {
        "type": "function",
        "function": {
            "name": _CALL.name,
            "description": "A tool.",
            "parameters": {
                "type": "object",
                "properties": {"probe_key": {"type": "string", "description": "A key."}},
                "required": ["probe_key"],
            },
        },
    }
]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a template wants a turn of the model.

    Attributes:
        arguments: ``object``; ``text``, that is JSON; or ``content``: the calls are not shown by the template at all
            and must be written into the turn's text, as the model wrote them.
        null_content: calls are shown only in turns whose content is null.
        parts: messages' content is read only as a list of parts, as templates of vision models have it.
        reasoning: the key under which a message's thinking is read; ``inline`` where it is the beginning of the
            content, ``parts`` where the content is a list that begins with it; empty where there is no place for it.
    """

    arguments: Literal["object", "text", "content"] = "object"
    null_content: bool = False
    parts: bool = False
    reasoning: str = "reasoning_content"


def shape_of(render: Callable[[list[JsonObject]], str | None], source: str) -> Shape:
    """The shape that a template wants.

    Args:
        render: a conversation → the text, or None where the template refuses it.
        source: the template.
    """
    parts = _reads_only_parts(render)

    def render_parts(messages: list[JsonObject]) -> str | None:
        return render(in_parts(messages))

    render = render_parts if parts else render
    shape = _calls_of(render) if "tool_calls" in source else Shape("content")
    return replace(shape, parts=parts, reasoning=_reasoning_of(render, shape, source))


def _reads_only_parts(render: Callable[[list[JsonObject]], str | None]) -> bool:
    asked = wire_messages(_CONVERSATION[:1], Shape())
    text = _CONVERSATION[0].text
    return text not in (render(asked) or "") and text in (render(in_parts(asked)) or "")


def in_parts(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """Messages whose content is a list of parts where it was text."""
    return [
        {**message, "content": [{"type": "text", "text": content}]}
        if isinstance(content := message.get("content"), str) and content
        else message
        for message in messages
    ]


def _calls_of(render: Callable[[list[JsonObject]], str | None]) -> Shape:
    for shape in (Shape(), Shape("text"), Shape(null_content=True), Shape("text", null_content=True)):
        shown = render(wire_messages(_CONVERSATION, shape))
        # Neither as Python prints a dict, nor JSON within JSON.
        if shown and "probe value" in shown and "{'probe_key'" not in shown and '\\"probe_key' not in shown:
            return shape
    return Shape("content") if render(wire_messages(_CONVERSATION, Shape("content"))) else Shape()


def _reasoning_of(render: Callable[[list[JsonObject]], str | None], shape: Shape, source: str) -> str:
    ways = [key for key in ("reasoning_content", "thinking", "reasoning") if key in source]
    if "</think>" in source:
        ways.append("inline")
    if "'thinking'" in source or '"thinking"' in source:
        ways.append("parts")
    if not ways:
        return ""
    for way in ways:
        shown = render(wire_messages(_THINKING, replace(shape, reasoning=way)))
        # Not as Python prints a list, nor behind an empty thinking of the template's own.
        if shown and _THOUGHT in shown and f"'{_THOUGHT}" not in shown and not _EMPTY.search(shown):
            return way
    return Shape().reasoning


def wire_messages(
    messages: Sequence[Message],
    shape: Shape,
    write_calls: Callable[[Sequence[ToolCall]], str] = TAUGHT.write_calls,
) -> list[JsonObject]:
    """Messages in a template's shape.

    Args:
        messages: the conversation.
        shape: what the template wants.
        write_calls: calls as the model writes them, where the template does not show them.
    """
    wire: list[JsonObject] = []
    for message in messages:
        if message.role == "tool":
            wire += [
                {"role": "tool", "tool_call_id": result.call_id, "name": result.name, "content": result.content}
                for result in message.results
            ]
        elif message.calls:
            wire.append(_calling(message, shape, write_calls))
        else:
            wire.append(_with_reasoning({"role": message.role, "content": message.text}, message.reasoning, shape))
    return wire


def _calling(message: Message, shape: Shape, write_calls: Callable[[Sequence[ToolCall]], str]) -> JsonObject:
    entry: JsonObject = {"role": message.role, "content": message.text}
    if shape.arguments == "content" or (shape.null_content and message.text):
        written = write_calls(message.calls)
        entry["content"] = f"{message.text}\n{written}" if message.text else written
    else:
        entry["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call, shape)}}
            for call in message.calls
        ]
        if shape.null_content:
            entry["content"] = None
    if shape.reasoning == "thinking" and message.text:  # GPT-OSS takes one of the two in a turn that calls
        return entry
    return _with_reasoning(entry, message.reasoning, shape)


def _arguments(call: ToolCall, shape: Shape) -> JsonValue:
    return json.dumps(call.arguments, ensure_ascii=False) if shape.arguments == "text" else call.arguments


def _with_reasoning(entry: JsonObject, reasoning: str, shape: Shape) -> JsonObject:
    if not reasoning or not shape.reasoning:
        return entry
    content = entry["content"] or ""
    if shape.reasoning == "inline":
        return {**entry, "content": f"<think>\n{reasoning}\n</think>\n\n{content}"}
    if shape.reasoning == "parts":
        text: list[JsonValue] = [{"type": "text", "text": content}] if content else []
        return {**entry, "content": [{"type": "thinking", "thinking": reasoning}, *text]}
    return {**entry, shape.reasoning: reasoning}


def system_in_user(messages: list[JsonObject]) -> list[JsonObject]:
    """The system message put before the first user's: some templates know no system role."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    return [_merged(messages[1], messages[0], messages[1]), *messages[2:]]


def alternating(messages: list[JsonObject]) -> list[JsonObject]:
    """Neighbours of one role as one message: some templates want the roles to alternate."""
    merged: list[JsonObject] = []
    for message in messages:
        before = merged[-1] if merged else {}
        if before.keys() == message.keys() == {"role", "content"} and before["role"] == message["role"]:
            merged[-1] = _merged(message, before, message)
        else:
            merged.append(message)
    return merged


def _merged(kept: JsonObject, first: JsonObject, second: JsonObject) -> JsonObject:
    return {**kept, "content": f"{first['content']}\n\n{second['content']}"}
