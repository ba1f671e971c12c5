"""Several calls in one turn, from models that do not know when to stop.

Held to a grammar, a small model writes the call that is needed and then the same again, or one that it makes up. So a
further call counts only if it takes up something of the request that no call has mentioned yet: one of its arguments
stands in the request, and in no call before it. And the turn goes on as long as the request has names, numbers or
quoted texts that are in no call, and no longer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

from agentkit.events import ModelEvent, ProblemFound, ToolCallDelta, ToolCallEnd, ToolCallStart
from agentkit.messages import JsonValue, ToolCall

__all__ = ["FurtherCalls", "Unmentioned"]

_VALUE: Final = re.compile(r"[\"“]([^\"”]+)[\"”]|\d+(?:\.\d+)?|[^\W\d_]\w*")
_BEGINNING: Final = re.compile(r"(?:^|[.!?:\n])[\s\"“]*\Z")


class Unmentioned:
    """What of a request the calls have not taken up, as they are written.

    Args:
        request: what the user asked for.
    """

    def __init__(self, request: str) -> None:
        self._values = set(_values(_without_commas(request)))
        self._written = bytearray()

    def add(self, piece: bytes) -> None:
        """More of the turn."""
        self._written += piece

    @property
    def left(self) -> bool:
        """Something is left."""
        written = _plain(self._written.decode(errors="replace"))
        self._values = {value for value in self._values if value not in written}
        return bool(self._values)


class FurtherCalls:
    """Passes a turn's events on, up to the first call that says nothing new.

    Attributes:
        finished: nothing that is still to come counts.

    Args:
        request: what the user asked for.
    """

    def __init__(self, request: str) -> None:
        self.finished = False
        self._request = _plain(request)
        self._said = ""
        self._held: list[ModelEvent] = []

    def passed(self, events: Sequence[ModelEvent]) -> Iterator[ModelEvent]:
        """What of these events counts. Those of a further call are held until it is complete."""
        for event in events:
            if self.finished:
                return
            if isinstance(event, ToolCallEnd):
                self.finished = bool(self._said) and not self._is_new(event.call)
                if not self.finished:
                    yield from (*self._held, event)
                    self._said += _plain(json.dumps(event.call.arguments, ensure_ascii=False)) + "\n"
                self._held.clear()
            elif self._said and isinstance(event, ToolCallStart | ToolCallDelta):
                self._held.append(event)
            elif self._held and isinstance(event, ProblemFound):  # nobody asked for this call
                self.finished = True
            else:
                yield event

    def _is_new(self, call: ToolCall) -> bool:
        values = map(_plain, _leaves(call.arguments))
        return any(_stands_in(value, self._request) and not _stands_in(value, self._said) for value in values)


def _leaves(value: JsonValue) -> Iterator[str]:
    """The texts and numbers in arguments. True and false stand in no request."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield f"{value:g}"


def _stands_in(value: str, text: str) -> bool:
    return bool(value) and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def _values(request: str) -> Iterator[str]:
    """Numbers, names and quoted texts. A capital at the beginning of a sentence makes no name."""
    for found in _VALUE.finditer(request):
        word = found[1] or found[0]
        named = word[0].isupper() and not _BEGINNING.search(request[: found.start()]) and len(word) > 1
        if found[1] or word[0].isdigit() or named:
            yield _plain(word)


def _plain(text: str) -> str:
    return _without_commas(text).lower().strip()


def _without_commas(text: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3})", "", text)
