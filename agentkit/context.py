"""One run: what it puts on record, what is sent to the model, what comes of each step."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar, cast, get_args

from agentkit._threads import Threads
from agentkit.answer import Answer
from agentkit.budget import Budget
from agentkit.errors import ContextOverflowError, OutputError, ResumeError, RunBusyError, RunNotFoundError
from agentkit.events import ModelEvent, OutputT_co, PartialOutput, RunResult
from agentkit.hooks import OutOfTime, StopRun
from agentkit.journal.base import Journal, Lease
from agentkit.journal.records import (
    Compacted,
    ModelAnswered,
    Record,
    RunEnded,
    RunResumed,
    RunStarted,
    StepEnded,
)
from agentkit.journal.replay import active_seconds, conversation, last_compacted
from agentkit.limits import LimitReason, Limits, StopReason
from agentkit.messages import FinishReason, Message, ModelResponse, Problem, ToolCall, ToolResult
from agentkit.output import OutputType
from agentkit.policy import Decision, PendingCall, Policy
from agentkit.providers.base import ModelRequest
from agentkit.setup import Setup
from agentkit.state import RunState
from agentkit.tool import RunContext
from agentkit.window import Window

__all__ = ["Caller", "Run"]

T = TypeVar("T")

_STOP_REASONS: Final[Mapping[FinishReason, StopReason]] = {
    "stop": "answer",
    "tool_calls": "answer",  # said by a server that then sent none
    "length": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}

_PAUSE: Final = 0.02  # seconds between two tries to take a run up

_NO_CALL: Final = ToolCall("", {})


@dataclass(frozen=True, slots=True)
class Caller:
    """The call that a run answers, where an agent is called as a tool: its limits, deadline, policies, journal, taint
    and decisions go down with it."""

    run: Run[object]
    budget: Budget
    key: str


class Run(RunState, Generic[OutputT_co]):
    """One run in progress: whatever happens is put on record, and then applied to its state. A run that is resumed
    applies what is there.

    Args:
        setup: the agent that begins it.
        output: the type of the answer.
        journal: where it is put on record.
        run_id: its name there.
        started: its first record; None resumes the run of this id.
        limits: its bounds.
        is_extended: a run that a limit ended goes on, since these are other limits.
        deps: handed to tools.
        decisions: those that are new, on the calls that wait, by key.
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
        super().__init__(setup, limits, caller.budget if caller else None)
        self.journal = journal
        self.run_id = run_id
        self.limits = limits
        self.caller = caller
        self.threads = Threads()
        self.deadline = self._deadline_in(limits.deadline)
        self.waiting: dict[str, PendingCall] = {}  # what it is going to be paused for
        self._started = started
        self._is_extended = is_extended
        self._deps = deps
        self._decisions = decisions or {}
        self._lease: Lease | None = None
        self._unwritten: list[Record] = []  # goes on record with what comes next
        self._window: Window | None = None
        self._prepared: Setup | None = None  # whom `_system` is for
        self._system: list[Message] = []
        self._answer = Answer(output)
        self._answers: tuple[OutputT_co, ...] = ()  # the one, once it was given
        self._vetoed: Problem | None = None  # what a hook ended the run for

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
        if self._started is None:
            await self._resume()
            return
        if self.caller is not None:
            with suppress(RunNotFoundError):
                await self._resume()  # the caller was interrupted: this run goes on where it was
                return
        started, stopped = await self._task_shown_to_hooks(self._started)
        self._lease = await self.journal.begin(self.run_id, started)
        await self._begin(started)
        if stopped:
            raise stopped

    async def _begin(self, started: RunStarted) -> None:
        earlier: Sequence[Message] = ()
        compacted = None
        if started.continues:
            earlier = await conversation(self.journal, started.continues, started.at_step)
            if self.setup.context is not None:  # what is sent of it begins like that of the run before
                compacted = await last_compacted(self.journal, started.continues)
        self.begin(started, earlier, compacted)

    async def _resume(self) -> None:
        self._lease = await self._taken_up()
        entries = await self.journal.entries(self.run_id)
        started = entries[0].record
        assert isinstance(started, RunStarted)
        await self._begin(started)
        self.replay([entry.record for entry in entries[1:]])
        if self.is_ended and not (self._is_extended and self.stop_reason in get_args(LimitReason)):
            self._answers = self._answer.reread(self.messages[-2:]) if self.stop_reason == "answer" else ()
            return
        if started.parent and self.caller is None:
            raise ResumeError(
                f"The run {self.run_id!r} is beneath the run {started.parent!r}, whose limits and policy hold for it: "
                "resume that one"
            )
        if self._is_extended:
            self.extend_limits()
        unasked = [key for key in self._decisions if key not in self.asked]
        if unasked and self.caller is None:
            raise ResumeError(
                f"The run {self.run_id!r} has no call {unasked[0]!r} that waits for a decision: those that wait are "
                f"{', '.join(self.asked) or 'none'}"
            )
        self.deadline = self._deadline_in(self.limits.deadline - active_seconds(entries))
        await self.record(RunResumed({key: made for key, made in self._decisions.items() if key in self.asked}))
        if started.refused:  # so it stays, whatever became of the run
            raise StopRun(started.refused)
        if self.turn is not None:
            await self._prepare()  # tells calls of tools from the answer

    async def _taken_up(self) -> Lease:
        """The run's lease. One beneath another is waited for: whoever has it was interrupted with its caller, and is
        still cleaning up."""
        while True:
            try:
                return await self.journal.acquire(self.run_id)
            except RunBusyError:
                if self.caller is None or asyncio.get_running_loop().time() >= self.deadline:
                    raise
            await asyncio.sleep(_PAUSE)

    def _deadline_in(self, seconds: float) -> float:
        """A moment of the event loop's time, and none behind the deadline of the run above."""
        own = asyncio.get_running_loop().time() + seconds
        return own if self.caller is None else min(own, self.caller.run.deadline)

    async def record(self, *records: Record) -> None:
        """Put on record what happened, then let it count.

        Raises:
            JournalError: it could not be: nothing may be built on it.
        """
        assert self._lease is not None
        batch, self._unwritten = [*self._unwritten, *records], []
        await self.journal.append(self._lease, *batch)
        for record in records:
            self.apply(record)

    def _record_later(self, record: Record) -> None:
        """What follows from the records before it needs no commit of its own: should it be lost, it follows again."""
        self._unwritten.append(record)
        self.apply(record)

    async def end(self) -> None:
        """Put on record why the run ended, or what it waits for."""
        assert self.stop_reason is not None
        if not self.is_ended:
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
            await self._compact(self._window.compact(self.messages))
        return await self._before_model(self._build(self.compacted.sent(self.messages)))

    async def _before_model(self, request: ModelRequest) -> ModelRequest:
        for hooks in self.setup.hooks:
            request = await self.bounded(hooks.before_model(self.context(), request))
        return request

    async def shorten(self, error: ContextOverflowError) -> bool:
        """The model refused the request as too long. Returns whether the next one is shorter."""
        return self._window is not None and await self._compact(self._window.refused(self.messages, error))

    async def _compact(self, compacting: Awaitable[Compacted | None]) -> bool:
        record = await self.bounded(compacting)
        if record is not None:
            await self.record(record)
            assert self._window is not None
            self._window.apply(record)
        return record is not None

    def _build(self, messages: Sequence[Message]) -> ModelRequest:
        return self._answer.ask(
            ModelRequest(
                [*self._system, *self.setup.examples, *messages],
                list(self.setup.tools.values()),
                self.tool_choice,
                self.setup.settings,
                deadline=self.deadline,
                examples=len(self.setup.examples),
            )
        )

    async def _prepare(self) -> None:
        setup = self._prepared = self.setup
        may_call = bool(setup.tools) and self.tool_choice != "none"
        asked = await self.bounded(self._answer.prepare(setup.provider, setup.tools, may_call))
        text = "\n\n".join(filter(None, [setup.instructions, asked]))
        self._system = [Message("system", text)] if text else []
        if setup.context is None:
            self._window = None
        else:
            self._window = Window(setup.context, setup.provider, self._build, self.task, self._before_model)
            self._window.apply(self.compacted)

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
            self._window.answered(self.messages, response.usage)
        await self.record(ModelAnswered(response))
        return response

    def break_off(self, partial: Message, reason: StopReason) -> None:
        """The model was still writing when the run was ended: keep what it said."""
        said = (partial,) if partial.content else ()
        if said:
            self.text = partial.text
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

    def context(self, call: ToolCall = _NO_CALL, key: str = "", budget: Budget | None = None) -> RunContext[object]:
        """What a tool, a hook or a validator is told of this run."""
        caller = Caller(self, budget, key) if budget is not None else None
        return RunContext(self._deps, self.run_id, self.steps, call, key, caller)

    def all_policies(self) -> Sequence[Policy]:
        """Those that a call must pass: those of the run's agents, and of the runs above."""
        return [*self.policies, *(self.caller.run.all_policies() if self.caller else ())]

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

    async def after_tool(self, call: ToolCall, key: str, result: ToolResult) -> ToolResult:
        """The result of a call that was run, as the hooks leave it.

        Raises:
            StopRun: a hook ended the run, or the deadline passed.
        """
        for hooks in self.setup.hooks:
            result = await self.bounded(hooks.after_tool(self.context(call, key), call, result))
        return result

    async def _task_shown_to_hooks(self, started: RunStarted) -> tuple[RunStarted, StopRun | None]:
        if not self.setup.hooks:
            return started, None
        try:
            shown = await self._shown_to_hooks(started.messages[-1:])
        except StopRun as stopped:
            return replace(started, refused=str(stopped) or "a hook refused the task"), stopped
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
        verdict = await self._answer.judge(response, self.tool_choice, self.context, self.deadline)
        self._answers = verdict.answers
        results = self.results(verdict.results)
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

    def _missing_call(self, response: ModelResponse) -> list[Problem]:
        """Many servers pass over ``tool_choice``: an answer is then none yet."""
        if self.tool_choice in ("auto", "none") or response.problems or response.calls:
            return []
        if response.finish_reason not in ("stop", "tool_calls"):
            return []
        which = f"the tool {self.tool_choice!r}" if self.tool_choice in self.setup.tools else "one of the tools"
        return [Problem("missing_call", f"Call {which} first, then answer.", raw=response.text)]

    def _decide(
        self, response: ModelResponse, results: Sequence[ToolResult], problems: Sequence[Problem]
    ) -> StopReason | None:
        if self._answers:
            return "answer"
        if not results and not problems:
            return _STOP_REASONS[response.finish_reason]
        fruitless, stale = self.progress(results)
        if fruitless >= self.limits.corrections:
            return "corrections"
        if stale >= self.limits.repeats:
            return "repeats"
        if asyncio.get_running_loop().time() >= self.deadline:
            return "deadline"
        return self.budget.exceeded() or ("steps" if self.steps >= self.limits.steps else None)

    # What came of it

    def result(self) -> RunResult[OutputT_co]:
        """What the run came to.

        Raises:
            OutputError: it was to end with an answer of a type, and did not.
        """
        if self._answers:
            return self._came_to(self._answers[0])
        result = self._came_to(self.text)
        if self._answer.kind.is_plain:
            return cast("RunResult[OutputT_co]", result)
        said = [problem.message for problem in self.problems[-1:] if problem.kind == "invalid_output"]
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
            list(self.problems),
            list(self.waiting.values()),
        )


def _reason(stopped: StopRun) -> StopReason:
    return "deadline" if isinstance(stopped, OutOfTime) else "guardrail"
