"""Runs that go on in another process."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_approve import plays
from tests.postgres import BINARIES, postgres

if TYPE_CHECKING:
    from tests.cli.conftest import Command, Terminal

COUNT = """
    @tool
    def count() -> str:
        "Count."
        with open("count.txt", "a") as file:
            file.write("x")
        return f"{os.path.getsize('count.txt')} in {os.getcwd()}"

    @tool(effect="write")
    def die() -> str:
        "Never comes back."
        with open("count.txt", "a") as file:
            file.write("x")
        os.kill(os.getpid(), 9)

"""
PLAYED_ON = 'SCRIPTS = {"m": [lambda request: f"It said: {request.messages[-1].results[-1].content}"]}'
ASKED = "Make it [a]gain, tell the model that nobody [k]nows, or [s]ay what came of it: "


def counted(command: Command) -> int:
    path = command.folder / "count.txt"
    return len(path.read_text()) if path.exists() else 0


def run_id(command: Command) -> str:
    return command("runs").stdout.split("\t")[0]


def state(command: Command) -> str:
    return command("runs").stdout.split("\t")[2]


@pytest.fixture
def killed(agentkit: Command) -> Command:
    """A run that was killed in the middle of a call."""
    agentkit.install_model(COUNT + '    SCRIPTS = {"m": [ToolCall("die", {})]}', die="die", count="count")
    died = agentkit("run", "Go.", "-m", "scripted:m", "-t", "die")
    assert died.returncode == -signal.SIGKILL
    assert (counted(agentkit), state(agentkit)) == (1, "interrupted")
    plays(agentkit, PLAYED_ON)
    return agentkit


def at_question(command: Command) -> Terminal:
    terminal = command.at_terminal("resume")
    shown = terminal.until(ASKED)
    assert "? die was interrupted" in shown
    assert "nobody knows whether it took effect" in shown
    return terminal


def test_an_interrupted_call_is_left_unknown(killed: Command) -> None:
    terminal = at_question(killed)
    terminal.type("k\n")
    code, shown = terminal.end()
    assert (code, counted(killed)) == (0, 1)
    assert "It said: 'die' was interrupted, and its outcome is unknown" in shown


def test_somebody_says_what_came_of_an_interrupted_call(killed: Command) -> None:
    terminal = at_question(killed)
    terminal.type("s\n")
    terminal.until("What came of it, for the model to read: ")
    terminal.type("It was written.\n")
    code, shown = terminal.end()
    assert (code, counted(killed)) == (0, 1)
    assert "It said: It was written." in shown
    assert "the result 'It was written.' for" in killed("trace").stdout


def test_an_interrupted_call_is_made_again_only_by_a_decision(killed: Command) -> None:
    done = killed("resume", "--yes")
    assert (done.returncode, counted(killed)) == (4, 1)
    key = re.search(r"--allow (\w+)", done.stderr)
    assert key
    assert killed("resume", "--allow", key[1]).returncode == -signal.SIGKILL
    assert counted(killed) == 2


def test_a_run_that_failed_goes_on_where_it_was(agentkit: Command) -> None:
    agentkit.install_model(
        COUNT + '    SCRIPTS = {"m": [ToolCall("count", {}), ProviderConnectionError("the line is dead")]}',
        count="count",
    )
    options = ["-t", "count", "--temperature", "0.25", "--instructions", "Be brief."]
    failed = agentkit("run", "Go.", "-m", "scripted:m", *options)
    assert failed.returncode == 1
    how = failed.stderr.splitlines()[-1]
    assert re.fullmatch(r"to go on: agentkit resume \w{8}", how)
    plays(
        agentkit,
        """SCRIPTS = {"m": [lambda request: f"{request.messages[0].text} {request.settings.temperature} "
                      f"{[tool.name for tool in request.tools]} {request.messages[-1].results[0].content}"]}""",
    )
    elsewhere = agentkit.folder / "elsewhere"
    elsewhere.mkdir()
    here, agentkit.folder = agentkit.folder, elsewhere
    done = agentkit(*how.split()[4:])
    assert done.stdout == f"Be brief. 0.25 ['count'] 1 in {here}\n"
    assert done.stderr.startswith(f"in {here}\n")
    assert not (elsewhere / "count.txt").exists()
    again = agentkit("resume", run_id(agentkit))  # it has ended: its answer is on record
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_ctrl_c_leaves_a_run_that_goes_on(agentkit: Command) -> None:
    agentkit.install_model("""
    class Hanging(Provider):
        name = "scripted:hanging"

        async def stream(self, request):
            print("it hangs", file=sys.stderr, flush=True)
            await asyncio.Event().wait()
            yield ModelFinished()

    SCRIPTS = {"m": Hanging}
    """)
    terminal = agentkit.at_terminal("run", "Go.", "-m", "scripted:m")
    terminal.until("it hangs")
    assert state(agentkit) == "running"
    busy = agentkit("resume", run_id(agentkit))
    assert busy.returncode == 1
    assert f":{terminal.process.pid}" in busy.stderr
    terminal.process.send_signal(signal.SIGINT)
    code, shown = terminal.end()
    assert (code, state(agentkit)) == (130, "interrupted")
    assert f"interrupted; to go on: agentkit resume {run_id(agentkit)[:8]}" in shown
    plays(agentkit, 'SCRIPTS = {"m": ["Here I am."]}')
    assert agentkit("resume").stdout == "Here I am.\n"
    nothing = agentkit("resume")
    assert (nothing.returncode, nothing.stderr) == (
        1,
        "error: No run waits to go on: `agentkit runs` lists them all\n",
    )


def test_a_limit_is_raised(agentkit: Command) -> None:
    agentkit.install_model(COUNT + '    SCRIPTS = {"m": [ToolCall("count", {})]}', count="count")
    stopped = agentkit("run", "Go.", "-m", "scripted:m", "-t", "count", "--max-steps", "1")
    assert stopped.returncode == 3
    assert stopped.stderr.splitlines()[-1] == f"to go on: agentkit resume {run_id(agentkit)[:8]} --max-steps N"
    plays(agentkit, PLAYED_ON)
    assert agentkit("resume", run_id(agentkit)[:8]).returncode == 3
    done = agentkit("resume", run_id(agentkit)[:8], "--max-steps", "5")
    assert done.returncode == 0
    assert done.stdout.startswith("It said: 1 in ")


def test_a_run_of_somebody_elses_program(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": ["never"]}')
    agentkit.env["AGENTKIT_JOURNAL"] = str(agentkit.folder / "runs.db")
    program = """
