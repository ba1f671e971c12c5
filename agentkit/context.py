"""The state of one run, and what of it is sent to the model."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar, cast

from agentkit._threads import Threads
from agentkit.answer import Answer
from agentkit.budget import Budget
from agentkit.errors import ContextOverflowError, OutputError, ResumeError, RunExistsError
from agentkit.events import ModelEvent, OutputT_co, PartialOutput, RunResult
from agentkit.hooks import OutOfTime, StopRun
from agentkit.journal.base import Journal, Lease
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
from agentkit.journal.replay import active_seconds, conversation, last_compacted
from agentkit.limits import Limits, StopReason
from agentkit.messages import FinishReason, Message, ModelResponse, Problem, ToolCall, ToolErrorKind, ToolResult
from agentkit.output import OutputType
from agentkit.outputs import Outputs, output_name
from agentkit.policy import Decision, PendingCall, Policy, canonical
from agentkit.providers.base import ModelRequest
from agentkit.setup import Setup
from agentkit.tool import RunContext
from agentkit.window import Window

__all__ = ["Caller", "Run", "Turn"]

T = TypeVar("T")

_STOP_REASONS: Final[Mapping[FinishReason, StopReason]] = {
    "stop": "answer",
    "tool_calls": "answer",  # said by a server that then sent none
    "length": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}

_UNUSED: Final = frozenset[ToolErrorKind | None]({"unknown_tool", "invalid_arguments", "not_run", "denied"})
"""Errors of calls that came to nothing: such a turn was no progress."""

_LIMITS: Final = frozenset[StopReason | None](
    {
        "steps",
        "deadline",
        "corrections",
        "repeats",
        "tool_calls",
        "input_tokens",
        "output_tokens",
        "cost",
        "output_size",
    }
)
"""A run that these ended goes on, if it is resumed with other limits."""

_NO_CALL: Final = ToolCall("", {})

_REPEATED: Final = "\n(You made this very call before, and the result was the same. Use it, or do something else.)"


@dataclass(slots=True)
class Turn:
    """The model's last turn, and what is on record of its calls, by their place in it."""

    response: ModelResponse
    started: dict[int, CallStarted] = field(default_factory=dict)
    results: dict[int, ToolResult] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """The call that a run answers, where an agent is called as a tool: its limits, deadline, policies, journal, taint
    and decisions go down with it."""

    run: Run[object]
    budget: Budget
    key: str


