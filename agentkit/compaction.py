"""A conversation in ever shorter forms, for a context that it no longer fits into.

Pure: messages in, messages out. What of it is used, and when, `agentkit.window` decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from agentkit.journal.records import Compacted
from agentkit.messages import Message, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from agentkit.outputs import output_name
from agentkit.providers.tokens import letters
from agentkit.tool_output import READ_OUTPUT, cut

__all__ = ["Form", "compacted", "forms", "transcript"]

MIN_RESULT: Final = 200
"""Characters of a tool result that is shown at all."""

MAX_LISTED: Final = 10
"""Results of what is dropped that are named, the last ones."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to shorten a conversation.

    Attributes:
        start: the first message that is kept; those before it are dropped.
        opener: the user message that stands in front of it: one of the dropped ones, or none where none are dropped.
        cap: characters of one tool result.
    """

    start: int
    opener: int | None
    cap: int


def forms(messages: Sequence[Message], task: int, cap: int) -> list[Form]:
    """The forms of a conversation, each shorter than the one before.

    First tool results that alone are too long are cut. Then what is oldest is dropped: whole exchanges of the history,
    then whole rounds of the run (the model's turn with its results and corrections). The task stays, and the last
    round. Then its tool results are cut shorter and shorter.

    Args:
        messages: the conversation, without the system message and examples.
        task: the place of the user message that began the run.
        cap: characters of one tool result in the first form.
    """
    starts: list[tuple[int, int | None]] = [(0, None), *_starts(messages, task)]
    caps = [max(cap, MIN_RESULT)]
    while caps[-1] > MIN_RESULT:
        caps.append(max(caps[-1] // 2, MIN_RESULT))
    return [Form(*start, caps[0]) for start in starts] + [Form(*starts[-1], cap) for cap in caps[1:]]


def compacted(messages: Sequence[Message], form: Form, summary: str = "") -> Compacted:
    """What the model is sent of a conversation in one of its `forms`.

    Args:
        messages: the conversation.
        form: one of its forms.
        summary: of what is dropped; where there is none, a note says how much that is.
    """
    kept = messages[form.start :]
    shown = [*_opening(messages, form, summary), *_capped(messages, form)]
    same = 0  # messages at the end that are sent as they are
    while same < len(kept) and shown[-1 - same] is kept[-1 - same]:
        same += 1
    return Compacted(len(messages) - same, tuple(shown[: len(shown) - same]))


def _opening(messages: Sequence[Message], form: Form, summary: str) -> list[Message]:
    if form.opener is None:
        return []
    dropped = messages[: form.start]
    opener = dropped[form.opener].content
    note = "\n".join(filter(None, [summary or _note(dropped, form.opener), _readable(dropped)]))
    untrusted = any(message.untrusted for message in dropped)
    if form.start > form.opener + 1:  # it happened after what the opener says
        return [Message("user", [*opener, TextPart(f"\n\n{note}", untrusted)])]
    return [Message("user", [TextPart(f"{note}\n\n", untrusted), *opener])]


def _note(dropped: Sequence[Message], opener: int) -> str:
    size = sum(map(letters, dropped)) - letters(dropped[opener])
    return f"[{len(dropped) - 1} earlier messages, about {size:,} characters, are left out here to save room.]"


def _readable(dropped: Sequence[Message]) -> str:
    names = [
        f"{output_name(place, number)} {result.name}"
        for place, message in enumerate(dropped)
        for number, result in enumerate(message.results)
        if result.name != READ_OUTPUT
    ]
    shown = ", ".join(names[-MAX_LISTED:])
    return f"[Earlier results that {READ_OUTPUT} can still read, by number: {shown}]" if names else ""


def _capped(messages: Sequence[Message], form: Form) -> Iterator[Message]:
    for place in range(form.start, len(messages)):
        message = messages[place]
        if any(len(result.content) > form.cap for result in message.results):
            yield Message(message.role, _cut_results(message, form.cap, place))
        else:
            yield message


def _cut_results(message: Message, cap: int, place: int) -> Iterator[Part]:
    number = count()
    for part in message.content:
        if isinstance(part, ToolResult):
            name = output_name(place, next(number))
            # What was read on has a name where it comes from.
            yield replace(part, content=cut(part.content, cap, "" if part.name == READ_OUTPUT else name))
        else:
            yield part


def _starts(messages: Sequence[Message], task: int) -> Iterator[tuple[int, int]]:
    """(start, opener): where a conversation may begin, so that no call is parted from its result."""
    for place in range(1, task + 1):
        if place == task or (messages[place].role == "user" and messages[place - 1].role != "tool"):
            yield place + 1, place
    for place in range(task + 2, len(messages)):
        if messages[place].role == "assistant":
            yield place, task


def transcript(messages: Sequence[Message], limit: int) -> str:
    """Messages as text for a reader: who said, called and was told what. Its middle is left out beyond ``limit``
    characters."""
    lines = (f"{message.role}: {line}" for message in messages for line in map(_line, message.content) if line)
    return cut("\n\n".join(lines), limit)


def _line(part: Part) -> str:
    match part:
        case TextPart(text):
            return text
        case ReasoningPart():
            return ""
        case ToolCall(name, arguments):
            return f"calls {name} with {json.dumps(arguments, ensure_ascii=False, default=str)}"
        case ToolResult():
            return f"{part.name} returned {part.in_words}"
        case _:
            return f"[{part}]"
