"""An agent that is killed at a point that was chosen: run as a program by test_kill.py.

It lives in a folder: ``journal.db``; ``asked``, a line for each time the model was asked; ``done``, a line for each
side effect: the call's idempotency key and what was done.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from agentkit import Agent, Message, RunContext, tool
from agentkit.errors import CallNotDone, RunBusyError, RunNotFoundError
from agentkit.events import ModelEvent, ModelFinished, TextDelta, ToolCallDelta, ToolCallEnd, ToolCallStart
from agentkit.journal.base import Entry, Journal, Lease, RunInfo
from agentkit.journal.records import Record, RunStarted
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.messages import TextPart, ToolCall, Usage, dump_messages
from agentkit.policy import Decision, PendingCall, Policy, Rule
from agentkit.providers.base import ModelRequest, Provider

RUN = "run"


class Death:
    """Kills this process when a point is passed for the n-th time: ``commit-before 3``, ``tool-after pay``."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.commits = 0

    def passes(self, point: str) -> None:
        if point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalJournal(Journal):
    """A journal whose process may die before or after each commit."""

    def __init__(self, journal: Journal, death: Death) -> None:
        self.journal = journal
        self.death = death

    async def begin(self, run_id: str, started: RunStarted) -> Lease:
        return await self._commit(self.journal.begin(run_id, started))

    async def append(self, lease: Lease, *records: Record) -> None:
        await self._commit(self.journal.append(lease, *records))

    async def _commit(self, work: Any) -> Any:
        self.death.commits += 1
        number = self.death.commits
        self.death.passes(f"commit-before {number}")
        result = await work
        self.death.passes(f"commit-after {number}")
        return result

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


SCRIPT: Sequence[Sequence[TextPart | ToolCall]] = [
    [ToolCall("look", {"where": "account"}, "a")],
    [TextPart("Paying."), ToolCall("pay", {"amount": 3}, "b"), ToolCall("look", {"where": "bill"}, "c")],
    [ToolCall("pay", {"amount": 4}, "d"), ToolCall("pay", {"amount": 5}, "e"), ToolCall("send", {"to": "me"}, "f")],
    [TextPart("Paid 12.")],
]


class Scripted(Provider):
    """Says what its script has for the turn that the conversation is at, and notes that it was asked."""

    name = "scripted"

    def __init__(self, folder: Path, death: Death) -> None:
        self.folder = folder
        self.death = death

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        turn = sum(message.role == "assistant" for message in request.messages)
        note(self.folder / "asked", str(turn))
        self.death.passes(f"model {turn}")
        for part in SCRIPT[turn]:
            if isinstance(part, TextPart):
                yield TextDelta(part.text)
            else:
                yield ToolCallStart(part.name, part.id)
                yield ToolCallDelta(part.id, json.dumps(part.arguments))
                yield ToolCallEnd(part)
        self.death.passes(f"model-end {turn}")
        yield ModelFinished(usage=Usage(10, 5))


def note(path: Path, line: str) -> None:
    """A line on the disk."""
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def done(folder: Path) -> dict[str, str]:
    """What was done, by the call's key. That nothing was done twice, the caller looks at the lines for."""
    lines = (folder / "done").read_text().splitlines() if (folder / "done").exists() else []
    return dict(line.split(" ", 1) for line in lines)


def agent(folder: Path, death: Death) -> Agent[str]:
    def find(context: RunContext[Any], amount: int) -> str:
        """What came of a payment: its service knows it by the key."""
        if context.idempotency_key not in done(folder):
            raise CallNotDone
        return f"paid {amount}"

    def find_sent(context: RunContext[Any], to: str) -> str:
        """What came of a mail."""
        if context.idempotency_key not in done(folder):
            raise CallNotDone
        return f"sent to {to}"

    @tool(effect="read")
    def look(where: str) -> str:
        """Look at something."""
        death.passes(f"tool {where}")
        return f"the {where} is fine"

    @tool(effect="write", reconcile=find)
    def pay(context: RunContext[Any], amount: int) -> str:
        """Pay."""
        death.passes(f"tool {amount}")
        note(folder / "done", f"{context.idempotency_key} pay {amount}")
        death.passes(f"tool-end {amount}")
        return f"paid {amount}"

    @tool(effect="egress", reconcile=find_sent)
    def send(context: RunContext[Any], to: str) -> str:
        """Send a mail."""
        death.passes(f"tool {to}")
        note(folder / "done", f"{context.idempotency_key} send {to}")
        death.passes(f"tool-end {to}")
        return f"sent to {to}"

    async def on_ask(call: PendingCall) -> Decision:
        death.passes("approval")
        return Decision(True)

    return Agent(
        Scripted(folder, death),
        tools=[look, pay, send],
        policy=Policy([Rule("send", "ask")], on_ask=on_ask),
        journal=MortalJournal(SQLiteJournal(folder / "journal.db"), death),
    )


async def main(mode: str, folder: Path, point: str) -> None:
    made = agent(folder, Death(point))
    try:
        if mode == "run":
            result = await made.run("Pay.", run_id=RUN)
        else:
            result = await made.resume(RUN)
    except RunNotFoundError:  # it died before the run was on record
        result = await made.run("Pay.", run_id=RUN)
    except RunBusyError:
        print("busy")
        return
    finally:
        await made.journal.close()
    print(dump_messages([*result.messages, Message("user", f"{result.stop_reason} {result.steps} {result.usage}")]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
