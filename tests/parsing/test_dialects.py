"""Every dialect reads what it writes, whatever the chunks, named or not."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit.messages import JsonObject, ToolCall, ToolResult
from agentkit.parsing import DIALECTS, Parsed, StreamParser, parse
from agentkit.parsing.calls import ToolBox
from agentkit.parsing.repair import REPAIRS, TOLD
from agentkit.tool import as_tool

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "where": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
    "required": ["text"],
}
TOOLS = ToolBox([{"name": "do_it", "parameters": SCHEMA}, {"name": "fs.read-all", "parameters": SCHEMA}])

# Raw-text formats have no way to write their own markers, so text for all dialects is free of them. Leading and
# trailing spaces are kept out too: a format that puts values on lines of their own cannot tell a newline from framing.
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="<>[]｜|✿`"), max_size=12
)
texts = st.lists(words.map(str.strip).filter(bool), min_size=1, max_size=4).map("\n".join)
arguments = st.fixed_dictionaries(
    {"text": texts},
    optional={
        "count": st.integers(-(10**25), 10**25),
        "ratio": st.floats(allow_nan=False, allow_infinity=False, width=32),
        "flag": st.booleans(),
        "tags": st.lists(words.map(str.strip).filter(bool), max_size=3),
        "where": st.fixed_dictionaries({"x": st.integers()}),
    },
)
calls = st.builds(ToolCall, st.sampled_from(["do_it", "fs.read-all"]), arguments)


def read(text: str, dialect: str | None, size: int) -> Parsed:
    parser = StreamParser(TOOLS, dialect)
    for at in range(0, len(text), size):
        parser.feed(text[at : at + size])
    parser.finish()
    return parser.result()


def said(parsed: Parsed) -> list[tuple[str, str]]:
    return [(call.name, json.dumps(call.arguments, sort_keys=True)) for call in parsed.calls]


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_reads_what_it_writes(dialect: str, data: st.DataObject) -> None:
    described = DIALECTS[dialect]
    most = 3 if described.literals is None or described.literals.parallel else 1
    written = data.draw(st.lists(calls, min_size=1, max_size=most))
    text = described.write_calls(written)
    expected = [(call.name, json.dumps(call.arguments, sort_keys=True)) for call in written]
    for name in (dialect, None):
        whole = read(text, name, len(text))
        assert said(whole) == expected
        assert whole.text.strip() == ""
        assert whole.problems == []
        clean = {"markdown_fence"} if dialect == "json_fence" and name is None else set()
        assert {repair for call in whole.calls for repair in call.repairs} <= clean
        assert read(text, name, 1) == whole
        assert read(text, name, 5) == whole


@pytest.mark.parametrize("dialect", DIALECTS)
def test_prose_around_calls_stays_text(dialect: str) -> None:
    call = ToolCall("do_it", {"text": "hello"})
    text = "Let me look.\n" + DIALECTS[dialect].write_calls([call])
    parsed = parse(text, TOOLS.tools.values(), dialect)
    assert parsed.text.strip() == "Let me look."
    assert said(parsed) == [("do_it", '{"text": "hello"}')]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_cut_off_by_the_limit_is_never_run(dialect: str) -> None:
    call = ToolCall("do_it", {"text": "a rather long text that will be cut off somewhere"})
    text = DIALECTS[dialect].write_calls([call])
    cut = text[: text.index("that will")]
    parsed = parse(cut, TOOLS.tools.values(), dialect, truncated=True)
    assert parsed.calls == []
    assert [problem.kind for problem in parsed.problems] == ["truncated"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_without_tools_a_named_dialect_takes_any_name(dialect: str) -> None:
    text = DIALECTS[dialect].write_calls([ToolCall("anything", {"text": "x"})])
    assert [call.name for call in parse(text, [], dialect).calls] == ["anything"]
    assert parse(text, []).calls == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_results_and_lessons_are_written(dialect: str) -> None:
    described = DIALECTS[dialect]
    written = described.write_results([ToolResult("123456789", "do_it", "forty-two")])
    assert "forty-two" in written
    assert described.write_results([]) == described.write_calls([]) == ""
    lesson = described.teach([as_tool({"name": "do_it", "description": "Does it.", "parameters": SCHEMA})])
    assert "Does it." in lesson
    assert described.write_calls([ToolCall("tool_name", {"parameter": "value"})]) in lesson


def test_literals_spell_out_what_is_written() -> None:
    for dialect in DIALECTS.values():
        literals = dialect.literals
        if literals is None or "{" in literals.after_name.replace("{id}", "").replace("{index}", ""):
            continue
        text = dialect.write_calls([ToolCall("do_it", {"text": "x"})])
        assert text.startswith(literals.section_open)
        assert text.endswith(literals.section_close)
        assert '{"text": "x"}' in text


def test_ids_are_carried_or_made() -> None:
    listed = '[TOOL_CALLS][{"name": "do_it", "arguments": {"text": "x"}, "id": "Abc123xyz"}]'
    assert [call.id for call in parse(listed, TOOLS.tools.values(), "mistral").calls] == ["Abc123xyz"]
    twice = DIALECTS["hermes"].write_calls([ToolCall("do_it", {"text": "x"})] * 2)
    assert [call.id for call in parse(twice, TOOLS.tools.values()).calls] == ["call_1", "call_2"]
    kimi = DIALECTS["kimi_k2"].write_calls([ToolCall("do_it", {"text": "x"})] * 2)
    assert [call.id for call in parse(kimi, TOOLS.tools.values()).calls] == ["functions.do_it:0", "functions.do_it:1"]


def test_told_repairs_have_names() -> None:
    assert set(REPAIRS) > TOLD
