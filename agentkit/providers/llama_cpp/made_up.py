"""Arguments that a model makes up.

Shown an optional parameter, a small model fills it in, asked or not: a unit, a date, a key that nobody gave. From such
a model an optional argument counts only if the conversation speaks of it: if a word of its name, or a word or number of
its value, has been said. Without it the tool takes its own default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from agentkit.events import ModelEvent, ToolCallEnd
from agentkit.messages import JsonValue, Message, ToolCall
from agentkit.providers.llama_cpp.wording import leaves, name_words, speaks_of, words
from agentkit.tool import AnyTool

__all__ = ["MadeUp"]

_SCALES: Final = (100, 1_000, 1_000_000, 1_000_000_000)
"""5 % is 0.05, and two million is 2 in words."""

_SMALL: Final = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_SHORT: Final = {"the", "of", "to", "in", "for", "and", "or", "is", "a", "an", "by", "on", "at"}


class MadeUp:
    """Leaves out of calls what was made up.

    Args:
        messages: the conversation.
        tools: what is offered.
    """

    def __init__(self, messages: Iterable[Message], tools: Iterable[AnyTool]) -> None:
        said = (text for message in messages for text in (message.text, *(r.in_words for r in message.results)))
        self._said: set[str] = set().union(*map(words, said)) - _SHORT
        self._required = {tool.name: _required(tool.parameters) for tool in tools}

    def left_out(self, events: Iterable[ModelEvent]) -> Iterator[ModelEvent]:
        """The same events; calls without what was made up."""
        for event in events:
            yield replace(event, call=self._without(event.call)) if isinstance(event, ToolCallEnd) else event

    def _without(self, call: ToolCall) -> ToolCall:
        required = self._required.get(call.name, set())
        kept = {key: value for key, value in call.arguments.items() if key in required or self._is_said(key, value)}
        if len(kept) == len(call.arguments):
            return call
        left_out = ", ".join(key for key in call.arguments if key not in kept)
        return replace(call, arguments=kept, repairs=[*call.repairs, f"left out {left_out}: nobody spoke of it"])

    def _is_said(self, key: str, value: JsonValue) -> bool:
        if speaks_of(self._said, name_words(key) - _SHORT):
            return True
        return any(speaks_of(self._said, _as_said(leaf) - _SHORT) for leaf in leaves(value))


def _required(schema: Mapping[str, JsonValue]) -> set[str]:
    found = schema.get("required")
    return {str(key) for key in found} if isinstance(found, list) else set()


def _as_said(leaf: str) -> set[str]:
    """The words of a value, and a number as people say it."""
    try:
        number = float(leaf)
    except ValueError:
        return words(leaf)
    scaled = [number * _SCALES[0], *(number / scale for scale in _SCALES)]
    named = {_SMALL[int(number)]} if number in range(len(_SMALL)) else set[str]()
    return named | {f"{abs(size):.12g}" for size in (number, *scaled)}
