"""Outputs that were cut, and are read on."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Limits, Message, RunContext, Tool, ToolCall, ToolResult, tool
from agentkit.errors import DuplicateToolError, ProviderConnectionError, ToolError
from agentkit.journal.memory import MemoryJournal
from agentkit.messages import TextPart
from agentkit.outputs import MAX_PART, Outputs, output_name, read_output
from agentkit.testing import ScriptedProvider, Step
from agentkit.tool_output import cut
from agentkit.window import ContextBudget


def read(outputs: Outputs, call: str, start: int = 0, length: int = 4000, find: str = "") -> str:
    return outputs.read(call, start, length, find).text


def kept(text: str, limit: int = 50_000) -> Outputs:
    outputs = Outputs(limit)
    outputs.keep("2-1", text, untrusted=False)
    return outputs


@given(st.text(), st.integers(1, 50))
def test_cut_shows_the_ends(text: str, limit: int) -> None:
    shown = cut(text, limit, "2-1")
    if len(text) <= limit:
        assert shown == text
    else:
        head, notice, tail = shown.partition("\n[… ")
        assert notice
        assert text.startswith(head)
        assert len(head) == limit * 2 // 3
        assert f"start={len(head)})" in tail
        assert shown.endswith(" …]\n" + text[len(text) - (limit - len(head)) :])


@given(st.text(max_size=300), st.integers(1, 400), st.integers(201, 500))
def test_all_of_an_output_can_be_read_in_parts(text: str, length: int, limit: int) -> None:
    outputs, seen = kept(text, limit), ""
    while len(seen) < len(text):
        part = read(outputs, "2-1", len(seen), length)
        assert len(part) <= limit
        seen += part.partition("\n")[2]
    assert seen == text


def test_a_part_says_where_it_is() -> None:
    assert read(kept("abcdef"), "2-1", 2, 3) == "[characters 2 to 5 of 6]\ncde"


@pytest.mark.parametrize(("start", "length"), [(-5, -5), (99, 4), (0, 10**9)])
def test_numbers_that_make_no_sense(start: int, length: int) -> None:
    assert len(read(kept("abc" * 10_000), "2-1", start, length)) < MAX_PART + 100


def test_a_text_is_found() -> None:
    log = "".join(f"line {n}: {'Error' if n % 300 == 299 else 'fine'}\n" for n in range(3000))
    first = log.index("Error")
    part = read(kept(log), "2-1", find="ERROR", length=300)
    assert part.startswith(f"[characters {first - 200} to {first + 100} of {len(log)}; found at {first}, ")
    assert part.splitlines()[0].endswith(" …]")  # there are ten
    assert "line 299: Error\n" in part
    second = log.index("Error", first + 1)
    assert f"found at {second}," in read(kept(log), "2-1", start=first + 1, find="error")
    last = log.rindex("Error")
    assert f"found at {last}]" in read(kept(log), "2-1", start=last, find="error")


@given(st.text(min_size=1, max_size=5), st.text(max_size=200), st.integers(0, 200))
def test_whatever_is_looked_for_is_found_or_said_to_be_missing(find: str, text: str, start: int) -> None:
    whole = text + find
    start = min(start, len(text))
    assert find in read(kept(whole), "2-1", start, len(whole) + 200, find).partition("\n")[2]
    with pytest.raises(ToolError, match="does not occur in the result 2-1"):
        read(kept(whole), "2-1", len(whole), find=find)


def test_unknown_outputs() -> None:
    with pytest.raises(ToolError, match=r"There is no result '9-1'. Those that can be read: none"):
        read(Outputs(100), "9-1")
    outputs = kept("a")
    outputs.keep("4-2", "b", untrusted=False)
    with pytest.raises(ToolError, match="can be read: 2-1 to 4-2"):
        read(outputs, "9-1")


def test_what_is_read_is_as_trusted_as_its_source() -> None:
    outputs = kept("mine")
    outputs.keep("4-1", "a stranger's", untrusted=True)
    assert not outputs.read("2-1", 0, 10, "").untrusted
    assert outputs.read("4-1", 0, 10, "").untrusted
    assert outputs.read("4-1", 0, 10, "stranger").untrusted


def test_the_oldest_are_dropped_where_there_is_too_much() -> None:
    size = sys.getsizeof("x" * 1000)
    outputs = Outputs(100, most=3 * size)
    for place in range(5):
        outputs.keep(output_name(place, 0), str(place) * 1000, untrusted=False)
    outputs.keep(output_name(4, 0), "n" * 1000, untrusted=False)  # the same once more takes no more
    assert [read(outputs, f"{place}-1")[-1] for place in (2, 3, 4)] == ["2", "3", "n"]
    with pytest.raises(ToolError, match=r"2-1 to 4-1\. The oldest are dropped beyond 0 MiB"):
        read(outputs, "1-1")
    outputs.keep("9-1", "x" * 4000, untrusted=False)  # too much alone
    with pytest.raises(ToolError, match="can be read: none"):
        read(outputs, "9-1")


def test_results_of_earlier_runs() -> None:
    outputs = Outputs(100)
    outputs.keep_results(
        [
            Message("user", "Hi"),
            Message("tool", [ToolResult("a", "look", "x"), ToolResult("b", "look", "y", None, (), True)]),
        ]
    )
    assert outputs.read("1-2", 0, 9, "") == TextPart("[characters 0 to 1 of 1]\ny", untrusted=True)


# ── in a run ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LOG = "".join(f"{n}: {'ERROR' if n == 777 else 'fine'}\n" for n in range(2_000))


@tool(effect="read", untrusted=True)
def fetch_log() -> str:
    """Fetch the log."""
    return LOG


def agent(*steps: Step, **options: Any) -> Agent:
    return Agent(
        ScriptedProvider(steps), tools=[fetch_log], context=ContextBudget(), limits=Limits(tool_output=1_000), **options
    )


def test_the_model_reads_on_in_what_was_cut() -> None:
    calls = [ToolCall("fetch_log", {}), ToolCall("read_output", {"call": "2-1", "find": "error", "length": 300})]
    reader = agent(*calls, "It is line 777.")
    result = reader.run_sync("Which line is the error?")
    cut_log, part = (message.results[0] for message in result.messages if message.role == "tool")
    assert "read_output(call='2-1', start=666)" in cut_log.content
    assert "777: ERROR\n" not in cut_log.content
    assert "777: ERROR\n" in part.content
    assert part.untrusted
    assert isinstance(reader.provider, ScriptedProvider)
    offered = [[tool.name for tool in request.tools] for request in reader.provider.requests]
    assert offered == [["fetch_log", "read_output"]] * 3


def test_a_run_that_is_resumed_reads_on_too() -> None:
    journal = MemoryJournal()
    down = ProviderConnectionError("down")
    with pytest.raises(ProviderConnectionError) as caught:
        agent(ToolCall("fetch_log", {}), down, journal=journal).run_sync("Which line is the error?")
    find = ToolCall("read_output", {"call": "2-1", "find": "error"})
    result = agent(find, "777", journal=journal).resume_sync(caught.value.run_id)
    assert "777: ERROR\n" in result.messages[-2].results[0].content


def test_a_run_reads_on_in_its_history() -> None:
    first = agent(ToolCall("fetch_log", {}), "There is one.").run_sync("Is there an error?")
    find = ToolCall("read_output", {"call": "2-1", "start": 0, "length": 5})
    second = agent(find, "fine").run_sync("How does it begin?", history=first.messages)
    assert second.messages[-2].results[0].content.endswith("]\n0: fi")


def test_a_tool_of_the_same_name() -> None:
    with pytest.raises(DuplicateToolError, match="read_output"):
        Agent(ScriptedProvider([]), tools=[Tool.from_schema("read_output", "", {})], context=ContextBudget())


def test_without_tools_there_is_nothing_to_read() -> None:
    assert not Agent(ScriptedProvider([]), context=ContextBudget()).tools


def test_outside_a_run_there_is_nothing_to_read() -> None:
    with pytest.raises(ToolError, match="here is none"):
        read_output(RunContext(None, "", 1, ToolCall("read_output", {})), "2-1")
