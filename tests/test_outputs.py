"""Outputs that were cut, and are read on."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Message, ToolResult
from agentkit.errors import ToolError
from agentkit.messages import TextPart
from agentkit.outputs import MAX_PART, Outputs, cut, output_name


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
    outputs, read = kept(text, limit), ""
    while len(read) < len(text):
        part = outputs.read_output("2-1", len(read), length).text
        assert len(part) <= limit
        read += part.partition("\n")[2]
    assert read == text


def test_a_part_says_where_it_is() -> None:
    assert kept("abcdef").read_output("2-1", 2, 3).text == "[characters 2 to 5 of 6]\ncde"


@pytest.mark.parametrize(("start", "length"), [(-5, -5), (99, 4), (0, 10**9)])
def test_numbers_that_make_no_sense(start: int, length: int) -> None:
    assert len(kept("abc" * 10_000).read_output("2-1", start, length).text) < MAX_PART + 100


def test_a_text_is_found() -> None:
    log = "".join(f"line {n}: {'Error' if n % 300 == 299 else 'fine'}\n" for n in range(3000))
    first = log.index("Error")
    part = kept(log).read_output("2-1", find="ERROR", length=300).text
    assert part.startswith(f"[characters {first - 200} to {first + 100} of {len(log)}; found at {first}, ")
    assert part.splitlines()[0].endswith(" …]")  # there are ten
    assert "line 299: Error\n" in part
    second = log.index("Error", first + 1)
    assert f"found at {second}," in kept(log).read_output("2-1", start=first + 1, find="error").text
    last = log.rindex("Error")
    assert f"found at {last}]" in kept(log).read_output("2-1", start=last, find="error").text


@given(st.text(min_size=1, max_size=5), st.text(max_size=200), st.integers(0, 200))
def test_whatever_is_looked_for_is_found_or_said_to_be_missing(find: str, text: str, start: int) -> None:
    whole = text + find
    start = min(start, len(text))
    assert find in kept(whole).read_output("2-1", start, len(whole) + 200, find).text.partition("\n")[2]
    with pytest.raises(ToolError, match="does not occur in the result 2-1"):
        kept(whole).read_output("2-1", len(whole), find=find)


def test_unknown_outputs() -> None:
    with pytest.raises(ToolError, match=r"There is no result '9-1'. Those that can be read: none"):
        Outputs(100).read_output("9-1")
    outputs = kept("a")
    outputs.keep("4-2", "b", untrusted=False)
    with pytest.raises(ToolError, match="can be read: 2-1 to 4-2"):
        outputs.read_output("9-1")


def test_what_is_read_is_as_trusted_as_its_source() -> None:
    outputs = kept("mine")
    outputs.keep("4-1", "a stranger's", untrusted=True)
    assert not outputs.read_output("2-1").untrusted
    assert outputs.read_output("4-1").untrusted
    assert outputs.read_output("4-1", find="stranger").untrusted


def test_the_oldest_are_dropped_where_there_is_too_much() -> None:
    size = sys.getsizeof("x" * 1000)
    outputs = Outputs(100, most=3 * size)
    for place in range(5):
        outputs.keep(output_name(place, 0), str(place) * 1000, untrusted=False)
    outputs.keep(output_name(4, 0), "n" * 1000, untrusted=False)  # the same once more takes no more
    assert [outputs.read_output(f"{place}-1").text[-1] for place in (2, 3, 4)] == ["2", "3", "n"]
    with pytest.raises(ToolError, match=r"2-1 to 4-1\. The oldest are dropped beyond 0 MiB"):
        outputs.read_output("1-1")
    outputs.keep("9-1", "x" * 4000, untrusted=False)  # too much alone
    with pytest.raises(ToolError, match="can be read: none"):
        outputs.read_output("9-1")


def test_results_of_earlier_runs() -> None:
    outputs = Outputs(100)
    outputs.keep_results(
        [
            Message("user", "Hi"),
            Message("tool", [ToolResult("a", "look", "x"), ToolResult("b", "look", "y", None, (), True)]),
        ]
    )
    assert outputs.read_output("1-2") == TextPart("[characters 0 to 1 of 1]\ny", untrusted=True)


def test_the_tool_only_reads() -> None:
    tool = kept("abc").tool
    assert (tool.name, tool.effect, tool.idempotent, tool.untrusted) == ("read_output", "read", True, False)
    assert tool.validate({"call": "2-1", "start": "1"}) == {"call": "2-1", "start": 1}
    assert tool("2-1", 1) == TextPart("[characters 1 to 3 of 3]\nbc")
