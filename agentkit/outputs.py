"""What tools returned, whole: the model is shown so much of it, and reads on where it needs more."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final

from agentkit.errors import ToolError
from agentkit.messages import Message, TextPart
from agentkit.tool import RunContext, tool
from agentkit.tool_output import READ_OUTPUT

__all__ = ["Outputs", "output_name", "read_output"]

MAX_KEPT: Final = 64 << 20
"""Bytes of outputs that one run keeps, the newest of them."""

MAX_PART: Final = 20_000
"""Characters of an output that are read at a time."""

MAX_PLACES: Final = 5
"""Places that are told of a text that was looked for."""

_BEFORE: Final = 200  # characters that are read in front of what was found
_HEADING: Final = 200  # characters, at most, that say which part it is


def output_name(place: int, number: int) -> str:
    """What an output is called, ``3-1`` for example: the place of its message in the conversation, from 0, and its
    number in that, which is written from 1. Models' own ids may repeat, and some models are not shown them."""
    return f"{place}-{number + 1}"


class Outputs:
    """The outputs of one run.

    Args:
        limit: characters of one tool result, those of `read_output` too (`Limits.tool_output`).
        most: bytes of them all; the oldest are dropped then.
    """

    def __init__(self, limit: int, most: int = MAX_KEPT) -> None:
        self._limit = limit
        self._most = most
        self._kept: dict[str, tuple[str, bool]] = {}
        self._size = 0

    def keep(self, name: str, text: str, *, untrusted: bool) -> None:
        """Keep what a call returned, under its `output_name`. To keep a text that is in the conversation anyway takes
        no further memory."""
        self._drop(name)
        self._kept[name] = text, untrusted
        self._size += sys.getsizeof(text)
        while self._size > self._most:
            self._drop(next(iter(self._kept)))

    def keep_results(self, messages: Sequence[Message]) -> None:
        """Keep those of the conversation that the run goes on with, as they are shown there."""
        for place, message in enumerate(messages):
            for number, result in enumerate(message.results):
                self.keep(output_name(place, number), result.content, untrusted=result.untrusted)

    def read(self, call: str, start: int, length: int, find: str) -> TextPart:
        """A part of an output, as `read_output` describes it; it is as trusted as the whole.

        Raises:
            ToolError: there is no such output, or the text is not in it.
        """
        text, untrusted = self._output(call)
        start = min(max(start, 0), len(text))
        found = ""
        if find:
            places = _places(text, find, start)
            if not places:
                raise ToolError(f"{find!r} does not occur in the result {call} from character {start} on")
            found = f"; found at {', '.join(map(str, places[:MAX_PLACES]))}{' …' * (len(places) > MAX_PLACES)}"
            start = max(start, places[0] - _BEFORE)
        end = min(start + min(max(length, 1), MAX_PART, max(self._limit - _HEADING, 1)), len(text))
        return TextPart(f"[characters {start} to {end} of {len(text)}{found}]\n{text[start:end]}", untrusted)

    def _output(self, call: str) -> tuple[str, bool]:
        if call in self._kept:
            return self._kept[call]
        kept = f"{next(iter(self._kept))} to {next(reversed(self._kept))}" if self._kept else "none"
        raise ToolError(
            f"There is no result {call!r}. Those that can be read: {kept}. The oldest are dropped beyond "
            f"{self._most >> 20} MiB; make the call again if you need one of them."
        )

    def _drop(self, name: str) -> None:
        if name in self._kept:
            self._size -= sys.getsizeof(self._kept.pop(name)[0])


def _places(text: str, find: str, start: int) -> list[int]:
    """Where a text occurs next, whatever its case: one place more than are told, if there are so many."""
    found = re.compile(re.escape(find), re.IGNORECASE).finditer(text, start)
    return [match.start() for match, _ in zip(found, range(MAX_PLACES + 1), strict=False)]


@tool(name=READ_OUTPUT, effect="read")
def read_output(context: RunContext[object], call: str, start: int = 0, length: int = 4000, find: str = "") -> TextPart:
    """Read more of what an earlier tool call returned, where some of it was left out.

    Args:
        context: The run that it is part of.
        call: The number of the result, as it is named where it was left out, such as 3-1.
        start: The first character to read, from 0.
        length: How many characters to read.
        find: A text to go to: reads on from where it occurs next, at start or behind it.
    """
    if context._caller is None:
        raise ToolError(f"{READ_OUTPUT} reads what was returned in a run: here is none")
    return context._caller.run.outputs.read(call, start, length, find)
