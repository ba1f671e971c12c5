"""Conversations of all kinds, as runs make them, for property tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TypeAlias

from hypothesis import strategies as st

from agentkit import Message, ToolCall, ToolResult
from agentkit.messages import ImagePart, Part, ReasoningPart, TextPart

__all__ = ["Conversation", "assert_valid", "conversations"]

Conversation: TypeAlias = tuple[list[Message], int]
"""Messages, and the place of the last task among them."""

_lengths = st.one_of(st.integers(0, 40), st.integers(0, 4_000))


@st.composite
def conversations(draw: st.DrawFn, *, max_rounds: int = 8) -> Conversation:
    """Histories of earlier runs, a task, and rounds of the run that works on it."""
    ids = map(str, count())
    messages: list[Message] = []
    for _ in range(draw(st.integers(0, 4))):
        messages.append(_user(draw))
        for _ in range(draw(st.integers(0, 3))):
            messages += _round(draw, ids)
        messages.append(Message("assistant", "x" * draw(_lengths)))
    task = len(messages)
    messages.append(_user(draw))
    for _ in range(draw(st.integers(0, max_rounds))):
        messages += _round(draw, ids)
    return messages, task


def _user(draw: st.DrawFn) -> Message:
    parts: list[Part] = [TextPart("u" * draw(_lengths), draw(st.booleans()))]
    if draw(st.integers(0, 5)) == 0:
        parts.append(ImagePart(url="https://example.org/a.png"))
    return Message("user", parts)


def _round(draw: st.DrawFn, ids: map[str]) -> list[Message]:
    """A turn of the model, with results, a correction, or both."""
    said: list[Part] = [ReasoningPart("r" * draw(_lengths))] if draw(st.booleans()) else []
    said += [TextPart("a" * draw(_lengths))] if draw(st.booleans()) else []
    calls = [ToolCall("look", {"place": "p" * draw(_lengths)}, next(ids)) for _ in range(draw(st.integers(0, 3)))]
    made = [Message("assistant", [*said, *calls])]
    if calls:
        made.append(Message("tool", [_result(draw, call) for call in calls]))
    if not calls or draw(st.integers(0, 4)) == 0:
        made.append(Message("user", "That was not right: …"))
    return made


def _result(draw: st.DrawFn, call: ToolCall) -> ToolResult:
    images = (ImagePart(b"\x89PNG"),) if draw(st.integers(0, 9)) == 0 else ()
    return ToolResult(call.id, call.name, "o" * draw(_lengths), None, images, draw(st.integers(0, 4)) == 0)


def assert_valid(messages: Sequence[Message]) -> None:
    """A model can be sent these: they begin with a user, no two follow each other in one role, and each call has its
    result right behind it."""
    assert messages[0].role == "user"
    for before, after in zip(messages, [*messages[1:], None], strict=True):
        assert after is None or after.role != before.role
        answered = after.results if after is not None else []
        assert [result.call_id for result in answered] == [call.id for call in before.calls]
