"""The state of one run, and what of it is sent to the model."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from agentkit._threads import Threads
from agentkit.events import RunResult
from agentkit.limits import Limits, ModelSettings, StopReason
from agentkit.messages import FinishReason, Message, ModelResponse, Problem, ToolCall, ToolResult, Usage
from agentkit.providers.base import ModelRequest, Provider
from agentkit.tool import AnyTool, RunContext

__all__ = ["Run"]

_STOP_REASONS: Final[Mapping[FinishReason, StopReason]] = {
    "stop": "answer",
    "tool_calls": "answer",  # said by a server that then sent none
    "length": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}


class Run:
    """One run in progress. The conversation is valid after every method: each call in it has its result, or is the
    last turn, whose results are still coming."""

    def __init__(
        self,
        provider: Provider,
        tools: Mapping[str, AnyTool],
        messages: Sequence[Message],
        *,
        instructions: str,
        tool_choice: str,
        limits: Limits,
        settings: ModelSettings,
        deps: object,
    ) -> None:
        self.provider = provider
        self.tools = tools
        self.limits = limits
        self.threads = Threads()
        self.run_id = uuid.uuid4().hex
        self.deadline = asyncio.get_running_loop().time() + limits.deadline
        self.stop_reason: StopReason | None = None
        self._messages = list(messages)
        self._instructions = [Message("system", instructions)] if instructions else []
        self._tool_choice = tool_choice
        self._settings = settings
        self._deps = deps
        self._steps = 0
        self._fruitless = 0  # turns in a row without a usable call or an answer
        self._usage = Usage()
        self._problems: list[Problem] = []
        self._output = ""
        self._results: dict[int, ToolResult] = {}  # of the current turn, by the call's place in it

    def request(self) -> ModelRequest:
        """What the model is sent next."""
        self._steps += 1
        return ModelRequest(
            [*self._instructions, *self._messages],
            list(self.tools.values()),
            self._tool_choice,
            self._settings,
            deadline=self.deadline,
        )

    def add_response(self, response: ModelResponse) -> None:
        """Take the model's turn into the conversation."""
        self._usage += response.usage
        self._problems += response.problems
        self._output = response.text
        self._results.clear()
        self._messages.append(response.message)

    def pending_calls(self) -> list[ToolCall]:
        """The calls of the last turn."""
        return self._messages[-1].calls

    def tool_context(self, call: ToolCall) -> RunContext[object]:
        """What a tool is told of this run."""
        return RunContext(self._deps, self.run_id, self._steps, call)

    def add_result(self, call: ToolCall, result: ToolResult) -> None:
        """Take one call's result; they may come in any order."""
        place = next(i for i, pending in enumerate(self.pending_calls()) if pending is call)
        self._results[place] = result
        if result.error not in ("unknown_tool", "invalid_arguments") and self._tool_choice != "none":
            self._tool_choice = "auto"  # `required` and a tool's name hold until the first result

    def finish_step(self, response: ModelResponse) -> None:
        """Put the results and corrections behind the turn, and decide whether the run goes on."""
        results = [self._results[place] for place in sorted(self._results)]
        if results:
            self._messages.append(Message("tool", results))
        problems = [*response.problems, *self._missing_call(response)]
        if problems:
            self._messages.append(Message("user", "\n".join(problem.message for problem in problems)))
        self.stop_reason = self._decide(response, results, problems)

    def break_off(self, partial: Message) -> None:
        """The deadline passed while the model was writing: keep what it said."""
        if partial.content:
            self._messages.append(partial)
            self._output = partial.text
        self.stop_reason = "deadline"

    def transcript(self) -> tuple[Message, ...]:
        """The conversation so far, without the instructions; a last turn whose calls have no results is left out."""
        if self._messages and self._messages[-1].calls:
            return tuple(self._messages[:-1])
        return tuple(self._messages)

    def result(self) -> RunResult:
        """What the run came to."""
        assert self.stop_reason is not None
        return RunResult(
            self._output,
            list(self._messages),
            self._usage,
            self.run_id,
            self._steps,
            self.stop_reason,
            list(self._problems),
        )

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
        if not results and not problems:
            return _STOP_REASONS[response.finish_reason]
        usable = any(result.error not in ("unknown_tool", "invalid_arguments") for result in results)
        self._fruitless = 0 if usable else self._fruitless + 1
        if self._fruitless >= self.limits.corrections:
            return "corrections"
        if asyncio.get_running_loop().time() >= self.deadline:
            return "deadline"
        return "steps" if self._steps >= self.limits.steps else None