import sys
from agentkit import Agent
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.testing import ScriptedProvider
Agent(ScriptedProvider(["done"]), journal=SQLiteJournal(sys.argv[1])).run_sync("Go.", run_id="mine")
"""
    agentkit.program(program, agentkit.env["AGENTKIT_JOURNAL"])
    done = agentkit("resume", "mine")
    assert done.returncode == 1
    assert done.stderr == (
        "error: The run 'mine' was not begun by `agentkit run` but by a program of its own: resume it there, with "
        "Agent.resume\n"
    )


def test_the_folder_is_gone(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": [ProviderConnectionError("dead")]}')
    here = agentkit.folder
    agentkit.folder = here / "gone"
    agentkit.folder.mkdir()
    agentkit("run", "Go.", "-m", "scripted:m")
    agentkit.folder.rmdir()
    agentkit.folder = here
    done = agentkit("resume")
    assert done.returncode == 1
    assert f"The run was begun in {here / 'gone'}" in done.stderr


def test_conversations(agentkit: Command) -> None:
    agentkit.install_model(
        'SCRIPTS = {"m": [lambda request: " / ".join(message.text for message in request.messages)]}'
    )
    for task in ("one", "two"):
        done = agentkit("run", task, "-m", "scripted:m", "--session", "talk")
    assert done.stdout == "one / one / two\n"
    assert agentkit("run", "x", "-m", "scripted:m", "--session", "talk", "--no-journal").returncode == 2


def test_where_the_journal_is(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": ["Hello."]}')
    agentkit("run", "x", "-m", "scripted:m")
    agentkit.env["XDG_STATE_HOME"] = str(agentkit.folder / "xdg")
    agentkit("run", "x", "-m", "scripted:m")
    agentkit.env["AGENTKIT_JOURNAL"] = "~/mine.db"
    agentkit("run", "x", "-m", "scripted:m")
    agentkit("run", "x", "-m", "scripted:m", "--no-journal")
    found = {str(path.relative_to(agentkit.folder)) for path in agentkit.folder.rglob("*.db")}
    default = "Library/Application Support" if os.uname().sysname == "Darwin" else ".local/state"
    assert found == {f"{default}/agentkit/journal.db", "xdg/agentkit/journal.db", "mine.db"}
    with sqlite3.connect(Path(agentkit.folder / "mine.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    database.close()


def test_a_journal_that_cannot_be_used(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": ["Hello."]}')
    (agentkit.folder / "file").write_text("in the way")
    agentkit.env["AGENTKIT_JOURNAL"] = str(agentkit.folder / "file")
    done = agentkit("run", "x", "-m", "scripted:m")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "to do without a journal: agentkit run --no-journal"
    assert (agentkit.folder / "file").read_text() == "in the way"
    assert agentkit("run", "x", "-m", "scripted:m", "--no-journal").stdout == "Hello.\n"


@pytest.mark.skipif(BINARIES is None, reason="needs Debian's PostgreSQL")
def test_a_journal_in_postgresql(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": ["Hello."]}')
    with postgres() as server:
        agentkit.env["AGENTKIT_JOURNAL"] = f"postgresql://agentkit@/postgres?host={server.folder}"
        agentkit("run", "x", "-m", "scripted:m")
        assert state(agentkit) == "answer"
    done = agentkit("runs")
    assert done.returncode == 1
    assert done.stderr.startswith("error: The journal in schema 'agentkit' of database 'postgres'")
