"""The state of a run: what its records make of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from agentkit.budget import Budget
from agentkit.journal.records import (
    CallFinished,
    CallStarted,
    Compacted,
    ModelAnswered,
    Record,
    RunEnded,
    RunResumed,
    RunStarted,
    StepEnded,
)
from agentkit.limits import Limits, StopReason
from agentkit.messages import Message, ModelResponse, Problem, ToolCall, ToolErrorKind, ToolResult
from agentkit.outputs import Outputs, output_name
from agentkit.policy import Decision, PendingCall
from agentkit.setup import Setup

__all__ = ["RunState", "Turn"]

_UNUSED: Final = frozenset[ToolErrorKind | None]({"unknown_tool", "invalid_arguments", "not_run"})
"""Errors of calls that came to nothing: such a turn was no progress."""

_REPEATED: Final = "\n(You made this very call before, and the result was the same. Use it, or do something else.)"


@dataclass(slots=True)
class Turn:
    """The model's last turn, and what is on record of its calls, by their place in it."""

    response: ModelResponse
    started: dict[int, CallStarted] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    results: dict[int, ToolResult] = field(default_factory=dict)
    made: dict[int, int] = field(default_factory=dict)  # calls with their results, as hashes


class RunState:
    """What a run's records make of it, applied one after another, as they come or when the run is resumed.

    The conversation is valid after every record: each call in it has its result, or is in the last turn, whose results
    are still coming.

    Args:
        setup: the agent that begins the run.
        limits: the run's.
        above: what the run above has used, where an agent is called as a tool.

    Attributes:
        setup: the agent that it is with now.
        policies: those of all agents that it was with.
        budget: what is used of its limits.
        steps: the model's turns.
        stop_reason: why it is not going on; None while it is.
        is_ended: it is at its end, not only paused.
        turn: the model's last turn, until all its calls have results.
        messages: the whole conversation.
        task: the place of the message that began the run.
        compacted: what is sent instead of the conversation's beginning.
        outputs: the tools' whole outputs, kept for agents that have a context budget.
        taint: what brought untrusted content into the conversation: a tool's name, or "a message".
        asked: the calls that it was paused for, by key.
        decided: what was decided on such calls, by key.
        tool_choice: what the next turn may do.
        problems: all that were met.
        text: of the last turn.
    """

    def __init__(self, setup: Setup, limits: Limits, above: Budget | None) -> None:
        self.setup = setup
        self.policies = [setup.policy]
        self.budget = Budget(limits, above)
        self.steps = 0
        self.stop_reason: StopReason | None = None
        self.is_ended = False
        self.turn: Turn | None = None
        self.messages: list[Message] = []
        self.task = 0
        self.compacted = Compacted(0, ())
        self.outputs = Outputs(limits.tool_output)
        self.taint: str | None = None
        self.asked: Mapping[str, PendingCall] = {}
        self.decided: dict[str, Decision] = {}
        self.tool_choice = "auto"
        self.problems: list[Problem] = []
        self.text = ""
        self._is_replaying = False
        self._broken_off = 0  # messages of a turn that was broken off
        self._fruitless = 0  # turns in a row without a usable call or an answer
        self._stale = 0  # turns in a row that only repeated what was done before
        self._made: set[int] = set()  # calls with their results, as hashes

    def begin(self, started: RunStarted, earlier: Sequence[Message], compacted: Compacted | None) -> None:
        """Apply the first record.

        Args:
            started: the record.
            earlier: the conversation that it continues.
            compacted: what was sent of that instead of its beginning.
        """
        self._extend(earlier)
        if compacted is not None and compacted.count <= len(self.messages):
            self.compacted = compacted
        self._extend(started.messages)
        self.task = len(self.messages) - 1
        if self.setup.context is not None:
            self.outputs.keep_results(self.messages)
        self.tool_choice = started.tool_choice

    def replay(self, records: Sequence[Record]) -> None:
        """Apply records of what was done before, and not by this process."""
        self._is_replaying = True
        for record in records:
            self.apply(record)
        self._is_replaying = False

    def apply(self, record: Record) -> None:
        """Let a record count."""
        match record:
            case ModelAnswered(response):
                self.steps += 1
                self.budget.spend(response.usage)
                self.problems += response.problems
                self.text = response.text
                self.messages.append(response.message)
                self.turn = Turn(response)
            case CallStarted(place) if self.turn:
                is_first = place not in self.turn.started
                self.turn.started[place] = record
                self.turn.attempts[place] += 1
                if self._is_replaying and is_first:  # else it was counted when it was admitted
                    self.budget.count_call(self.turn.response.calls[place].name)
            case CallFinished() if self.turn:
                self._finish_call(self.turn, record)
            case StepEnded(messages, stop_reason, problems, usage):
                self.problems += problems
                self.budget.spend(usage)
                self._end_step(messages)
                self.stop_reason = stop_reason
            case Compacted(response=response):
                self.compacted = record
                if response is not None:
                    self.budget.spend(response.usage)
            case RunResumed(decisions):
                self.decided |= decisions
                self.is_ended = False
                self.stop_reason = None
                self.messages = self.messages[: len(self.messages) - self._broken_off]
                self.steps -= self._broken_off
                self._broken_off = 0
            case RunEnded(stop_reason, pending, problem):
                self.problems += [problem] if problem else []
                self.is_ended = stop_reason != "paused"
                self.stop_reason = stop_reason
                self.asked = {call.key: call for call in pending}
            case _:
                pass

    def extend_limits(self) -> None:
        """The run goes on with other limits: what is counted in a row is counted from here."""
        self._fruitless = self._stale = 0

    def output_name(self, place: int) -> str:
        """What the output of a call of the last turn is called; nothing where it is not kept."""
        return output_name(len(self.messages), place) if self.setup.context else ""

    def results(self, of_answer: Sequence[tuple[ToolCall, ToolResult]]) -> list[ToolResult]:
        """All results of the last turn in the order of its calls; one that only repeats an earlier one says so.

        Args:
            of_answer: calls that were the answer, with what they are told.
        """
        assert self.turn is not None
        calls = self.turn.response.calls
        results = {
            place: replace(result, content=result.content + _REPEATED)
            if self.turn.made[place] in self._made
            else result
            for place, result in self.turn.results.items()
        }
        for answer, result in of_answer:
            results[next(place for place, call in enumerate(calls) if call is answer)] = result
        return [results[place] for place in sorted(results)]

    def progress(self, results: Sequence[ToolResult]) -> tuple[int, int]:
        """How many turns in a row held nothing usable, and how many nothing new; the last one has these results."""
        assert self.turn is not None
        is_usable = any(result.error not in _UNUSED for result in results)
        made = set(self.turn.made.values())
        is_stale = bool(made) and made <= self._made
        return 0 if is_usable else self._fruitless + 1, self._stale + 1 if is_stale else 0

    def transcript(self) -> tuple[Message, ...]:
        """The conversation so far, without the instructions; a last turn whose calls have no results is left out."""
        if self.messages and self.messages[-1].calls:
            return tuple(self.messages[:-1])
        return tuple(self.messages)

    def _finish_call(self, turn: Turn, record: CallFinished) -> None:
        place, result = record.place, record.result
        turn.results[place] = result
        turn.made[place] = _as_made(turn.response.calls[place], result)
        if name := self.output_name(place):
            self.outputs.keep(name, record.whole or result.content, untrusted=result.untrusted)
        if result.error not in _UNUSED and self.tool_choice != "none":
            self.tool_choice = "auto"  # `required` and a tool's name hold until the first result
        if self._is_replaying:  # else the runs beneath have counted it
            self.budget.spend(record.usage)
            for tool, times in record.calls.items():
                self.budget.count_call(tool, times)

    def _end_step(self, messages: Sequence[Message]) -> None:
        if self.turn is None:
            self._broken_off = len(messages)
            self.steps += len(messages)
        else:
            results = [result for message in messages for result in message.results]
            self._fruitless, self._stale = self.progress(results)
            self._made.update(self.turn.made.values())
            self._hand_off(self.turn)
            self.turn = None
        self._extend(messages)

    def _hand_off(self, turn: Turn) -> None:
        for place, call in enumerate(turn.response.calls):
            if call.name in self.setup.handoffs and place in turn.results and turn.results[place].error is None:
                self.setup = self.setup.handoffs[call.name].setup
                if self.setup.policy not in self.policies:
                    self.policies.append(self.setup.policy)
                return

    def _extend(self, messages: Sequence[Message]) -> None:
        self.messages += messages
        for message in messages:
            if self.taint is None and message.untrusted:
                self.taint = next((result.name for result in message.results if result.untrusted), "a message")


def _as_made(call: ToolCall, result: ToolResult) -> int:
    return hash((call.name, json.dumps(call.arguments, sort_keys=True), result.content, result.error))
