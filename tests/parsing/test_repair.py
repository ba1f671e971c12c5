"""The repair table, row by row: what is repaired, under which name, and what is never run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.messages import JsonObject
from agentkit.parsing import Parsed, parse
from agentkit.parsing.literals import MAX_DEPTH, Unreadable
from agentkit.parsing.repair import REPAIRS, read_json

PERSON: JsonObject = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}
TOOLS = [
    {"name": "say", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
    {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "number"}}},
    },
    {
        "name": "set",
        "parameters": {
            "type": "object",
            "properties": {
                "on": {"type": "boolean"},
                "mode": {"enum": ["fast", "slow"]},
                "who": {"$ref": "#/$defs/person"},
                "any": {
                    "anyOf": [{"type": "integer"}, {"type": "null"}, {"type": "array", "items": {"type": "integer"}}]
                },
                "list": {"type": "array", "items": {"$ref": "#/$defs/person"}},
            },
            "$defs": {"person": PERSON},
        },
    },
    {"name": "closed", "parameters": {"type": "object", "properties": {"x": {}}, "additionalProperties": False}},
    {"name": "mcp__files__read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}},
]


def hermes(body: str, **more: bool) -> Parsed:
    return parse(f"<tool_call>\n{body}\n</tool_call>", TOOLS, "hermes", **more)


def call(name: str, arguments: object) -> str:
    return json.dumps({"name": name, "arguments": arguments})


REPAIRED: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("missing brace", '{"name": "say", "arguments": {"text": "x"}', {"text": "x"}, {"missing_closers"}),
    ("extra brace", '{"name": "say", "arguments": {"text": "x"}}}', {"text": "x"}, {"extra_closers"}),
    ("single quotes", "{'name': 'say', 'arguments': {'text': 'it\\'s'}}", {"text": "it's"}, {"single_quotes"}),
    ("Python", '{"name": "set", "arguments": {"on": True}}', {"on": True}, {"python_literals"}),
    ("trailing comma", '{"name": "say", "arguments": {"text": "x",},}', {"text": "x"}, {"trailing_comma"}),
    ("comment", '{"name": "say", // speak\n "arguments": {"text": "x"}}', {"text": "x"}, {"comments"}),
    ("bare keys", '{name: "say", arguments: {text: "x"}}', {"text": "x"}, {"unquoted_keys"}),
    ("raw newline", '{"name": "say", "arguments": {"text": "a\nb"}}', {"text": "a\nb"}, {"raw_newline"}),
    ("bad escape", '{"name": "say", "arguments": {"text": "\\d+"}}', {"text": "\\d+"}, {"bad_escape"}),
    ("escaped newlines", '{\\n"name": "say", "arguments": {"text": "x"}\\n}', {"text": "x"}, {"literal_newlines"}),
    ("inner quotes", '{"name": "say", "arguments": {"text": "a "b" c"}}', {"text": 'a "b" c'}, {"inner_quotes"}),
    ("parameters", '{"name": "say", "parameters": {"text": "x"}}', {"text": "x"}, {"wrong_keys"}),
    ("tool_name", '{"tool_name": "say", "args": {"text": "x"}}', {"text": "x"}, {"wrong_keys"}),
    ("wrapper", '{"type": "function", "function": ' + call("say", {"text": "x"}) + "}", {"text": "x"}, {"wrong_keys"}),
    ("name as key", '{"say": {"text": "x"}}', {"text": "x"}, {"wrong_keys"}),
    ("flattened", '{"name": "say", "text": "x"}', {"text": "x"}, {"wrong_keys"}),
    ("double-encoded", call("say", '{"text": "x"}'), {"text": "x"}, {"double_encoded"}),
    ("nested encoding", call("set", {"who": '{"name": "Ada"}'}), {"who": {"name": "Ada"}}, {"double_encoded"}),
    ("object as text", call("say", {"text": {"a": 1}}), {"text": '{"a": 1}'}, {"object_to_string"}),
    ("text as int", call("add", {"a": "5"}), {"a": 5}, {"coerced_type"}),
    ("float as int", call("add", {"a": 5.0}), {"a": 5}, {"coerced_type"}),
    ("text as bool", call("set", {"on": "true"}), {"on": True}, {"coerced_type"}),
    (
        "deep text as int",
        call("set", {"list": [{"name": "A", "age": "7"}]}),
        {"list": [{"name": "A", "age": 7}]},
        {"coerced_type"},
    ),
    ("null", call("add", {"a": 1, "b": None}), {"a": 1}, {"dropped_null"}),
    ("prefix", call("functions.say", {"text": "x"}), {"text": "x"}, {"renamed_tool"}),
    ("suffix", call("say:0", {"text": "x"}), {"text": "x"}, {"renamed_tool"}),
    ("case", call("Say", {"text": "x"}), {"text": "x"}, {"renamed_tool"}),
    ("MCP prefix", call("read", {"path": "x"}), {"path": "x"}, {"renamed_tool"}),
    ("unknown argument", call("say", {"text": "x", "volume": 3}), {"text": "x"}, {"dropped_argument"}),
    ("scalar", call("say", "x"), {"text": "x"}, {"wrapped_argument"}),
    ("prose in the tags", 'Sure: {"name": "say", "arguments": {"text": "x"}}', {"text": "x"}, {"surrounding_prose"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "arguments", "repairs"), [row[1:] for row in REPAIRED], ids=[row[0] for row in REPAIRED]
)
def test_is_repaired_and_says_so(body: str, arguments: dict[str, Any], repairs: set[str]) -> None:
    parsed = hermes(body)
    assert [found.arguments for found in parsed.calls] == [arguments]
    assert set(parsed.calls[0].repairs) == repairs <= set(REPAIRS)
    assert parsed.problems == []


REFUSED = [
    ("unknown tool", call("shout", {"text": "x"}), "unknown_tool"),
    ("no fuzzy guess", call("sya", {"text": "x"}), "unknown_tool"),
    ("missing argument", call("say", {}), "invalid_arguments"),
    ("wrong type", call("add", {"a": "five"}), "invalid_arguments"),
    ("leading zeros are text", call("add", {"a": "007"}), "invalid_arguments"),
    ("not in the enum", call("set", {"mode": "fastest"}), "invalid_arguments"),
    ("forbidden argument", call("closed", {"x": 1, "y": 2}), "invalid_arguments"),
    ("scalar for several", call("add", [1, 2]), "invalid_arguments"),
    ("no JSON", '{"name": "say", "arguments": {"text": x y}}', "unreadable"),
    ("two readings", '{"name": "say", "arguments": {"text": "a "b", "c": "d" e"}}', "unreadable"),
    ("infinity", '{"name": "add", "arguments": {"b": 1e999}}', "unreadable"),
]


@pytest.mark.parametrize(("body", "kind"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_is_not_run_and_says_why(body: str, kind: str) -> None:
    parsed = hermes(body)
    assert parsed.calls == []
    assert [problem.kind for problem in parsed.problems] == [kind]
    assert parsed.problems[0].raw
    assert parsed.text.strip() == ""


def test_messages_help_the_model() -> None:
    unknown = hermes(call("sayy", {})).problems[0]
    assert "sayy" in unknown.message
    assert "Did you mean 'say'" in unknown.message
    assert "mcp__files__read" in unknown.message
    invalid = hermes(call("add", {"a": "five"})).problems[0]
    assert "'five' is not of type 'integer'" in invalid.message
    assert '"a": {"type": "integer"}' in invalid.message


def test_clean_input_has_no_repairs() -> None:
    big = 123456789012345678901234567890
    arguments = {"a": big, "b": 0.1}
    found = hermes(call("add", arguments)).calls[0]
    assert (found.arguments, found.repairs) == (arguments, [])
    assert hermes(call("say", {"text": "007"})).calls[0].arguments == {"text": "007"}


def test_a_bad_call_leaves_its_siblings_whole() -> None:
    text = "\n".join(
        f"<tool_call>\n{body}\n</tool_call>" for body in (call("say", {"text": "1"}), "{", call("say", {"text": "2"}))
    )
    parsed = parse(text, TOOLS, "hermes")
    assert [found.arguments["text"] for found in parsed.calls] == ["1", "2"]


def test_a_close_tag_inside_a_string_is_text() -> None:
    assert hermes(call("say", {"text": "</tool_call>"})).calls[0].arguments == {"text": "</tool_call>"}


def test_what_is_cut_off_is_never_run() -> None:
    for cut in (
        '<tool_call>\n{"name": "say", "arguments": {"text": "x',
        '<tool_call>\n{"name": "say", "arguments": {"text": "x"',
    ):
        parsed = parse(cut, TOOLS, "hermes", truncated=True)
        assert parsed.calls == []
        assert [problem.kind for problem in parsed.problems] == ["truncated"]


def test_reasoning_is_read_for_calls_only_if_nothing_else_was_said() -> None:
    block = f"<tool_call>{call('say', {'text': 'x'})}</tool_call>"
    only = parse(f"<think>So {block}</think>", TOOLS, "hermes")
    assert [found.repairs for found in only.calls] == [["call_in_reasoning"]]
    assert parse(f"<think>So {block} or not.</think>No.", TOOLS, "hermes").calls == []
    assert len(parse(f"<think>So {block}</think>{block}", TOOLS, "hermes").calls) == 1


def test_lone_surrogates_do_not_leave_the_parser() -> None:
    found = hermes('{"name": "say", "arguments": {"text": "\\ud800"}}').calls[0]
    json.dumps(found.arguments, ensure_ascii=False).encode()


def test_nesting_has_a_limit() -> None:
    with pytest.raises(Unreadable):
        read_json("[" * 100_000)
    with pytest.raises(Unreadable, match="nested"):
        read_json("[" * (MAX_DEPTH + 1))


def test_raw_text_is_typed_by_the_schema_to_its_depth() -> None:
    text = (
        "<tool_call>\n<function=set>\n<parameter=on>\ntrue\n</parameter>\n<parameter=any>\n[1, 2]\n</parameter>\n"
        '<parameter=who>\n{"name": "Ada", "age": 36}\n</parameter>\n</function>\n</tool_call>'
    )
    found = parse(text, TOOLS, "qwen3_coder").calls[0]
    assert found.arguments == {"on": True, "any": [1, 2], "who": {"name": "Ada", "age": 36}}
    assert found.repairs == []


def test_a_tool_whose_schema_is_broken_raises_nothing_here() -> None:
    broken = [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "strin"}}}}]
    assert parse(call("f", {"a": 1}), broken, "bare_json").calls[0].arguments == {"a": 1}


def test_references_are_never_fetched() -> None:
    remote = [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}}]
    assert parse(call("f", {"a": 1}), remote, "bare_json").calls[0].arguments == {"a": 1}