class Run(Generic[OutputT_co]):
    """One run in progress.

    It is what its records make of it: whatever happens is put on record and then applied, and a run that is resumed
    applies what is there. The conversation is valid after every method: each call in it has its result, or is in the
    last turn, whose results are still coming.

    Args:
        setup: the agent that begins it.
        output: the type of the answer.
        journal: where it is put on record.
        run_id: its name there.
        started: its first record; None resumes the run of this id.
        limits: its bounds.
        is_extended: a run that a limit ended goes on, since these are other limits.
        deps: handed to tools.
        decisions: on the calls that wait, by key.
        caller: the call that it answers, if it answers one.
    """

    def __init__(
        self,
        setup: Setup,
        output: OutputType[OutputT_co],
        journal: Journal,
        run_id: str,
        started: RunStarted | None,
        *,
        limits: Limits,
        is_extended: bool = False,
        deps: object = None,
        decisions: Mapping[str, Decision] | None = None,
        caller: Caller | None = None,
    ) -> None:
        self.setup = setup
        self.journal = journal
        self.run_id = run_id
        self.limits = limits
        self.decisions = decisions or {}
        self.caller = caller
        self.threads = Threads()
        self.budget = Budget(limits, caller.budget if caller else None)
        self.deadline = asyncio.get_running_loop().time() + limits.deadline
        self.stop_reason: StopReason | None = None
        self.turn: Turn | None = None
        self.taint: str | None = None  # what brought untrusted content into the conversation
        self.asked: Mapping[str, PendingCall] = {}  # what the run was paused for, by key
        self.waiting: dict[str, PendingCall] = {}  # what it is going to be paused for
        self.outputs = Outputs(limits.tool_output)  # kept for agents that have a context budget
        self.steps = 0
        self._policies = [setup.policy]
        self._started = started
        self._is_extended = is_extended
        self._deps = deps
        self._lease: Lease | None = None
        self._is_replaying = False
        self._is_ended = False  # and that is on record
        self._unwritten: list[Record] = []  # goes on record with what comes next
        self._messages: list[Message] = []
        self._broken_off = 0  # messages of a turn that was broken off
        self._task = 0  # the place of the message that began the run
        self._compacted = Compacted(0, ())
        self._window: Window | None = None
        self._prepared: Setup | None = None  # whom `_system` is for
        self._system: list[Message] = []
        self._answer = Answer(output)
        self._answers: tuple[OutputT_co, ...] = ()  # the one, once it was given
        self._tool_choice = "auto"
        self._fruitless = 0  # turns in a row without a usable call or an answer
        self._stale = 0  # turns in a row that only repeated what was done before
        self._made: set[int] = set()  # calls with their results, as hashes
        self._problems: list[Problem] = []
        self._vetoed: Problem | None = None  # what a hook ended the run for
        self._text = ""

    # The record

    @property
    def is_open(self) -> bool:
        """Whether it was put on record, or taken up."""
        return self._lease is not None

    async def open(self) -> None:
        """Put the run on record, or take up what is there.

        Raises:
            JournalError: see `Journal`.
            ResumeError: a decision is on no call that waits for one.
            StopRun: a hook refused the task.
        """
        if self.caller is not None:
            self.deadline = min(self.deadline, self.caller.run.deadline)
        if self._started is None:
            await self._resume()
            return
        started, stopped = await self._task_shown_to_hooks(self._started)
        try:
            self._lease = await self.journal.begin(self.run_id, started)
        except RunExistsError:
            if self.caller is None:
                raise
            await self._resume()  # the caller was interrupted: this run goes on where it was
            return
        await self._begin(started)
        if stopped:
            raise stopped

    async def _begin(self, started: RunStarted) -> None:
        if started.continues:
            self._extend(await conversation(self.journal, started.continues, started.at_step))
            record = await last_compacted(self.journal, started.continues) if self.setup.context else None
            if record is not None and record.count <= len(self._messages):  # it goes on like the run before it
                self._compacted = record
        self._extend(started.messages)
        self._task = len(self._messages) - 1
        if self.setup.context is not None:
            self.outputs.keep_results(self._messages)
        self._tool_choice = started.tool_choice

    async def _resume(self) -> None:
        self._lease = await self.journal.acquire(self.run_id)
        entries = await self.journal.entries(self.run_id)
        self._is_replaying = True
        for entry in entries:
            if isinstance(entry.record, RunStarted):
                await self._begin(entry.record)
            else:
                self._apply(entry.record)
        self._is_replaying = False
        if self._is_ended and not (self._is_extended and self.stop_reason in _LIMITS):
            self._answers = self._answer.reread(self._messages[-2:]) if self.stop_reason == "answer" else ()
            return
        if self._is_extended:
            self._fruitless = self._stale = 0
        unasked = [key for key in self.decisions if key not in self.asked]
        if unasked and self.caller is None:
            raise ResumeError(
                f"The run {self.run_id!r} has no call {unasked[0]!r} that waits for a decision: those that wait are "
                f"{', '.join(self.asked) or 'none'}"
            )
        self.deadline -= active_seconds(entries)
        await self.record(RunResumed({key: made for key, made in self.decisions.items() if key in self.asked}))
        if self.turn is not None:
            await self._prepare()  # tells calls of tools from the answer

    async def record(self, *records: Record) -> None:
        """Put on record what happened, then let it count.

        Raises:
            JournalError: it could not be: nothing may be built on it.
        """
        assert self._lease is not None
        batch, self._unwritten = [*self._unwritten, *records], []
        await self.journal.append(self._lease, *batch)
        for record in records:
            self._apply(record)

    def _record_later(self, record: Record) -> None:
        """What follows from the records before it needs no commit of its own: should it be lost, it follows again."""
        self._unwritten.append(record)
        self._apply(record)

    def _apply(self, record: Record) -> None:
        match record:
            case ModelAnswered(response):
                self.steps += 1
                self.budget.spend(response.usage)
                self._problems += response.problems
                self._text = response.text
                self._messages.append(response.message)
                self.turn = Turn(response)
            case CallStarted(place) if self.turn:
                self.turn.started[place] = record
                if self._is_replaying:
                    self.budget.count_call(self.turn.response.calls[place].name)
            case CallFinished(place, _, result, whole, usage) if self.turn:
                self.turn.results[place] = result
                if name := self.output_name(place):
                    self.outputs.keep(name, whole or result.content, untrusted=result.untrusted)
                if (result.error not in _UNUSED or result.error == "denied") and self._tool_choice != "none":
                    self._tool_choice = "auto"  # `required` and a tool's name hold until the first result, or a no
                if self._is_replaying:
                    self.budget.spend(usage)
            case StepEnded(messages, stop_reason, problems, usage):
                self._problems += problems
                self.budget.spend(usage)
                self._end_step(messages)
                self.stop_reason = stop_reason
            case Compacted(response=response):
                self._compacted = record
                if self._window is not None:
                    self._window.apply(record)
                if response is not None:
                    self.budget.spend(response.usage)
            case RunResumed():
                self._is_ended = False
                self.stop_reason = None
                self._messages = self._messages[: len(self._messages) - self._broken_off]
                self.steps -= self._broken_off
                self._broken_off = 0
            case RunEnded(stop_reason, pending, problem):
                self._problems += [problem] if problem else []
                self._is_ended = stop_reason != "paused"
                self.stop_reason = stop_reason
                self.asked = {call.key: call for call in pending}
            case _:
                pass

    def _end_step(self, messages: Sequence[Message]) -> None:
        if self.turn is None:
            self._broken_off = len(messages)
            self.steps += len(messages)
        else:
            results = [result for message in messages for result in message.results]
            self._fruitless, self._stale = self._progress(results)
            self._made |= self._calls_made()
            self._hand_off(self.turn)
            self.turn = None
        self._extend(messages)

    def _hand_off(self, turn: Turn) -> None:
        for place, call in enumerate(turn.response.calls):
            if call.name in self.setup.handoffs and place in turn.results and turn.results[place].error is None:
                self.setup = self.setup.handoffs[call.name].setup
                if self.setup.policy not in self._policies:
                    self._policies.append(self.setup.policy)
                return

    def _extend(self, messages: Sequence[Message]) -> None:
        self._messages += messages
        for message in messages:
            if self.taint is None and message.untrusted:
                self.taint = next((result.name for result in message.results if result.untrusted), "a message")

    async def end(self) -> None:
        """Put on record why the run ended, or what it waits for."""
        assert self.stop_reason is not None
        if not self._is_ended:
            await self.record(RunEnded(self.stop_reason, tuple(self.waiting.values()), self._vetoed))

    def close(self) -> None:
        """Give the run back, so that it can be resumed: from its last record, if it is not at its end."""
        if self._lease is not None:
            self.journal.release(self._lease)
            self._lease = None

    # The model

    async def request(self) -> ModelRequest:
        """What the model is sent next.

        Raises:
            StopRun: a hook ended the run, or the deadline passed.
        """
        if self._prepared is not self.setup:
            await self._prepare()
        if self._window is not None:
            await self._compact(self._window.compact(self._messages))
        return await self._before_model(self._build(self._compacted.sent(self._messages)))

    async def _before_model(self, request: ModelRequest) -> ModelRequest:
        for hooks in self.setup.hooks:
            request = await self.bounded(hooks.before_model(self.context(), request))
        return request

    async def shorten(self, error: ContextOverflowError) -> bool:
        """The model refused the request as too long. Returns whether the next one is shorter."""
        return self._window is not None and await self._compact(self._window.refused(self._messages, error))

    async def _compact(self, compacting: Awaitable[Compacted | None]) -> bool:
        record = await self.bounded(compacting)
        if record is not None:
            await self.record(record)
        return record is not None

    def _build(self, messages: Sequence[Message]) -> ModelRequest:
        return self._answer.ask(
            ModelRequest(
                [*self._system, *self.setup.examples, *messages],
                list(self.setup.tools.values()),
                self._tool_choice,
                self.setup.settings,
                deadline=self.deadline,
                examples=len(self.setup.examples),
            )
        )

    async def _prepare(self) -> None:
        setup = self._prepared = self.setup
        may_call = bool(setup.tools) and self._tool_choice != "none"
        asked = await self.bounded(self._answer.prepare(setup.provider, setup.tools, may_call))
        text = "\n\n".join(filter(None, [setup.instructions, asked]))
        self._system = [Message("system", text)] if text else []
        if setup.context is None:
            self._window = None
        else:
            self._window = Window(setup.context, setup.provider, self._build, self._task, self._before_model)
            self._window.apply(self._compacted)

    def partial_output(self, event: ModelEvent) -> PartialOutput | None:
        """What there is of the answer, where it is of a type and this event made it grow."""
        return self._answer.partial(event)

    async def add_response(self, response: ModelResponse) -> ModelResponse:
        """Take the model's turn into the conversation, as the hooks leave it."""
        for hooks in self.setup.hooks:
            try:
                response = await self.bounded(hooks.after_model(self.context(), response))
            except StopRun as stopped:
                self._record_later(StepEnded((), _reason(stopped), usage=response.usage))
                raise
        if self._window is not None:
            self._window.answered(self._messages, response.usage)
        await self.record(ModelAnswered(response))
        return response

    def break_off(self, partial: Message, reason: StopReason) -> None:
        """The model was still writing when the run was ended: keep what it said."""
        said = (partial,) if partial.content else ()
        if said:
            self._text = partial.text
        self._record_later(StepEnded(said, reason))

    def stop(self, stopped: StopRun, partial: Message) -> None:
        """A hook ended the run, or the deadline did. ``partial`` is what the model had said of its turn."""
        reason = _reason(stopped)
        if self.turn is None and self.stop_reason is None:
            self.break_off(partial, reason)
        self.stop_reason = reason
        if reason == "guardrail":
            self._vetoed = Problem("guardrail", str(stopped) or "a hook ended the run")

    # The calls

    def open_calls(self) -> list[tuple[int, ToolCall]]:
        """The calls of the last turn that tools answer and that have no result yet, with their places in it."""
        if self.turn is None:
            return []
        return [
            (place, call)
            for place, call in enumerate(self.turn.response.calls)
            if place not in self.turn.results and not self._answer.is_given_by(call)
        ]

    def key(self, place: int) -> str:
        """A name for a call that is the same whenever the run is resumed."""
        return hashlib.sha256(f"{self.run_id} {self.steps} {place}".encode()).hexdigest()[:32]

    def output_name(self, place: int) -> str:
        """What the output of a call of the last turn is called; nothing where it is not kept."""
        return output_name(len(self._messages), place) if self.setup.context else ""

    def context(self, call: ToolCall = _NO_CALL, key: str = "", budget: Budget | None = None) -> RunContext[object]:
        """What a tool, a hook or a validator is told of this run."""
        caller = Caller(self, budget, key) if budget is not None else None
        return RunContext(self._deps, self.run_id, self.steps, call, key, caller)

    @property
    def policies(self) -> Sequence[Policy]:
        """Those that a call must pass: those of the run's agents, and of the runs above."""
        return [*self._policies, *(self.caller.run.policies if self.caller else ())]

    async def bounded(self, waiting: Awaitable[T]) -> T:
        """Wait, but not beyond the deadline.

        Raises:
            StopRun: it passed, or a hook that is waited for ends the run.
        """
        try:
            async with asyncio.timeout_at(self.deadline) as scope:
                return await waiting
        except TimeoutError:
            if not scope.expired():
                raise
        raise OutOfTime

    async def _task_shown_to_hooks(self, started: RunStarted) -> tuple[RunStarted, StopRun | None]:
        if not self.setup.hooks:
            return started, None
        try:
            shown = await self._shown_to_hooks(started.messages[-1:])
        except StopRun as stopped:
            return started, stopped
        return replace(started, messages=(*started.messages[:-1], *shown)), None

    async def _shown_to_hooks(self, messages: Sequence[Message]) -> list[Message]:
        shown = list(messages)
        for hooks in self.setup.hooks:
            shown = [await self.bounded(hooks.on_message(self.context(), message)) for message in shown]
        return shown

    # The step's end

    async def finish_step(self) -> None:
        """Look whether the turn was the answer, put results and corrections behind it, and decide whether the run goes
        on."""
        if self.waiting:
            self.stop_reason = "paused"
            return
        assert self.turn is not None
        response = self.turn.response
        verdict = await self._answer.judge(response, self._tool_choice, self.context, self.deadline)
        self._answers = verdict.answers
        results = self._results(self.turn, verdict.results)
        missing = self._missing_call(response)
        told = [] if verdict.results else verdict.problems  # else the result of the answer's call says it
        problems = [*response.problems, *missing, *told]
        messages = [Message("tool", results)] if results else []
        if problems:
            messages.append(Message("user", "\n".join(problem.message for problem in problems)))
        stop_reason = self._decide(response, results, problems)
        if self.setup.hooks:
            messages = await self._shown_to_hooks(messages)
        self._record_later(StepEnded(tuple(messages), stop_reason, (*missing, *verdict.problems)))

    def _results(self, turn: Turn, of_answer: Sequence[tuple[ToolCall, ToolResult]]) -> list[ToolResult]:
        """All results of a turn in the order of its calls; one that only repeats an earlier one says so."""
        results = {
            place: replace(result, content=result.content + _REPEATED)
            if _as_made(turn.response.calls[place], result) in self._made
            else result
            for place, result in turn.results.items()
        }
        for answer, result in of_answer:
            results[next(place for place, call in enumerate(turn.response.calls) if call is answer)] = result
        return [results[place] for place in sorted(results)]

    def _calls_made(self) -> set[int]:
        assert self.turn is not None
        calls = self.turn.response.calls
        return {_as_made(calls[place], result) for place, result in self.turn.results.items()}

    def _progress(self, results: Sequence[ToolResult]) -> tuple[int, int]:
        """How many turns in a row now held nothing usable, and how many nothing new."""
        is_usable = any(result.error not in _UNUSED for result in results)
        made = self._calls_made()
        is_stale = bool(made) and made <= self._made
        return 0 if is_usable else self._fruitless + 1, self._stale + 1 if is_stale else 0

    def _missing_call(self, response: ModelResponse) -> list[Problem]:
        """Many servers pass over ``tool_choice``: an answer is then none yet."""
        if self._tool_choice in ("auto", "none") or response.problems or response.calls:
            return []
        if response.finish_reason not in ("stop", "tool_calls"):
            return []
        which = f"the tool {self._tool_choice!r}" if self._tool_choice in self.setup.tools else "one of the tools"
        return [Problem("missing_call", f"Call {which} first, then answer.", raw=response.text)]

    def _decide(
        self, response: ModelResponse, results: Sequence[ToolResult], problems: Sequence[Problem]
    ) -> StopReason | None:
        if self._answers:
            return "answer"
        if not results and not problems:
            return _STOP_REASONS[response.finish_reason]
        fruitless, stale = self._progress(results)
        if fruitless >= self.limits.corrections:
            return "corrections"
        if stale >= self.limits.repeats:
            return "repeats"
        if asyncio.get_running_loop().time() >= self.deadline:
            return "deadline"
        return self.budget.exceeded() or ("steps" if self.steps >= self.limits.steps else None)

    # What came of it

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
            f"after {self.steps} turns of the model. {' '.join(said)}".rstrip(),
            result,
        )

    def _came_to(self, output: T) -> RunResult[T]:
        assert self.stop_reason is not None
        return RunResult(
            output,
            list(self.transcript()),
            self.budget.usage,
            self.run_id,
            self.steps,
            self.stop_reason,
            list(self._problems),
            list(self.waiting.values()),
        )


def _reason(stopped: StopRun) -> StopReason:
    return "deadline" if isinstance(stopped, OutOfTime) else "guardrail"


def _as_made(call: ToolCall, result: ToolResult) -> int:
    return hash((call.name, json.dumps(canonical(call.arguments)), result.content, result.error))
