"""A conversation as one plain text that goes on, for models older than chat: Thought, Action, Observation.

The format is ReAct's (Yao et al., 2022, arXiv:2210.03629). A model learns it in context: each tool is shown in use, and
between these exchanges are some that need no tool, or it would learn that there is always a call. No I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Final

from agentkit.errors import UnsupportedInputError
from agentkit.messages import ImagePart, JsonValue, Message, ToolCall, clean_text
from agentkit.parsing import DIALECTS
from agentkit.parsing.dialects.base import Reasoning, Section
from agentkit.parsing.patterns import alt, chars, look, seq, ws
from agentkit.providers._conversation import result_text
from agentkit.providers._sse import as_object
from agentkit.providers.base import ModelRequest
from agentkit.providers.in_context import shown_examples
from agentkit.providers.profiles import Profile
from agentkit.tool import AnyTool

__all__ = ["NEEDED", "NOT_NEEDED", "REACT", "opening", "stops", "write_prompt"]

_SPACE: Final = chars("[ \t]", 0, 16)

REACT: Final = replace(
    DIALECTS["react"],
    name="react_transcript",
    reasoning=(
        Reasoning(
            seq("Thought:", _SPACE),
            seq("\n", ws(), look("Action:", "Assistant:", "Final Answer:")),
            line_start=True,
        ),
    ),
    sections=(Section(seq(alt("Assistant:", "Final Answer:"), _SPACE), line_start=True),),
)
"""How a turn is read. `DIALECTS` has its calls only: a line of another model that begins with "Thought:" is text."""

_LABEL: Final = re.compile(
    r"^(?=(?:User|Thought|Action|Action Input|Observation|Assistant|Final Answer)\s*:)", re.MULTILINE
)
_SEES_NOTHING: Final = Profile("Completions", sees=False)
_ANSWER: Final = "Assistant:"

NEEDED: Final = "I need the tool"
"""How a thought names a tool, with the name behind it."""

NOT_NEEDED: Final = "I need no tool"

_SMALL_TALK: Final = (
    ("Hello!", "Hello! How can I help you?"),
    ("What is the color of the sky?", "The sky is blue."),
    ("Thanks.", "You are welcome."),
)


def write_prompt(request: ModelRequest) -> str:
    """The text that the model goes on with. It ends with the turn's `opening`.

    Raises:
        UnsupportedInputError: an image.
    """
    messages = list(request.messages)
    head = []
    if messages and messages[0].role == "system":
        head.append(_guarded(messages.pop(0).text))
    lines: list[str] = []
    if request.tools:
        head += ["", "The assistant has these tools:", *(_guarded(_description(tool)) for tool in request.tools)]
        lines += _shown_in_use(request)
    for message in messages:
        lines += _turn(message)
    return clean_text("\n".join([*head, *lines, opening(request)]).lstrip("\n"))


def opening(request: ModelRequest) -> str:
    """How the model's turn begins: as far as it is known."""
    choice = request.tool_choice
    if not request.tools or choice == "none":
        return _ANSWER
    if choice in ("auto", "required"):
        return "Thought:" if choice == "auto" else f"Thought: {NEEDED}"
    return "\n".join(_call_lines(ToolCall(choice, {}))).removesuffix(" {}")  # a space is the model's to write


def stops(request: ModelRequest) -> list[str]:
    """What ends the model's turn: where it would go on with what others say, or after an answer with one more turn."""
    return ["\nUser:", "\nThought:" if opening(request) == _ANSWER else "\nObservation:"]


def _description(tool: AnyTool) -> str:
    """A tool as its signature: shown a JSON Schema, a small model writes one where the arguments should stand."""
    required = tool.parameters.get("required")
    signature, notes = [], []
    for name, schema in as_object(tool.parameters.get("properties")).items():
        optional = not (isinstance(required, list) and name in required)
        signature.append(f"{name}{'?' if optional else ''}: {_type(schema)}")
        if note := as_object(schema).get("description"):
            notes.append(f"\n    {name}: {note}")
    return f"{tool.name}({', '.join(signature)}): {tool.description}{''.join(notes)}"


def _type(schema: JsonValue) -> str:
    known = as_object(schema)
    choices, options, kind = known.get("enum"), known.get("anyOf"), known.get("type")
    if isinstance(choices, list):
        return " or ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    if isinstance(options, list):
        return " or ".join(map(_type, options))
    if kind == "array":
        return f"list of {_type(known.get('items'))}"
    if kind == "object" and "properties" in known:
        return json.dumps(known["properties"], ensure_ascii=False)
    return kind if isinstance(kind, str) else "any"


def _shown_in_use(request: ModelRequest) -> Iterator[str]:
    tools = shown_examples(request.tools, [tool.openai_schema for tool in request.tools])
    for shown, small_talk in zip_longest(tools, _SMALL_TALK):
        if shown:
            name, example = shown
            yield f"\nUser: {_guarded(example.request)}"
            yield from _call_lines(ToolCall(name, example.arguments))
            yield from (f"Observation: {_guarded(example.result)}", "Thought: I know the answer.")
            yield f"Assistant: {_guarded(example.answer)}"
        if small_talk:
            yield from (f"\nUser: {small_talk[0]}", f"Thought: {NOT_NEEDED}.", f"Assistant: {small_talk[1]}")


def _call_lines(call: ToolCall) -> Iterator[str]:
    yield f"Thought: {NEEDED} {call.name}."
    yield REACT.write_calls([call])


def _turn(message: Message) -> Iterator[str]:
    if any(isinstance(part, ImagePart) for part in message.content):
        raise UnsupportedInputError(
            "A model behind Completions does not see, and a message holds an image: leave it out"
        )
    if message.role != "assistant":
        yield from (f"Observation: {_guarded(result_text(result, _SEES_NOTHING))}" for result in message.results)
        if message.text or not message.results:
            yield f"\nUser: {_guarded(message.text)}"
        return
    thoughts = [message.reasoning, message.text if message.calls else ""]
    if any(thoughts):
        yield f"Thought: {_guarded(' '.join(filter(None, thoughts)))}"
    if message.calls:
        yield REACT.write_calls(message.calls)
    elif message.text:
        yield f"Assistant: {_guarded(message.text)}"


def _guarded(text: str) -> str:
    """A text none of whose lines begins as a turn does: whoever wrote it speaks for himself only."""
    return _LABEL.sub(" ", text)
