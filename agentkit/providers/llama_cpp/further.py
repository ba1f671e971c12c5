"""Several calls in one turn, from models that do not know when to stop.

Held to a grammar, a small model writes the call that is needed and then the same again, or one that it makes up. So a
further call counts only if it takes up something of the request that no call has mentioned yet: a number in one of its
arguments, a text most of whose words stand in the request, or a word of its tool's name. And the turn goes on as long
as the request has names, numbers or quoted texts that are in no call, and no longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from agentkit.events import ModelEvent, ProblemFound, ToolCallDelta, ToolCallEnd, ToolCallStart
from agentkit.messages import ToolCall
from agentkit.providers.llama_cpp.wording import leaves, name_words, plain, without_commas, words

__all__ = ["FurtherCalls", "Unmentioned"]

_VALUE: Final = re.compile(r"[\"“]([^\"”]+)[\"”]|(?<!\w)'([^']+)'(?!\w)|\d+(?:\.\d+)?|[^\W\d_]\w*")
_BEGINNING: Final = re.compile(r"(?:^|[.!?:\n])[\s\"“]*\Z")


class Unmentioned:
    """What of a request the calls have not taken up, as they are written.

    Args:
        request: what the user asked for.
    """

    def __init__(self, request: str) -> None:
        self._values = set(_values(without_commas(request)))
        self._written = bytearray()

    def add(self, piece: bytes) -> None:
        """More of the turn."""
        self._written += piece

    @property
    def left(self) -> bool:
        """Something is left."""
        written = plain(self._written.decode(errors="replace"))
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
        self._request = words(request)
        self._said: set[str] = set()
        self._named: set[str] = set()
        self._begun = False
        self._held: list[ModelEvent] = []

    def passed(self, events: Iterable[ModelEvent]) -> Iterator[ModelEvent]:
        """What of these events counts. Those of a further call are held until it is complete."""
        for event in events:
            if self.finished:
                return
            if isinstance(event, ToolCallEnd):
                self.finished = self._begun and not self._is_new(event.call)
                if not self.finished:
                    yield from (*self._held, event)
                    self._said.update(*map(words, leaves(event.call.arguments)))
                    self._named |= name_words(event.call.name)
                self._held.clear()
                self._begun = True
            elif self._begun and isinstance(event, ToolCallStart | ToolCallDelta):
                self._held.append(event)
            elif self._held and isinstance(event, ProblemFound):  # nobody asked for this call
                self.finished = True
            else:
                yield event

    def _is_new(self, call: ToolCall) -> bool:
        if (name_words(call.name) - self._named) & self._request:
            return True
        return any(map(self._takes_up, map(words, leaves(call.arguments))))

    def _takes_up(self, words: set[str]) -> bool:
        """A value that a model makes up may have a word of the request in it, but hardly a number."""
        asked = words & self._request
        new = asked - self._said
        return any(word[0].isdigit() for word in new) or bool(new and 2 * len(asked) > len(words))


def _values(request: str) -> Iterator[str]:
    """Numbers, names and quoted texts. A capital at the beginning of a sentence makes no name."""
    for found in _VALUE.finditer(request):
        quoted = found[1] or found[2]
        word = quoted or found[0]
        named = word[0].isupper() and not _BEGINNING.search(request[: found.start()]) and len(word) > 1
        if quoted or word[0].isdigit() or named:
            yield plain(word)
