"""The machine: any chunking gives the same result, nothing raises, the time is linear, events tell the same story."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit.errors import ConfigError
from agentkit.events import (
    ModelEvent,
    ProblemFound,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.messages import ToolCall
from agentkit.parsing import DIALECTS, Parsed, StreamParser, parse
from agentkit.parsing.marks import STOPS, marks_for

TOOLS = [
    {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
    {"name": "say", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
]
CALLS = [ToolCall("add", {"a": 1, "b": 2}), ToolCall("say", {"text": 'hi </tool_call> "there"'})]
MARKERS = sorted(
    {
        prefix
        for dialect in DIALECTS.values()
        for trigger in dialect.triggers
        for prefix in trigger.pattern.prefixes or ()
    }
    | {dialect.write_calls(CALLS[:1]) for dialect in DIALECTS.values()}
    | {"<think>", "</think>", "```", "```json\n", "~~~\n", "\n", "\n\n", " ", '"', "'", "\\", "{", "}", "[", "]", "`"}
    | {"ordinary words", "\ud800", "é", "｜", *STOPS}
)


def read(text: str, cuts: Iterable[int], dialect: str | None, prompt: str = "", truncated: bool = False) -> Parsed:
    return watch(text, cuts, dialect, prompt, truncated)[0]


def watch(
    text: str, cuts: Iterable[int], dialect: str | None, prompt: str = "", truncated: bool = False
) -> tuple[Parsed, list[ModelEvent]]:
    parser = StreamParser(TOOLS, dialect, prompt=prompt)
    events: list[ModelEvent] = []
    at = 0
    for cut in [*cuts, len(text)]:
        events += parser.feed(text[at:cut])
        at = cut
    events += parser.finish(truncated)
    return parser.result(), events


turns = st.lists(st.sampled_from(MARKERS) | st.text(max_size=8), max_size=12).map("".join)
dialects = st.sampled_from([None, *DIALECTS])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=turns, dialect=dialects, prompt=st.sampled_from(["", "<think>\n"]), truncated=st.booleans(), data=st.data())
def test_no_cut_changes_the_result(
    text: str, dialect: str | None, prompt: str, truncated: bool, data: st.DataObject
) -> None:
    whole = read(text, [], dialect, prompt, truncated)
    assert read(text, range(1, len(text)), dialect, prompt, truncated) == whole
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    assert read(text, cuts, dialect, prompt, truncated) == whole


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_single_cut_of_a_short_turn(dialect: str) -> None:
    text = "Hm.\n" + DIALECTS[dialect].write_calls(CALLS[:1]) + "\n"
    whole = read(text, [], dialect)
    assert [call.arguments for call in whole.calls] == [{"a": 1, "b": 2}]
    for cut in range(len(text)):
        assert read(text, [cut], dialect) == whole, text[:cut]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_broken_turns_neither_raise_nor_depend_on_cuts(dialect: str) -> None:
    chance = random.Random(dialect)
    for _ in range(40):
        text = list("Hm.\n" + DIALECTS[dialect].write_calls(CALLS))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(text))
            text[at : at + chance.randint(0, 3)] = chance.choice(["", "", '"', "{", "}", "\n", chance.choice(MARKERS)])
        broken = "".join(text)
        for name in (dialect, None):
            whole = read(broken, [], name)
            assert read(broken, range(1, len(broken)), name) == whole
            json.dumps([call.arguments for call in whole.calls]).encode()
            whole.text.encode()


FOUND_BY_FUZZING = [
    # The end of a fence behind text, with more white space after it than the chunks that were looked back at.
    ("functionary_v31", "```<```\t\t\t\t\t\t\t\t\t\n<tool_call>r<arg_key>y</arg_key><arg_value>", True),
]


@pytest.mark.parametrize(("dialect", "text", "truncated"), FOUND_BY_FUZZING)
def test_what_a_fuzzer_found(dialect: str, text: str, truncated: bool) -> None:
    whole = read(text, [], dialect, truncated=truncated)
    for size in range(1, 8):
        assert read(text, range(size, len(text), size), dialect, truncated=truncated) == whole


def test_events_add_up_to_the_result() -> None:
    text = "<think>Hm.</think>Well.\n" + DIALECTS["hermes"].write_calls([*CALLS, ToolCall("nope", {})])
    parsed, events = watch(text, range(1, len(text)), "hermes")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == parsed.text == "Well."
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == parsed.reasoning == "Hm."
    assert [event.call for event in events if isinstance(event, ToolCallEnd)] == parsed.calls
    assert [event.problem for event in events if isinstance(event, ProblemFound)] == parsed.problems
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [(start.name, start.id) for start in starts] == [(call.name, call.id) for call in parsed.calls]
    for call in parsed.calls:
        written = "".join(e.arguments for e in events if isinstance(e, ToolCallDelta) and e.id == call.id)
        assert json.loads(written) == call.arguments


def test_a_call_is_announced_before_its_arguments_end() -> None:
    parser = StreamParser(TOOLS, "hermes")
    events = parser.feed('<tool_call>\n{"name": "say", "arguments": {"text": "once upon')
    assert [type(event) for event in events] == [ToolCallStart, ToolCallDelta]


def test_text_is_not_held_back() -> None:
    parser = StreamParser(TOOLS)
    assert parser.feed("Hello, <b>wor") == [TextDelta("Hello, <b>wor")]
    assert parser.feed("ld</b> <tool_c") == [TextDelta("ld</b>")]
    assert parser.feed("up now") == [TextDelta(" <tool_cup now")]


def test_prompt_says_that_the_turn_begins_in_reasoning() -> None:
    parsed = parse("Hm.\n</think>\nYes.", TOOLS, "hermes", prompt="<|im_start|>assistant\n<think>\n")
    assert (parsed.reasoning, parsed.text) == ("Hm.", "Yes.")
    assert parse("Hm.", TOOLS, "hermes", prompt="<think>\n").reasoning == "Hm."
    assert parse("Hm.\n</think>\nYes.", TOOLS, "hermes") == parsed


def test_after_finish_nothing_is_taken() -> None:
    parser = StreamParser(TOOLS)
    parser.feed("a")
    parser.finish()
    assert parser.feed("b") == parser.finish() == []
    assert parser.result().text == "a"


def test_an_unknown_dialect_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'hermes'"):
        StreamParser(TOOLS, "hermse")


def test_marks_are_compiled_once() -> None:
    assert marks_for("glm") is marks_for("glm")


HARD = [
    '<tool_call>{"name": "say", "arguments": {"text": "',
    '<tool_call>{"a": "x</tool_call>"',
    "<tool_call>\n<function=say>\n<parameter=text>\n",
    "</parameter>\n",
    '{"name": "say"\n',
    "```json\n{\n",
    "```\n",
    "`",
    "<",
    "[say(text='",
    '{"name": "say", "arguments": {"text": "x"}}\n',
    ">>>say\n{",
    "<think>",
    "</think>",
    " ",
]


@pytest.mark.parametrize("unit", HARD)
@pytest.mark.parametrize("dialect", [None, "hermes", "qwen3_coder", "pythonic"])
def test_time_is_linear_on_the_hardest_texts(unit: str, dialect: str | None) -> None:
    def cost(length: int) -> float:
        text = unit * (length // len(unit))
        start = time.process_time()
        read(text, range(0, len(text), 64), dialect)
        return time.process_time() - start

    cost(1_000)
    # Ten times the text in far less than the hundred times of a quadratic reader; the constant forgives a busy machine.
    assert cost(30_000) < 35 * cost(3_000) + 0.3
