"""An answer that is being received: text in which calls may be written, and calls that come in pieces. No I/O.

What the wire formats have in common; each says itself how its chunks are to be understood.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

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
from agentkit.messages import FinishReason, Problem, ToolCall, Usage, clean_json, clean_text
from agentkit.parsing import StreamParser
from agentkit.parsing.calls import RawCall, ToolBox
from agentkit.parsing.fit import plain
from agentkit.parsing.literals import strict_json
from agentkit.parsing.repair import read_json
from agentkit.tool import AnyTool

__all__ = ["Answer", "Call"]


@dataclass(slots=True)
class Call:
    """A tool call that is being received."""

    given_id: str = ""  # the server's
    id: str = ""  # ours, set when the call is announced
    name: str = ""
    pieces: list[str] = field(default_factory=list)


class Answer:
    """Pieces of one answer → events.

    A server that does not know its model's format leaves calls in the text: they are read from there. Such calls come
    at the end of the turn, and not at all where the server sent any as structure.
    """

    def __init__(self, tools: Sequence[AnyTool]) -> None:
        self.calls: list[Call] = []
        self.refused = False
        self._toolbox = ToolBox(tools)
        self._text = StreamParser(self._toolbox) if tools else None
        self._written: list[ModelEvent] = []  # of calls that stood in the text
        self._half = ""  # the first half of a character that a server cut in two

    def text(self, text: str) -> Iterator[ModelEvent]:
        """More text."""
        text = self._half + text
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        if text:
            yield from self._read(clean_text(text))

    def refusal(self, text: str) -> Iterator[ModelEvent]:
        """More of the model's words for why it does not answer."""
        self.refused = True
        yield TextDelta(clean_text(text))

    def arguments(self, call: Call, text: str) -> Iterator[ModelEvent]:
        """More of a call's arguments."""
        if text:
            call.pieces.append(text)
            if call.id:
                yield ToolCallDelta(call.id, clean_text(text))

    def announce(self, call: Call) -> Iterator[ModelEvent]:
        """The call's name is known: it begins, with an id that no other one of the turn has."""
        taken = {other.id for other in self.calls}  # the empty id too: this call has it still
        call.id = call.given_id if call.given_id not in taken else f"call_{uuid4().hex[:24]}"
        yield ToolCallStart(call.name, call.id)
        if call.pieces:
            yield ToolCallDelta(call.id, clean_text("".join(call.pieces)))

    def finish(self, reason: FinishReason, usage: Usage, cut_off: Call | None) -> Iterator[ModelEvent]:
        """The answer is over. ``cut_off`` is the call that the model was writing when it was stopped."""
        if self._half:
            yield from self._read("\ufffd")
        if self._text:
            yield from self._sorted(self._text.finish(truncated=reason == "length"))
        for call in self.calls:
            if not call.id and call.name:
                yield from self.announce(call)
            yield _read_call(call, call is cut_off, self._toolbox)
        if not self.calls:
            yield from self._written
        yield ModelFinished("refusal" if self.refused and reason == "stop" else reason, usage)

    def _read(self, text: str) -> Iterator[ModelEvent]:
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


def _read_call(call: Call, cut_off: bool, toolbox: ToolBox) -> ToolCallEnd | ProblemFound:
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


def _problem(kind: str, message: str, call: Call, raw: str) -> ProblemFound:
    return ProblemFound(Problem(kind, message, call.name, raw))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
