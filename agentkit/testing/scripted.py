"""A model that answers from a script."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    ReasoningEnd,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.messages import Message, ModelResponse, Part, ReasoningPart, TextPart, ToolCall, Usage
from agentkit.providers.base import ModelRequest, OutputMode, Provider

__all__ = ["ScriptedProvider", "Step"]

Answer: TypeAlias = str | Part | Sequence[Part] | ModelResponse
Step: TypeAlias = Answer | BaseException | Callable[[ModelRequest], Answer]
"""One turn: text, a call, several parts, a whole response, an exception to raise, or a function of the request."""


class Script(Protocol):
    """What a test should consume to its end."""

    name: str

    @property
    def remaining(self) -> int: ...


_unfinished: list[Script] = []  # those made during the current test; read by agentkit.pytest_plugin


class ScriptedProvider(Provider):
    """Answers each request with the next step of a script.

    Args:
        steps: the turns, in order.
        name: the model's name.
        output_mode: how this model is asked for an answer of a type.

    Attributes:
        requests: every request it was sent.

    A turn streams as a real one does: text word by word, a call's arguments in pieces. Calls without an id get one.
    More requests than steps raise AssertionError.
    """

    def __init__(
        self, steps: Iterable[Step], *, name: str = "scripted:test", output_mode: OutputMode = "prompt"
    ) -> None:
        self.name = name
        self._output_mode: OutputMode = output_mode
        self.requests: list[ModelRequest] = []
        self._steps = list(steps)
        _unfinished.append(self)

    @property
    def remaining(self) -> int:
        """Steps not yet consumed."""
        return len(self._steps) - len(self.requests)

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """As it was told."""
        return self._output_mode

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Play the next step."""
        self.requests.append(request)
        if self.remaining < 0:
            raise AssertionError(f"the script has {len(self._steps)} steps, but the model was asked once more")
        step = self._steps[len(self.requests) - 1]
        if isinstance(step, BaseException):
            raise step
        response = _response(step(request) if callable(step) else step)
        for number, part in enumerate(response.message.content):
            for event in _events(part, f"call_{len(self.requests)}_{number}"):
                yield event
        for problem in response.problems:
            yield ProblemFound(problem)
        yield ModelFinished(response.finish_reason, response.usage)


def _response(answer: Answer) -> ModelResponse:
    if isinstance(answer, ModelResponse):
        return answer
    return ModelResponse(Message("assistant", answer), usage=Usage(1, 1))


def _events(part: Part, call_id: str) -> Iterable[ModelEvent]:
    if isinstance(part, TextPart):
        yield from map(TextDelta, re.findall(r"\s*\S+\s*|\s+", part.text))
    elif isinstance(part, ReasoningPart):
        yield from map(ReasoningDelta, re.findall(r"\s*\S+\s*|\s+", part.text))
        if part.state:
            yield ReasoningEnd(part.state)
    elif isinstance(part, ToolCall):
        call = part if part.id else replace(part, id=call_id)
        yield ToolCallStart(call.name, call.id)
        arguments = json.dumps(call.arguments)
        for start in range(0, len(arguments), 8):
            yield ToolCallDelta(call.id, arguments[start : start + 8])
        yield ToolCallEnd(call)
    else:
        raise TypeError(f"a model cannot say a {type(part).__name__}")
