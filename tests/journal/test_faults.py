"""The journal fails in the middle of a run: the error is typed, nothing is lost, and the run goes on."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Message
from agentkit.errors import JournalCorruptError, JournalUnavailableError, ProviderConnectionError
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.testing import ScriptedProvider, Step
from tests.journal.killed import SCENARIOS, Death, World, play
from tests.journal.place import ROOT


@pytest.mark.parametrize("fault", ["full", "locked"])
def test_a_run_goes_on_when_the_fault_is_gone(tmp_path: Path, fault: str) -> None:
    command = [sys.executable, "-m", "tests.journal.faulty", fault, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Fault(Death):
    """The journal or the model fails, the n-th times that one of these points is passed."""

    def __init__(self, times: Set[int]) -> None:
        super().__init__("", signal.SIGKILL)
        self.times = times
        self.passed = 0

    def passes(self, point: str) -> None:
        if point.startswith(("commit", "model", "decided")):  # what fails elsewhere, fails for the model
            self.passed += 1
            if self.passed in self.times:
                raise JournalUnavailableError(f"no room at {point}")


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "refusing"])
@given(times=st.sets(st.integers(1, 60), max_size=12))
def test_whenever_it_fails_a_run_comes_to_the_same(name: str, times: set[int]) -> None:
    async def play_on(fault: Fault, folder: Path, journal: MemoryJournal) -> Sequence[Message]:
        while True:
            try:
                return await play(SCENARIOS[name], World(folder, fault, journal))
            except JournalUnavailableError:
                pass

    with TemporaryDirectory() as folder, TemporaryDirectory() as other:
        whole = asyncio.run(play_on(Fault(set()), Path(other), MemoryJournal()))
        assert asyncio.run(play_on(Fault(times), Path(folder), MemoryJournal())) == whole
        done = (Path(folder) / "done").read_text().splitlines()
        assert sorted(line.split(" ", 1)[1] for line in done) == sorted(SCENARIOS[name].effects)


def agent(path: Path, *steps: Step) -> Agent[str]:
    return Agent(ScriptedProvider(steps), journal=SQLiteJournal(path))


def test_a_run_goes_on_from_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def check() -> None:
        first = agent(path, ProviderConnectionError("gone"))
        with pytest.raises(ProviderConnectionError):
            await first.run("Hello?", run_id="r")
        await first.journal.close()
        shutil.copy(path, tmp_path / "backup")
        path.write_bytes(b"no database " * 1000)
        second = agent(path)
        with pytest.raises(JournalCorruptError) as caught:
            await second.resume("r")
        assert caught.value.run_id == "r"
        await second.journal.close()
        shutil.copy(tmp_path / "backup", path)
        assert (await agent(path, "Hello!").resume("r")).output == "Hello!"

    asyncio.run(check())


async def test_a_journal_that_is_closed_under_a_run(tmp_path: Path) -> None:
    made = agent(tmp_path / "runs.db", "Hello!")
    async for _ in made.stream("Hello?", run_id="r"):
        await made.journal.close()
        break
    with pytest.raises(JournalUnavailableError, match="closed") as caught:
        async for event in made.stream("Hello?", run_id="s"):
            raise AssertionError(event)
    assert caught.value.run_id == "s"
    assert (await agent(tmp_path / "runs.db", "Hello!").resume("r")).output == "Hello!"
