"""What is on record: listed, told, exported, forgotten."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Command

ADD = """
    @tool(effect="read")
    def add(a: int, b: int) -> int:
        "Add two numbers."
        return a + b

    @tool(effect="read")
    def long() -> str:
        return "x" * 10_000 + "THE END"

"""

FAMILY = """
import sys
from agentkit import Agent
from agentkit.journal.sqlite import SQLiteJournal
from agentkit.messages import ToolCall
from agentkit.testing import ScriptedProvider
child = Agent(ScriptedProvider(["It is 3."]), name="adder", description="Adds.")
call = ToolCall("adder", {"task": "1 + 2?"})
parent = Agent(ScriptedProvider([call, "Three."]), tools=[child.as_tool()], journal=SQLiteJournal(sys.argv[1]))
parent.run_sync("Add.", run_id="parent")
"""


@pytest.fixture
def sums(agentkit: Command) -> Command:
    agentkit.install_model(
        ADD + '    SCRIPTS = {"m": [[TextPart("I add."), ToolCall("add", {"a": 1, "b": 2})], "It is 3."]}',
        add="add",
        long="long",
    )
    assert agentkit("run", "1 + 2?", "-m", "scripted:m", "-t", "add").returncode == 0
    return agentkit


@pytest.fixture
def family(agentkit: Command) -> Command:
    agentkit.env["AGENTKIT_JOURNAL"] = str(agentkit.folder / "runs.db")
    agentkit.program(FAMILY, agentkit.env["AGENTKIT_JOURNAL"])
    return agentkit


def rows(command: Command, *options: str) -> list[list[str]]:
    return [line.split("\t") for line in command("runs", *options).stdout.splitlines()]


def ids(command: Command) -> list[str]:
    return [row[0] for row in rows(command)]


def test_runs_are_listed_the_newest_first(sums: Command) -> None:
    assert sums("run", "x\n[b]y", "-m", "scripted:m", "-t", "add", "--max-steps", "1", "--session", "s").returncode == 3
    newest, oldest = rows(sums)
    assert re.fullmatch(r"[0-9a-f]{32}", newest[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", newest[1])
    assert newest[2:] == ["steps", "scripted:test", "s", "x [b]y"]
    assert oldest[2:] == ["answer", "scripted:test", "-", "1 + 2?"]
    assert rows(sums, "--session", "s") == [newest]
    assert rows(sums, "--limit", "1") == [newest]


def test_no_run_is_on_record(agentkit: Command) -> None:
    assert (agentkit("runs").stdout, agentkit("trace").returncode) == ("", 1)


def test_a_run_is_told(sums: Command) -> None:
    told = sums("trace", ids(sums)[0][:8])
    assert told.returncode == 0
    lines = [re.sub(r"^\d\d:\d\d:\d\d\.\d|\d+\.\d s", "T", line) for line in told.stdout.splitlines()]
    date = lines[1].split()[2]
    assert lines == [
        f"run {ids(sums)[0]}",
        f"T  begun     {date} · scripted:test",
        "                      tools: add",
        "                      user: 1 + 2?",
        "T  model     T, 1 + 1 tokens",
        "                      I add.",
        "                      → add(a=1, b=2)",
        "T  allow     by default: add(a=1, b=2)",
        "T  started   add(a=1, b=2)",
        "T  finished  add in T: 3",
        "T  model     T, 1 + 1 tokens",
        "                      It is 3.",
        "T  ended     answer",
        "2 steps · 2 + 2 tokens",
    ]
    assert sums("trace").stdout == told.stdout


def test_records_as_jsonl(sums: Command) -> None:
    records = [json.loads(line) for line in sums("trace", "--json").stdout.splitlines()]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    kinds = [record["record"]["kind"] for record in records]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    assert {"model_answered", "call_decided", "call_started", "call_finished"} <= set(kinds)


def test_a_long_result_is_cut_unless_all_is_wanted(agentkit: Command) -> None:
    agentkit.install_model(ADD + '    SCRIPTS = {"m": [ToolCall("long", {}), "done"]}', long="long")
    agentkit("run", "x", "-m", "scripted:m", "-t", "long")
    assert "more characters" in agentkit("trace").stdout
    assert "xTHE END\n" in agentkit("trace", "--full").stdout


def test_what_strangers_wrote_cannot_steer_the_terminal(agentkit: Command) -> None:
    agentkit.install_model(r'SCRIPTS = {"m": ["\x1b[2Jgone\x07"]}')
    agentkit("run", "\x1b]0;title", "-m", "scripted:m", "--instructions", "\x1b[1m")
    for shown in (agentkit("trace").stdout, agentkit("trace", "--full").stdout, agentkit("runs").stdout):
        assert "\x1b" not in shown
        assert "\x07" not in shown


def test_runs_beneath_are_told_where_they_were_called(family: Command) -> None:
    lines = family("trace", "parent").stdout.splitlines()
    child = next(line.split()[1] for line in lines if line.startswith("  run "))
    place = lines.index(f"  run {child}")
    assert "started   adder(" in lines[place - 1]
    assert "  1 step · 1 + 1 tokens" in lines
    assert lines[-1] == "2 steps · 3 + 3 tokens"
    assert ids(family) == ["parent"]
    assert {json.loads(line)["run_id"] for line in family("trace", "--json").stdout.splitlines()} == {"parent", child}
    inner = family("resume", child)
    assert (inner.returncode, "was begun by a call in 'parent'" in inner.stderr) == (1, True)


def test_a_beginning_that_several_runs_share(agentkit: Command) -> None:
    agentkit.env["AGENTKIT_JOURNAL"] = str(agentkit.folder / "runs.db")
    for run_id in ("one", "ones"):
        agentkit.program(FAMILY.replace('"parent"', repr(run_id)), agentkit.env["AGENTKIT_JOURNAL"])
    assert agentkit("trace", "one").stdout.startswith("run one\n")  # it is one's whole id
    both = agentkit("trace", "on")
    assert (both.returncode, both.stderr) == (1, "error: 2 runs have ids that begin with 'on': ones, one\n")
    none = agentkit("trace", "two")
    assert (none.returncode, none.stderr) == (1, "error: No run has the id 'two': `agentkit runs` lists them\n")


def test_a_run_is_forgotten_with_those_beneath(family: Command) -> None:
    kept = family("runs", "rm", "parent", "--yes")
    assert kept.returncode == 0
    assert ids(family) == []
    assert family("runs", "rm", "parent", "--yes").returncode == 1


def test_forgetting_is_asked_for(sums: Command) -> None:
    assert sums("runs", "rm", ids(sums)[0][:8], "--yes", "nope").returncode == 1
    terminal = sums.at_terminal("runs", "rm", ids(sums)[0][:8])
    terminal.until("Forget them?")
    terminal.type("n\n")
    assert terminal.end()[0] == 1
    assert len(ids(sums)) == 1


def test_a_run_that_a_session_goes_on_after_is_kept(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": ["Hello."]}')
    for task in ("one", "two"):
        agentkit("run", task, "-m", "scripted:m", "--session", "talk")
    newest, oldest = ids(agentkit)
    refused = agentkit("runs", "rm", oldest, "--yes")
    assert (refused.returncode, len(ids(agentkit))) == (1, 2)
    assert f"name its later runs as well ({newest[:8]})" in refused.stderr
    assert agentkit("runs", "rm", oldest, newest, "--yes").returncode == 0
    assert ids(agentkit) == []


def test_training_data(sums: Command) -> None:
    [line] = sums("export", ids(sums)[0][:8]).stdout.splitlines()
    assert [message["role"] for message in json.loads(line)["messages"]] == ["user", "assistant", "tool", "assistant"]
    line = sums("export", ids(sums)[0], "--form", "sharegpt").stdout
    assert [turn["from"] for turn in json.loads(line)["conversations"]] == [
        "human",
        "function_call",
        "observation",
        "gpt",
    ]
    assert sums("export").returncode == 2
    assert sums("export", "--session", "none").returncode == 1


def test_a_whole_session_is_one_line(agentkit: Command) -> None:
    agentkit.install_model('SCRIPTS = {"m": ["Hello."]}')
    for task in ("one", "two"):
        agentkit("run", task, "-m", "scripted:m", "--session", "talk")
    [line] = agentkit("export", "--session", "talk").stdout.splitlines()
    assert [message["content"] for message in json.loads(line)["messages"]] == ["one", "Hello.", "two", "Hello."]


def test_a_trace_loads_no_provider(sums: Command) -> None:
    sums.program("""
import sys
from agentkit.cli import main
sys.argv = ["agentkit", "trace"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = {"openai", "llama_cpp", "numpy", "litellm", "agentkit.providers.llama_cpp", "scripted"} & set(sys.modules)
assert not loaded, loaded
""")
