"""Agents that are killed at a point that was chosen, each in a process of its own: see test_kill.py.

One lives in a folder: ``journal.db``, unless its journal is elsewhere; ``asked``, a line for each time a model was
asked; ``done``, a line for each side effect: the call's idempotency key and what was done; ``decided``, a line for each
decision of a person; ``said PID``, the conversation as a process found it at its end; ``commits PID``, their number.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from agentkit import Agent, Hooks, Message, RunContext, RunResult, tool
from agentkit.errors import CallNotDone, JournalError, LeaseLostError, RunBusyError, RunNotFoundError
from agentkit.events import ModelEvent, ModelFinished, TextDelta, ToolCallDelta, ToolCallEnd, ToolCallStart
from agentkit.hooks import StopRun
from agentkit.journal.base import Entry, Journal, Lease, RunInfo
from agentkit.journal.records import Record, RunStarted
from agentkit.messages import TextPart, ToolCall, Usage, dump_messages
from agentkit.policy import PendingCall, Policy, Rule
from agentkit.providers.base import ModelRequest, Provider
from agentkit.providers.tokens import estimated_tokens
from agentkit.window import ContextBudget
from tests.journal.place import Place

RUN = "run"

Turn: TypeAlias = Sequence[TextPart | ToolCall]
Script: TypeAlias = Mapping[str, Turn]
"""What a model says to the last line that it was told."""


class Death:
    """Kills this process, or stops it, when a point is passed: ``commit-before 3``, ``tool-end 4``."""

    def __init__(self, point: str, how: signal.Signals) -> None:
        self.point = point
        self.how = how
        self.commits = 0

    def passes(self, point: str) -> None:
        if point == self.point:
            os.kill(os.getpid(), self.how)


class MortalJournal(Journal):
    """A journal whose process may die before or after each commit."""

    def __init__(self, journal: Journal, death: Death) -> None:
        self.journal = journal
        self.death = death

    async def begin(self, run_id: str, started: RunStarted) -> Lease:
        number = self._before()
        lease = await self.journal.begin(run_id, started)
        try:
            self.death.passes(f"commit-after {number}")
        except JournalError:
            self.journal.release(lease)
            raise
        return lease

    async def append(self, lease: Lease, *records: Record) -> None:
        number = self._before()
        await self.journal.append(lease, *records)
        self.death.passes(f"commit-after {number}")

    def _before(self) -> int:
        self.death.commits += 1
        self.death.passes(f"commit-before {self.death.commits}")
        return self.death.commits

    async def acquire(self, run_id: str) -> Lease:
        return await self.journal.acquire(run_id)

    def release(self, lease: Lease) -> None:
        self.journal.release(lease)

    async def entries(self, run_id: str) -> list[Entry]:
        return await self.journal.entries(run_id)

    async def runs(self, *, session: str | None = None, limit: int = 100) -> list[RunInfo]:
        return await self.journal.runs(session=session, limit=limit)

    async def delete(self, run_id: str) -> None:
        await self.journal.delete(run_id)

    async def close(self) -> None:
        await self.journal.close()


class Scripted(Provider):
    """Says what its script has for what it was told last, and notes that it was asked."""

    name = "scripted"

    def __init__(self, script: Script, folder: Path, death: Death) -> None:
        self.script = script
        self.folder = folder
        self.death = death

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        last = request.messages[-1]
        told = (last.results[-1].content if last.results else last.text).splitlines()[-1]
        if not request.tools:
            told = "to sum up"
        note(self.folder / "asked", told)
        self.death.passes(f"model {told}")
        for part in self.script[told]:
            if isinstance(part, TextPart):
                yield TextDelta(part.text)
            else:
                yield ToolCallStart(part.name, part.id)
                yield ToolCallDelta(part.id, json.dumps(part.arguments))
                yield ToolCallEnd(part)
        self.death.passes(f"model-end {told}")
        yield ModelFinished(usage=Usage(10, 5))

    async def count_tokens(self, request: ModelRequest) -> int:
        return estimated_tokens(request)


def note(path: Path, line: str) -> None:
    """A line on the disk."""
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


class World:
    """What the agents of one process share."""

    def __init__(self, folder: Path, death: Death, journal: Journal) -> None:
        self.folder = folder
        self.death = death
        self.journal = MortalJournal(journal, death)

    def done(self) -> set[str]:
        """The keys of the calls that were made. That none was made twice, the test looks at the lines for."""
        path = self.folder / "done"
        return {line.split(" ", 1)[0] for line in path.read_text().splitlines()} if path.exists() else set()

    def do(self, context: RunContext[Any], what: str, which: object) -> None:
        self.death.passes(f"tool {which}")
        note(self.folder / "done", f"{context.idempotency_key} {what} {which}")
        self.death.passes(f"tool-end {which}")

    def agent(self, script: Script, **options: Any) -> Agent[str]:
        """One that may look, read, pay and send."""

        def find_payment(context: RunContext[Any], amount: int) -> str:
            """What came of a payment: its service knows it by the key."""
            if context.idempotency_key not in self.done():
                raise CallNotDone
            return f"paid {amount}"

        def find_mail(context: RunContext[Any], to: str) -> str:
            """What came of a mail."""
            if context.idempotency_key not in self.done():
                raise CallNotDone
            return f"sent to {to}"

        @tool(effect="read")
        def look(where: str) -> str:
            """Look at something."""
            self.death.passes(f"tool {where}")
            return f"the {where} is fine"

        @tool(effect="read")
        def read(page: int) -> str:
            """Read a page."""
            return f"{'much text ' * 60}\nthis was page {page}"

        @tool(effect="write", reconcile=find_payment)
        def pay(context: RunContext[Any], amount: int) -> str:
            """Pay."""
            self.do(context, "pay", amount)
            return f"paid {amount}"

        @tool(effect="egress", reconcile=find_mail)
        def send(context: RunContext[Any], to: str) -> str:
            """Send a mail."""
            self.do(context, "send", to)
            return f"sent to {to}"

        tools = [look, read, pay, send, *options.pop("tools", [])]
        return Agent(Scripted(script, self.folder, self.death), tools=tools, journal=self.journal, **options)


def alone(world: World) -> Agent[str]:
    """Looks, pays, and sends what is to be approved."""

    async def on_ask(call: PendingCall) -> bool:
        world.death.passes("approval")
        return True

    script: Script = {
        "Pay.": [ToolCall("look", {"where": "account"}, "a")],
        "the account is fine": [
            TextPart("Paying."),
            ToolCall("pay", {"amount": 3}, "b"),
            ToolCall("look", {"where": "bill"}, "c"),
        ],
        "the bill is fine": [
            ToolCall("pay", {"amount": 4}, "d"),
            ToolCall("pay", {"amount": 5}, "e"),
            ToolCall("send", {"to": "me"}, "f"),
        ],
        "sent to me": [TextPart("Paid 12.")],
    }
    return world.agent(script, policy=Policy([Rule("send", "ask")], on_ask=on_ask))


def above(world: World) -> Agent[str]:
    """Lets another agent pay, beneath its own run, and pays itself."""
    clerk = world.agent(
        {"Pay 3.": [ToolCall("pay", {"amount": 3}, "a")], "paid 3": [TextPart("It was the clerk who paid.")]},
        name="clerk",
        description="Pays.",
    )
    script: Script = {
        "Pay.": [ToolCall("clerk", {"task": "Pay 3."}, "a")],
        "It was the clerk who paid.": [ToolCall("pay", {"amount": 4}, "b")],
        "paid 4": [TextPart("Paid 7.")],
    }
    return world.agent(script, tools=[clerk.as_tool()])


def handing_over(world: World) -> Agent[str]:
    """Hands the conversation to another agent, which pays."""
    clerk = world.agent(
        {"clerk takes over.": [ToolCall("pay", {"amount": 3}, "b")], "paid 3": [TextPart("Paid 3.")]},
        name="clerk",
        description="Pays.",
    )
    script: Script = {"Hello.": [TextPart("Hello.")], "Pay.": [ToolCall("transfer_to_clerk", {}, "a")]}
    return world.agent(script, handoffs=[clerk])


def waiting(world: World) -> Agent[str]:
    """Pays itself, and lets another agent pay; both wait for a decision."""
    asks = Policy([Rule("pay", "ask")])
    clerk = world.agent(
        {"Pay 3.": [ToolCall("pay", {"amount": 3}, "a")], "paid 3": [TextPart("It was the clerk who paid.")]},
        name="clerk",
        description="Pays.",
        policy=asks,
    )
    script: Script = {
        "Pay.": [ToolCall("pay", {"amount": 4}, "a"), ToolCall("clerk", {"task": "Pay 3."}, "b")],
        "It was the clerk who paid.": [TextPart("Paid 7.")],
    }
    return world.agent(script, tools=[clerk.as_tool()], policy=asks)


def summing_up(world: World) -> Agent[str]:
    """Reads more than its context holds."""
    script: Script = {
        "Pay.": [ToolCall("read", {"page": 1}, "a")],
        "this was page 1": [ToolCall("read", {"page": 2}, "b")],
        "this was page 2": [ToolCall("read", {"page": 3}, "c")],
        "this was page 3": [ToolCall("pay", {"amount": 3}, "d")],
        "paid 3": [TextPart("Paid 3.")],
        "to sum up": [TextPart("There were pages.")],
    }
    return world.agent(script, context=ContextBudget(tokens=600, summary=True))


def refusing(world: World) -> Agent[str]:
    """Is not to do what it is asked for."""

    class Refuses(Hooks):
        async def on_message(self, context: RunContext[Any], message: Message) -> Message:
            raise StopRun("not this")

    return world.agent({}, hooks=[Refuses()])


@dataclass(frozen=True)
class Scenario:
    """What is done, and how a test knows it.

    Attributes:
        agent: makes the agent.
        effects: what is to be done, once each.
        asked: the models' turns.
        commits: of a process that nobody kills.
        runs: its runs, by id, with what each is asked for; several are one session.
    """

    agent: Callable[[World], Agent[str]]
    effects: Sequence[str]
    asked: Sequence[str]
    commits: int
    runs: Mapping[str, str] = field(default_factory=lambda: {RUN: "Pay."})


SCENARIOS: Mapping[str, Scenario] = {
    "alone": Scenario(
        alone,
        ["pay 3", "pay 4", "pay 5", "send me"],
        ["Pay.", "the account is fine", "the bill is fine", "sent to me"],
        18,
    ),
    "above": Scenario(
        above, ["pay 3", "pay 4"], ["Pay.", "Pay 3.", "It was the clerk who paid.", "paid 3", "paid 4"], 15
    ),
    "handing over": Scenario(handing_over, ["pay 3"], ["Pay.", "clerk takes over.", "paid 3"], 9),
    "waiting": Scenario(waiting, ["pay 3", "pay 4"], ["Pay.", "Pay 3.", "It was the clerk who paid.", "paid 3"], 19),
    "session": Scenario(
        handing_over,
        ["pay 3"],
        ["Hello.", "Pay.", "clerk takes over.", "paid 3"],
        12,
        {"first": "Hello.", RUN: "Pay."},
    ),
    "summing up": Scenario(
        summing_up,
        ["pay 3"],
        ["Pay.", "this was page 1", "this was page 2", "this was page 3", "paid 3", *["to sum up"] * 2],
        17,
    ),
    "refusing": Scenario(refusing, [], [], 2),
}


async def play(scenario: Scenario, world: World) -> Sequence[Message]:
    """Do the runs of a scenario, or go on with them; where one waits, a person decides. Returns what came of them."""
    agent = scenario.agent(world)
    session = "s" if len(scenario.runs) > 1 else ""

    async def run_or_resume(run_id: str, prompt: str) -> RunResult[str]:
        try:
            result = await agent.resume(run_id)
        except RunNotFoundError:
            result = await agent.run(prompt, run_id=run_id, session=session)
        while result.stop_reason == "paused":
            for call in result.pending:
                note(world.folder / "decided", call.key)
            world.death.passes("decided")
            result = await agent.resume(run_id, {call.key: True for call in result.pending})
        assert await agent.resume(run_id) == result  # a run that has ended only says so
        return result

    for run_id, prompt in scenario.runs.items():
        result = await run_or_resume(run_id, prompt)
    return [*result.messages, Message("user", f"{result.stop_reason} {result.steps} {result.usage}")]


async def go(scenario: Scenario, folder: Path, place: Place, death: Death) -> None:
    """Play a scenario in this process."""
    world = World(folder, death, place.open())
    try:
        (folder / f"said {os.getpid()}").write_text(dump_messages(await play(scenario, world)))
    except RunBusyError:
        (folder / f"said {os.getpid()}").write_text("busy")
    except LeaseLostError as error:
        (folder / f"said {os.getpid()}").write_text(f"lost {error.run_id}")
    finally:
        (folder / f"commits {os.getpid()}").write_text(str(death.commits))
        await world.journal.close()


def main(scenario: str, folder: Path, place: Place, point: str, how: signal.Signals) -> None:
    """What a process does."""
    asyncio.run(go(SCENARIOS[scenario], folder, place, Death(point, how)))
