"""Tools for a model whose template knows none: they are taught in the prompt, in words and by example.

A model that was never trained on tools learns them in context: the system message describes them and shows the format,
the tools' own `ToolExample`s become turns of the conversation, or ones that are made up for a tool that has none, and
every later call and result is written as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from agentkit.messages import JsonValue, Message, ToolCall
from agentkit.parsing import DIALECTS
from agentkit.providers.in_context import shown_examples
from agentkit.tool import AnyTool, ToolExample

__all__ = ["TAUGHT", "teach"]

TAUGHT: Final = DIALECTS["hermes"]
"""The format that is taught: plain JSON between markers, and the most common one."""

_LESSON: Final = """\
You have tools. To use one, write a call like this:
{sample}
You then get its result, and answer with it.

Tools:
{tools}"""


def teach(messages: Sequence[Message], tools: Sequence[AnyTool], described: Sequence[JsonValue]) -> list[Message]:
    """The same conversation for a template that only knows text.

    Args:
        messages: the conversation.
        tools: what is offered; their examples are shown.
        described: the tools in OpenAI's shape, as they may be written into a prompt.
    """
    written = [_as_text(message) for message in messages]
    if not tools:
        return written
    system = written.pop(0).text if written and written[0].role == "system" else ""
    lesson = _LESSON.format(
        sample=TAUGHT.write_calls([ToolCall("tool name", {"parameter": "value"})]),
        tools="\n".join(json.dumps(_function(tool), ensure_ascii=False, default=str) for tool in described),
    )
    return [
        Message("system", f"{system}\n\n{lesson}" if system else lesson),
        *chain.from_iterable(_exchange(name, example) for name, example in shown_examples(tools, described)),
        *written,
    ]


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", _shown(result.content for result in message.results))
    if not message.calls:
        return message
    written = TAUGHT.write_calls(message.calls)
    return Message(message.role, f"{message.text}\n{written}" if message.text else written)


def _exchange(name: str, example: ToolExample) -> list[Message]:
    return [
        Message("user", example.request),
        Message("assistant", TAUGHT.write_calls([ToolCall(name, example.arguments)])),
        Message("user", _shown([example.result])),
        Message("assistant", example.answer),
    ]


def _shown(results: Iterable[str]) -> str:
    # In plain words: tags, which larger models are trained on, are parroted by small ones that are not.
    return "\n".join([*(f"The result is: {result}" for result in results), "Now answer me in a sentence."])


def _function(described: JsonValue) -> JsonValue:
    return _shortened(described["function"]) if isinstance(described, dict) else described


def _shortened(schema: JsonValue) -> JsonValue:
    """Without what the grammar enforces and no small model can read."""
    if isinstance(schema, list):
        return [_shortened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _shortened(value)
        for key, value in schema.items()
        if not (key in ("pattern", "maxLength", "minLength") and not isinstance(value, dict))
        and not (key == "additionalProperties" and value is False)
    }
