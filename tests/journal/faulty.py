"""An agent whose journal fails in the middle of a run: run as a program by test_faults.py.

``python -m tests.journal.faulty FAULT FOLDER``. It fails unless the run ends with a typed error, and goes on to what it
would have come to once the fault is gone.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from agentkit import Agent, RunContext, ToolCall, tool
from agentkit.errors import CallNotDone, JournalUnavailableError
from agentkit.journal.base import Journal
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.messages import Message
from agentkit.testing import ScriptedProvider


class Full:
    """No file may grow."""

    def __init__(self, folder: Path) -> None:
        self.hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def begin(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, self.hard))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.hard, self.hard))


class Locked:
    """Somebody else is writing, for ever."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs.db"

    def begin(self) -> None:
        self.other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.other.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self.other.close()


def make_agent(journal: Journal, done: list[str], fail: Callable[[], object]) -> Agent[str]:
    def find(context: RunContext[None], amount: int) -> str:
        """What came of a payment."""
        if context.idempotency_key not in done:
            raise CallNotDone
        return f"paid {amount}"

    @tool(effect="write", reconcile=find)
    def pay(context: RunContext[None], amount: int) -> str:
        """Pay."""
        done.append(context.idempotency_key)
        fail()
        return f"paid {amount}"

    model = ScriptedProvider([[ToolCall("pay", {"amount": 3}, "a"), ToolCall("pay", {"amount": 4}, "b")], "Paid 7."])
    return Agent(model, tools=[pay], journal=journal)


async def check(fault: Full | Locked, folder: Path) -> None:
    whole = await make_agent(MemoryJournal(), [], lambda: None).run("Pay.", run_id="r")
    done: list[str] = []
    begun: list[None] = []

    def fail() -> None:
        if not begun:
            begun.append(None)
            fault.begin()

    journal = SQLiteJournal(folder / "runs.db", busy_timeout=0.1)
    agent = make_agent(journal, done, fail)
    for attempt in (agent.run("Pay.", run_id="r"), agent.resume("r")):
        try:
            await attempt
        except JournalUnavailableError as error:
            assert error.run_id == "r", error
            assert error.messages in ((), (Message("user", "Pay."),)), error.messages
        else:
            raise AssertionError("it did not fail")
    fault.end()
    assert await agent.resume("r") == whole
    assert len(done) == len(set(done)) == 2, done
    await journal.close()


if __name__ == "__main__":
    faults = {"full": Full, "locked": Locked}
    folder = Path(sys.argv[2])
    asyncio.run(check(faults[sys.argv[1]](folder), folder))
