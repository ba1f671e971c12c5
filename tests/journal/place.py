"""A place that a journal is in, and processes that use it.

As a program it is such a process: ``python -m tests.journal.place PLACE COMMAND RUN``.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentkit import Message
from agentkit.errors import LeaseLostError, RunBusyError
from agentkit.journal.base import Journal
from agentkit.journal.postgres import PostgresJournal
from agentkit.journal.records import ModelAnswered, RunStarted
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.messages import ModelResponse

KINDS: dict[str, type[Journal]] = {"SQLiteJournal": SQLiteJournal, "PostgresJournal": PostgresJournal}
ROOT = Path(__file__).parents[2]


def started(prompt: str = "go", *, session: str = "") -> RunStarted:
    """How a run begins."""
    return RunStarted((Message("user", prompt),), agent="tester", model="scripted", session=session)


def answer(text: str) -> ModelAnswered:
    """A turn of a model."""
    return ModelAnswered(ModelResponse(Message("assistant", text)))


@dataclass
class Place:
    """Where a journal is: what its constructor takes."""

    kind: str
    arguments: dict[str, Any]

    def open(self) -> Journal:
        """A new journal object that is there."""
        return KINDS[self.kind](**self.arguments)

    @contextmanager
    def process(self, command: str, run_id: str) -> Iterator[subprocess.Popen[str]]:
        """A process that runs one of the commands below. It is killed at the end of the block, if it still lives."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.journal.place", json.dumps(asdict(self)), command, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def say(process: subprocess.Popen[str], line: str) -> None:
    """Send a line to a process."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints; empty once it is gone."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


async def keep_appending(journal: Journal, run_id: str) -> None:
    """Take a run, and print the place of each record that is on record, for ever."""
    lease = await journal.acquire(run_id)
    while True:
        await journal.append(lease, answer(f"after {lease.seq}"))
        print(lease.seq, flush=True)


async def hold(journal: Journal, run_id: str) -> None:
    """Hold a run until the line "release" comes. For each other line that does, say how appending went."""
    lease = await journal.acquire(run_id)
    print("held", flush=True)
    while (await asyncio.to_thread(sys.stdin.readline)).strip() == "append":
        try:
            await journal.append(lease, answer("held"))
            print("appended", flush=True)
        except LeaseLostError:
            print("lost", flush=True)
    journal.release(lease)
    await journal.close()


async def race(journal: Journal, run_id: str) -> None:
    """For each line, try to take a run, and say whether it was taken; for the next line, give it back."""
    while sys.stdin.readline():
        try:
            lease = await journal.acquire(run_id)
        except RunBusyError:
            print("busy", flush=True)
            sys.stdin.readline()
        else:
            print("won", flush=True)
            sys.stdin.readline()
            journal.release(lease)
        await journal.runs()  # what was asked for before is done
        print("ready", flush=True)


async def leave(journal: Journal, run_id: str) -> None:
    """Write a run, and end without a word to the journal."""
    lease = await journal.begin(run_id, started())
    await journal.append(lease, answer("done"))
    print("done", flush=True)


if __name__ == "__main__":
    _, place, command, run_id = sys.argv
    commands = {"keep_appending": keep_appending, "hold": hold, "race": race, "leave": leave}
    asyncio.run(commands[command](Place(**json.loads(place)).open(), run_id))
