"""Whether one turn's events keep what a provider promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import pytest

from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    Restarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.messages import FinishReason, ModelResponse, Usage
from agentkit.providers.base import ResponseBuilder

pytest.register_assert_rewrite(__name__)


@dataclass(slots=True)
class _Seen:
    """What the turn has streamed since it began, or began anew."""

    text: str = ""
    reasoning: str = ""
    started: dict[str, str] = field(default_factory=dict)  # id → name
    ended: list[str] = field(default_factory=list)
    problems: int = 0


def checked_turn(events: Sequence[ModelEvent]) -> ModelResponse:
    """The turn that these events make.

    Raises:
        AssertionError: they are not what a provider may stream.
    """
    assert events, "the stream was empty: it must end with ModelFinished"
    *before, last = events
    assert isinstance(last, ModelFinished), f"the last event must be ModelFinished, not {last}"
    assert not any(isinstance(event, ModelFinished) for event in before), "ModelFinished came more than once"
    seen = _Seen()
    builder = ResponseBuilder()
    for event in before:
        builder.add(event)
        if isinstance(event, Restarted):
            seen = _Seen()
        else:
            _look(event, seen)
    builder.add(last)
    response = builder.response()
    assert response.text == seen.text, "the text is not what its deltas make"
    assert response.reasoning == seen.reasoning, "the reasoning is not what its deltas make"
    open_calls = len(seen.started) - len(seen.ended)
    assert open_calls <= seen.problems, "a call that was started must end with ToolCallEnd or ProblemFound"
    assert response.finish_reason in get_args(FinishReason), f"{response.finish_reason!r} is no finish reason"
    if response.finish_reason == "tool_calls":
        assert response.calls or response.problems, "finish reason 'tool_calls', but there is no call and no problem"
    _check_usage(response.usage)
    return response


def _look(event: ModelEvent, seen: _Seen) -> None:
    if isinstance(event, TextDelta):
        event.text.encode()  # UTF-8 carries no lone surrogates, and what follows expects none
        seen.text += event.text
    elif isinstance(event, ReasoningDelta):
        event.text.encode()
        seen.reasoning += event.text
    elif isinstance(event, ToolCallStart):
        assert event.id, f"a call of {event.name!r} has no id"
        assert event.id not in seen.started, f"two calls of a turn have the id {event.id!r}"
        assert event.name, "a call was started that names no tool"
        seen.started[event.id] = event.name
    elif isinstance(event, ToolCallDelta):
        assert event.id in seen.started, f"{event} came before its ToolCallStart"
        assert event.id not in seen.ended, f"{event} came after its ToolCallEnd"
    elif isinstance(event, ToolCallEnd):
        call = event.call
        assert call.id in seen.started, f"{event} came before its ToolCallStart"
        assert call.id not in seen.ended, f"the call {call.id!r} ended twice"
        assert isinstance(call.arguments, dict), f"arguments must be an object, not {call.arguments!r}"
        json.dumps(call.arguments, ensure_ascii=False).encode()
        seen.ended.append(call.id)
    elif isinstance(event, ProblemFound):
        assert event.problem.message, "a problem must tell the model what was wrong"
        seen.problems += 1


def _check_usage(usage: Usage) -> None:
    assert usage.input_tokens > 0, "no input tokens were counted"
    assert usage.output_tokens >= 0
    assert 0 <= usage.cached_tokens <= usage.input_tokens, "cached tokens are part of the input"
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens, "reasoning tokens are part of the output"
    assert usage.cost >= 0
