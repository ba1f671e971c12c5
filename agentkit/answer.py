"""The answer of one run, where it is of a type: how the model is asked for it, and what comes of what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic

from agentkit.events import ModelEvent, OutputT_co, PartialOutput, Restarted, TextDelta, ToolCallDelta, ToolCallStart
from agentkit.messages import JsonObject, Message, ModelResponse, Problem, ToolCall, ToolResult
from agentkit.output import InvalidOutput, OutputType
from agentkit.parsing.answer import object_start
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.tool import AnyTool, RunContext

__all__ = ["Answer", "Verdict"]

GROWTH: Final = 256
"""A partial answer is read again when it has grown by one part in so many: all readings of an answer together cost at
most as much as reading it this many times, however long it is."""


@dataclass(frozen=True, slots=True)
class Verdict(Generic[OutputT_co]):
    """What a turn was as an answer: the answer, if it was one; what each call of the output tool is told; and what was
    wrong."""

    answers: tuple[OutputT_co, ...] = ()
    results: Sequence[tuple[ToolCall, ToolResult]] = ()
    problems: list[Problem] = field(default_factory=list)


class Answer(Generic[OutputT_co]):
    """Asks for an answer of a type in the way that the provider is best asked, and takes it."""

    def __init__(self, kind: OutputType[OutputT_co]) -> None:
        self.kind = kind
        self._mode: OutputMode | None = None
        self._tool: AnyTool | None = None
        self._reader = _PartialReader()

    async def prepare(self, provider: Provider, tools: Mapping[str, AnyTool], may_call: bool) -> str:
        """Find out how to ask, and return what is to be added to the instructions."""
        if self.kind.is_text:
            return ""
        self._mode = await provider.output_mode(may_call)
        if self._mode == "tool":
            self._tool = self.kind.tool(tools)
            self._reader.tool = self._tool.name
            return f"Give your final answer by calling {self._tool.name}, not as text."
        # With "native" too: the decoder is held to the schema, but most models are not shown it by their servers.
        return (
            "Your final answer must be one JSON object that fits this JSON Schema, and nothing else: no other text, no "
            f"Markdown.\n{json.dumps(self.kind.schema, ensure_ascii=False)}"
        )

    def ask(self, request: ModelRequest) -> ModelRequest:
        """The request, asking for the answer unless a call is due first. It never keeps the model from calling."""
        self._reader.clear()
        if _is_call_due(request.tool_choice):
            return request
        if self._mode == "native":
            return replace(request, output_schema=self.kind.schema)
        if self._tool is not None:
            choice = self._tool.name if request.tool_choice == "none" else "required"
            return replace(request, tools=[*request.tools, self._tool], tool_choice=choice)
        return request

    def is_given_by(self, call: ToolCall) -> bool:
        """Whether a call is the answer, and no call of a tool that runs."""
        return self._tool is not None and call.name == self._tool.name

    def partial(self, event: ModelEvent) -> PartialOutput | None:
        """The answer so far, where this event made it grow."""
        if self._mode is None or not self._reader.add(event):
            return None
        value = self.kind.part(self._reader.value)
        return None if value is None else PartialOutput(value)

    async def judge(
        self,
        response: ModelResponse,
        tool_choice: str,
        context: Callable[[ToolCall], RunContext[object]],
        deadline: float,
    ) -> Verdict[OutputT_co]:
        """Look for the answer in a turn.

        A turn that calls tools, or that holds a problem, is none yet: what it says was written before the results were
        known.
        """
        mine = [call for call in response.calls if self.is_given_by(call)]
        early = ""
        if _is_call_due(tool_choice):
            early = "a tool is to be called first"
        elif len(mine) < len(response.calls):
            early = "other tools were called in the same turn: read their results first"
        elif response.problems:
            early = "something else in the same turn could not be read"
        if early:
            return Verdict(results=[(call, _not_taken(call, early)) for call in mine])
        if not mine and (self.kind.is_plain or response.finish_reason not in ("stop", "tool_calls")):
            return Verdict()
        try:
            answer = self.kind.from_json(mine[0].arguments) if mine else self.kind.from_text(response.text)
            await self.kind.check(answer, context(mine[0] if mine else ToolCall("", {})), deadline)
        except InvalidOutput as error:
            return self._refused(response, mine, str(error))
        taken = [(call, ToolResult(call.id, call.name, "Taken.")) for call in mine[:1]]
        return Verdict((answer,), [*taken, *_further(mine)])

    def reread(self, messages: Sequence[Message]) -> tuple[OutputT_co, ...]:
        """The answer that was taken before, in the last messages of a run that has ended; none where it is text, or of
        another type than this."""
        if self.kind.is_plain:
            return ()
        said = next(message for message in reversed(messages) if message.role == "assistant")
        try:
            return (self.kind.from_json(said.calls[0].arguments) if said.calls else self.kind.from_text(said.text),)
        except InvalidOutput:
            return ()

    def _refused(self, response: ModelResponse, mine: Sequence[ToolCall], why: str) -> Verdict[OutputT_co]:
        if not mine:
            told = f"{why}\nCall {self._tool.name} with the answer." if self._tool else why
            return Verdict(problems=[Problem("invalid_output", told, raw=response.text)])
        call = mine[0]
        result = ToolResult(call.id, call.name, why, "invalid_arguments")
        problem = Problem("invalid_output", why, call.name, json.dumps(call.arguments))
        return Verdict(results=[(call, result), *_further(mine)], problems=[problem])


def _is_call_due(tool_choice: str) -> bool:
    return tool_choice not in ("auto", "none")


def _not_taken(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call.id, call.name, f"This answer was not taken: {why}. Then give it again.", "not_run")


def _further(mine: Sequence[ToolCall]) -> list[tuple[ToolCall, ToolResult]]:
    return [(call, ToolResult(call.id, call.name, "The answer was given before.", "not_run")) for call in mine[1:]]


class _PartialReader:
    """Reads the JSON object that a turn is writing, as text or as the arguments of the output tool."""

    def __init__(self) -> None:
        self.tool = ""
        self.clear()

    def clear(self) -> None:
        """Begin with a new turn."""
        self.value: JsonObject = {}
        self._call = ""  # the id of the output tool's call
        self._text: list[str] = []
        self._length = 0
        self._length_read = 0

    def add(self, event: ModelEvent) -> bool:
        """Whether there is more of the object now."""
        if isinstance(event, Restarted):
            self.clear()
        elif isinstance(event, ToolCallStart) and event.name == self.tool and not self._text:
            self._call = event.id
        elif isinstance(event, TextDelta) and not self.tool:
            return self._add(event.text)
        elif isinstance(event, ToolCallDelta) and self.tool and event.id == self._call:
            return self._add(event.arguments)
        return False

    def _add(self, text: str) -> bool:
        self._text.append(text)
        self._length += len(text)
        if self._length - self._length_read <= self._length_read // GROWTH:
            return False
        self._length_read = self._length
        whole = "".join(self._text)
        self._text = [whole]
        before, self.value = self.value, _begun(whole)
        return self.value != before


def _begun(text: str) -> JsonObject:
    """As much as there is of the object that a text holds; empty for none."""
    from pydantic_core import from_json

    start = object_start(text)
    if start < 0:
        return {}
    try:
        value: JsonObject = from_json(text[start:], allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value
