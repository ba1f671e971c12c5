"""The state of one run, and what of it is sent to the model."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar, cast

from agentkit._threads import Threads
from agentkit.answer import Answer
from agentkit.errors import OutputError
from agentkit.events import ModelEvent, OutputT_co, PartialOutput, RunResult
from agentkit.limits import Limits, ModelSettings, StopReason
from agentkit.messages import FinishReason, Message, ModelResponse, Problem, ToolCall, ToolErrorKind, ToolResult, Usage
from agentkit.output import OutputType
from agentkit.providers.base import ModelRequest, Provider
from agentkit.tool import AnyTool, RunContext

__all__ = ["Run"]

T = TypeVar("T")

_STOP_REASONS: Final[Mapping[FinishReason, StopReason]] = {
    "stop": "answer",
    "tool_calls": "answer",  # said by a server that then sent none
    "length": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}

_UNUSED: Final = frozenset[ToolErrorKind | None]({"unknown_tool", "invalid_arguments", "not_run"})
"""Errors of calls that came to nothing: such a turn was no progress."""


class Run(Generic[OutputT_co]):
    """One run in progress. The conversation is valid after every method: each call in it has its result, or is the
    last turn, whose results are still coming."""

    def __init__(
        self,
        provider: Provider,
        tools: Mapping[str, AnyTool],
        messages: Sequence[Message],
        *,
        instructions: str,
        examples: Sequence[Message],
        tool_choice: str,
        limits: Limits,
        settings: ModelSettings,
        deps: object,
        output: OutputType[OutputT_co],
    ) -> None:
        self.provider = provider
        self.tools = tools
        self.limits = limits
        self.threads = Threads()
        self.run_id = uuid.uuid4().hex
        self.deadline = asyncio.get_running_loop().time() + limits.deadline
        self.stop_reason: StopReason | None = None
        self._messages = list(messages)
        self._instructions = instructions
        self._examples = examples
        self._answer = Answer(output)
        self._answers: tuple[OutputT_co, ...] = ()  # the one, once it was given
        self._tool_choice = tool_choice
        self._settings = settings
        self._deps = deps
        self._steps = 0
        self._fruitless = 0  # turns in a row without a usable call or an answer
        self._usage = Usage()
        self._problems: list[Problem] = []
        self._text = ""
        self._results: dict[int, ToolResult] = {}  # of the current turn, by the call's place in it

    async def request(self) -> ModelRequest:
        """What the model is sent next.

        Raises:
            TimeoutError: the deadline passed while the provider was asked how to ask for the answer.
        """
        if self._steps == 0:
            await self._prepare()
        self._steps += 1
        return self._answer.ask(
            ModelRequest(
                [*self._system, *self._examples, *self._messages],
                list(self.tools.values()),
                self._tool_choice,
                self._settings,
                deadline=self.deadline,
                examples=len(self._examples),
            )
        )

    async def _prepare(self) -> None:
        may_call = bool(self.tools) and self._tool_choice != "none"
        async with asyncio.timeout_at(self.deadline):
            asked = await self._answer.prepare(self.provider, self.tools, may_call)
        text = "\n\n".join(filter(None, [self._instructions, asked]))
        self._system = [Message("system", text)] if text else []

    def partial_output(self, event: ModelEvent) -> PartialOutput | None:
        """What there is of the answer, where it is of a type and this event made it grow."""
        return self._answer.partial(event)

    def add_response(self, response: ModelResponse) -> None:
        """Take the model's turn into the conversation."""
        self._usage += response.usage
        self._problems += response.problems
        self._text = response.text
        self._results.clear()
        self._messages.append(response.message)

    def pending_calls(self) -> list[ToolCall]:
        """The calls of the last turn that tools answer."""
        return [call for call in self._messages[-1].calls if not self._answer.is_given_by(call)]

    def tool_context(self, call: ToolCall) -> RunContext[object]:
        """What a tool is told of this run."""
        return RunContext(self._deps, self.run_id, self._steps, call)

    def add_result(self, call: ToolCall, result: ToolResult) -> None:
        """Take one call's result; they may come in any order."""
        place = next(i for i, made in enumerate(self._messages[-1].calls) if made is call)
        self._results[place] = result
        if result.error not in _UNUSED and self._tool_choice != "none":
            self._tool_choice = "auto"  # `required` and a tool's name hold until the first result

    async def finish_step(self, response: ModelResponse) -> None:
        """Look whether the turn was the answer, put results and corrections behind it, and decide whether the run goes
        on."""
        refusal = await self._look_for_answer(response)
        results = [self._results[place] for place in sorted(self._results)]
        if results:
            self._messages.append(Message("tool", results))
        problems = [*response.problems, *self._missing_call(response), *refusal]
        if problems:
            self._messages.append(Message("user", "\n".join(problem.message for problem in problems)))
        self.stop_reason = self._decide(response, results, problems)

    def break_off(self, partial: Message) -> None:
        """The deadline passed while the model was writing: keep what it said."""
        if partial.content:
            self._messages.append(partial)
            self._text = partial.text
        self.stop_reason = "deadline"

    def transcript(self) -> tuple[Message, ...]:
        """The conversation so far, without the instructions; a last turn whose calls have no results is left out."""
        if self._messages and self._messages[-1].calls:
            return tuple(self._messages[:-1])
        return tuple(self._messages)

    def result(self) -> RunResult[OutputT_co]:
        """What the run came to.

        Raises:
            OutputError: it was to end with an answer of a type, and did not.
        """
        if self._answers:
            return self._came_to(self._answers[0])
        result = self._came_to(self._text)
        if self._answer.kind.is_plain:
            return cast("RunResult[OutputT_co]", result)
        said = [problem.message for problem in self._problems[-1:] if problem.kind == "invalid_output"]
        raise OutputError(
            f"The run ended without an answer that is {self._answer.kind.name}: stop_reason is {self.stop_reason!r} "
            f"after {self._steps} turns of the model. {' '.join(said)}".rstrip(),
            result,
        )

    def _came_to(self, output: T) -> RunResult[T]:
        assert self.stop_reason is not None
        return RunResult(
            output,
            list(self._messages),
            self._usage,
            self.run_id,
            self._steps,
            self.stop_reason,
            list(self._problems),
        )

    async def _look_for_answer(self, response: ModelResponse) -> list[Problem]:
        """Take the answer, if the turn is one. What is wrong with it is returned unless a call's result says so."""
        verdict = await self._answer.judge(response, self._tool_choice, self.tool_context, self.deadline)
        self._answers = verdict.answers
        for call, result in verdict.results:
            self.add_result(call, result)
        self._problems += verdict.problems
        return [] if verdict.results else verdict.problems

    def _missing_call(self, response: ModelResponse) -> list[Problem]:
        """Many servers pass over ``tool_choice``: an answer is then none yet."""
        if self._tool_choice in ("auto", "none") or response.problems or response.calls:
            return []
        if response.finish_reason not in ("stop", "tool_calls"):
            return []
        which = f"the tool {self._tool_choice!r}" if self._tool_choice in self.tools else "one of the tools"
        missing = Problem("missing_call", f"Call {which} first, then answer.", raw=response.text)
        self._problems.append(missing)
        return [missing]

    def _decide(
        self, response: ModelResponse, results: Sequence[ToolResult], problems: Sequence[Problem]
    ) -> StopReason | None:
        if self._answers:
            return "answer"
        if not results and not problems:
            return _STOP_REASONS[response.finish_reason]
        usable = any(result.error not in _UNUSED for result in results)
        self._fruitless = 0 if usable else self._fruitless + 1
        if self._fruitless >= self.limits.corrections:
            return "corrections"
        if asyncio.get_running_loop().time() >= self.deadline:
            return "deadline"
        return "steps" if self._steps >= self.limits.steps else None
