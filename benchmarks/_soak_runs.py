"""What soak.py's agents go through: runs that are interrupted and resumed, each held against its records in the end."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from _soak_agents import ACTIONS, ANSWER, OUTCOMES, PLANS, WORLD, Plan

from agentkit import Agent, RunResult
from agentkit.errors import AgentKitError, ProviderConnectionError, RunBusyError, RunNotFoundError
from agentkit.events import Event, RunFinished
from agentkit.journal.base import Journal
from agentkit.journal.records import CallFinished, ModelAnswered, Record, RunEnded, RunResumed, RunStarted
from agentkit.policy import Decision, PendingCall

EVENTS: Final = 40  # a run has about so many: an interruption comes before one of them
BUSY: Final = 1000  # tries to take up a run, 10 ms apart


class Wrong(Exception):
    """A run is not what it should be."""


@dataclass
class Tally:
    """What was counted: `begun` by the agents, the rest from the records of runs that have ended."""

    begun: Counter[str] = field(default_factory=Counter)
    interrupted: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    beneath: int = 0
    resumed: int = 0
    turns: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


# ── one run after the other ──────────────────────────────────────────────────────────────────────────────────────────


async def keep_working(agent: Agent[str], until: float, tally: Tally) -> None:
    """Do one task after the other until the time is up; the last one is done to its end."""
    while time.monotonic() < until:
        name, run_id = random.choice(list(PLANS)), uuid.uuid4().hex
        tally.begun[name] += 1
        try:
            result = await done(agent, f"{name} {run_id}", run_id, tally)
            await audit(agent.journal, result, PLANS[name], tally)
        except (Wrong, AgentKitError, AssertionError) as error:
            tally.wrong.append(f"{name} {run_id}: {type(error).__name__}: {error}")
            return


async def done(agent: Agent[str], task: str, run_id: str, tally: Tally) -> RunResult[str]:
    """One run, resumed until it has ended."""
    interruptions, busy = random.choice([0, 0, 1, 2]), 0
    events = agent.stream(task, run_id=run_id)
    while True:
        decisions: dict[str, Decision | bool] = {}
        try:
            if interruptions:
                interruptions -= 1
                result = await interrupted(events, tally)
            else:
                result = await drained(events)
            if result is not None and result.stop_reason != "paused":
                return result
            decisions = {call.key: decided(call) for call in result.pending} if result else {}
        except ProviderConnectionError:
            tally.interrupted["model failed"] += 1
        except RunNotFoundError:  # it was interrupted before it was on record
            tally.interrupted["before it began"] += 1
            events = agent.stream(task, run_id=run_id)
            continue
        except RunBusyError:  # it was interrupted while its lease was being taken, and that is being given back
            busy += 1
            if busy > BUSY:
                raise
            await asyncio.sleep(0.01)
        events = agent.stream_resumed(run_id, decisions)


async def drained(events: AsyncGenerator[Event[str], None], count: int | None = None) -> RunResult[str] | None:
    """The result, or None where only so many events were wanted."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, RunFinished):
                return event.result
            if count is not None:
                count -= 1
                if count < 0:
                    return None
    raise Wrong("the stream ended without a result")


async def interrupted(events: AsyncGenerator[Event[str], None], tally: Tally) -> RunResult[str] | None:
    """The result, unless an interruption was faster: behind so many events, or (-1) before the first."""
    count = random.randrange(-1, EVENTS)
    if random.random() < 0.5:
        result = await drained(events, count)
        tally.interrupted["stream closed"] += result is None
        return result
    reached = asyncio.Event()

    async def counted() -> AsyncGenerator[Event[str], None]:
        left = count
        async with aclosing(events):
            async for event in events:
                left -= 1
                if left < 0:
                    reached.set()
                yield event

    work = asyncio.create_task(drained(counted()))
    watch = asyncio.create_task(reached.wait())
    if count >= 0:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()
    await asyncio.sleep(random.choice([0, random.uniform(0, 0.01)]))  # in the middle of whatever comes next
    work.cancel()
    try:
        return await work
    except asyncio.CancelledError:
        tally.interrupted["task cancelled"] += 1
        return None


def decided(call: PendingCall) -> Decision | bool:
    """Two of three calls are allowed. Of one that was interrupted, this person knows whether it took effect."""
    if call.is_interrupted:
        return Decision(False, result="done") if call.idempotency_key in WORLD.done else True
    return random.random() < 2 / 3


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def audit(journal: Journal, result: RunResult[str], plan: Plan, tally: Tally) -> None:
    """Hold a run that has ended against its records, count it, and delete it.

    Raises:
        Wrong: they differ.
    """
    if result.stop_reason != plan.stop_reason or (plan.stop_reason == "answer" and result.output.strip() != ANSWER):
        raise Wrong(f"it ended with {result.stop_reason!r} and {result.output!r}")
    if result.steps != plan.steps:
        raise Wrong(f"it took {result.steps} turns instead of {plan.steps}")
    asked = [call.id for message in result.messages for call in message.calls]
    answered = [answer.call_id for message in result.messages for answer in message.results]
    if asked != answered:
        raise Wrong(f"calls {asked} were answered {answered}")
    await account(journal, result.run_id, plan, tally)
    tally.ended[result.stop_reason] += 1
    WORLD.broken.discard(result.messages[0].text)


async def account(journal: Journal, run_id: str, plan: Plan, tally: Tally) -> None:
    """Read a run's records, and those of the runs beneath it; count and delete them."""
    entries = await journal.entries(run_id)
    records: list[Record] = [entry.record for entry in entries]
    turns = [record.response for record in records if isinstance(record, ModelAnswered)]
    finished = [record for record in records if isinstance(record, CallFinished)]
    calls = [call for turn in turns for call in turn.calls]
    if not isinstance(records[0], RunStarted) or not isinstance(records[-1], RunEnded):
        raise Wrong(f"its records are {[record.kind for record in records]}")
    if records[-1].stop_reason != plan.stop_reason or len(turns) != plan.steps:
        raise Wrong(f"on record are {len(turns)} turns and {records[-1].stop_reason!r} at the end")
    if len(finished) != len(calls) or len({record.key for record in finished}) != len(calls):
        raise Wrong(f"{len(calls)} calls have {len(finished)} results on record")
    for record in finished:
        name, error = record.result.name, record.result.error
        tally.calls[error or "worked"] += 1
        if error not in OUTCOMES[name]:
            raise Wrong(f"{name} ended with {error!r}: {record.result.content}")
        times = WORLD.done.pop(record.key, 0)
        if times != (name in ACTIONS and error is None):
            raise Wrong(f"{name} with the result {record.result.content!r} was done {times} times")
        if name == "colleague":
            task = next(call.arguments["task"] for call in calls if call.id == record.result.call_id)
            await account(journal, record.key, PLANS[str(task)], tally)
            tally.beneath += 1
    tally.turns += len(turns)
    tally.resumed += sum(isinstance(record, RunResumed) for record in records)
    await journal.delete(run_id)
