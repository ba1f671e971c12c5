"""What ``tokenizer_config.json`` declares about a model's output."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentkit.messages import ToolCall
from agentkit.parsing import StreamParser, detect, dialect_for, parse
from agentkit.parsing.dialects import Dialect

_WRAPPED = {"type": "function", "function": "{content}"}
_NAMED = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}


def _template(calls: dict[str, Any], **fields: object) -> dict[str, object]:
    named = {"tool_calls": calls, "content": {"close": "<|im_end|>", "content": "text"}, **fields}
    return {"response_template": {"defaults": {"role": "assistant"}, "start_anchor": "<|a|>", "fields": named}}


def _schema(calls: dict[str, Any], **properties: object) -> dict[str, object]:
    return {"response_schema": {"type": "object", "properties": {"tool_calls": calls, **properties}}}


KNOWN = {
    "hermes": _template(
        {"open": "<tool_call>", "close": "</tool_call>", "repeats": True, "content": "json", "transform": _WRAPPED}
    ),
    "command_r7b": _template(
        {
            "open": "<|START_ACTION|>",
            "close": "<|END_ACTION|>",
            "content": "json",
            "transform_each": True,
            "transform": {"function": {"name": "{tool_name}", "arguments": "{parameters}"}},
        }
    ),
    "harmony": _template(
        {
            "open_pattern": r"<\|channel\|>commentary to=functions\.(?P<name>\w+).*?<\|message\|>",
            "close": "<|call|>",
            "repeats": True,
            "content": "json",
            "transform": _NAMED,
        }
    ),
    "qwen3_coder": _template(
        {
            "open_pattern": r"<tool_call>\s*<function=(?P<name>\w+)>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<parameter=(?P<key>\w+)>(?P<value>.*?)</parameter>"},
            "transform": _NAMED,
        }
    ),
    "gemma4": _template(
        {
            "open_pattern": r"<\|tool_call>call:(?P<name>\w+)",
            "close": "<tool_call|>",
            "repeats": True,
            "content": "json",
            "content_args": {"unquoted_keys": True},
            "transform": _NAMED,
        }
    ),
    "longcat": _schema(
        {
            "x-regex-iterator": r"<longcat_tool_call>\s*(.*?)\s*</longcat_tool_call>",
            "items": {"x-parser": "json", "x-parser-args": {"transform": "{type: 'function', function: @}"}},
        }
    ),
    "functionary_v31": _template(
        {
            "open_pattern": r"<function=(?P<name>\w+)>",
            "close": "</function>",
            "repeats": True,
            "content": "json",
            "transform": _NAMED,
        }
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_format_is_the_known_dialect(name: str) -> None:
    assert detect(KNOWN[name]) == name


NEW = {
    "json": (
        _template(
            {
                "open": ["<<CALL>>", "<<call>>"],
                "close": "<<END>>",
                "repeats": True,
                "content": "json",
                "transform": {"function": {"name": "{content.tool}", "arguments": "{content.with}"}},
            }
        ),
        '<<CALL>>{"tool": "f", "with": {"a": 1}}<<END>>\n<<CALL>>{"tool": "g", "with": {"b": [[2]]}}<<END>>',
    ),
    "a list without an end": (
        _template(
            {
                "open": "<<CALLS>>",
                "content": "json",
                "transform_each": True,
                "transform": {"function": {"name": "{fn}", "arguments": "{kw}"}},
            }
        ),
        '<<CALLS>>[{"fn": "f", "kw": {"a": 1}}, {"fn": "g", "kw": {"b": [[2]]}}]',
    ),
    "the name in a pattern": (
        _template(
            {
                "open_pattern": r"@@call\s+(?P<name>\w+)\s*:\s*",
                "close_pattern": r"\n?@@end",
                "repeats": True,
                "content": "json",
                "transform": _NAMED,
            }
        ),
        '@@call f: {"a": 1}\n@@end@@call g: {"b": [[2]]}\n@@end',
    ),
    "an older schema": (
        _schema(
            {
                "x-regex-iterator": r"\[\[call\]\]\s*(\{.*?\})\s*(?:\[\[\/call\]\]|$)",
                "items": {
                    "x-parser": "json",
                    "x-parser-args": {"transform": "{type: 'function', function: {name: fn, arguments: kw}}"},
                },
            }
        ),
        '[[call]] {"fn": "f", "kw": {"a": 1}} [[/call]][[call]]{"fn": "g", "kw": {"b": [[2]]}}[[/call]]',
    ),
}


def _found(declared: dict[str, object]) -> Dialect:
    dialect = dialect_for(declared)
    assert dialect is not None
    return dialect


@pytest.mark.parametrize(("declared", "text"), NEW.values(), ids=NEW)
def test_reads_a_format_that_no_rule_knows(declared: dict[str, object], text: str) -> None:
    parsed = parse(f"First.\n{text}<|im_end|>", chat_template=declared)
    assert [(call.name, call.arguments, call.repairs) for call in parsed.calls] == [
        ("f", {"a": 1}, []),
        ("g", {"b": [[2]]}, []),
    ]
    assert (parsed.text.strip(), parsed.problems) == ("First.", [])


@pytest.mark.parametrize(("declared", "text"), NEW.values(), ids=NEW)
def test_the_cut_does_not_matter(declared: dict[str, object], text: str) -> None:
    whole = parse(text, chat_template=declared)
    for at in range(len(text) + 1):
        parser = StreamParser(chat_template=declared)
        parser.feed(text[:at])
        parser.feed(text[at:])
        parser.finish()
        assert parser.result() == whole


@pytest.mark.parametrize(("declared", "text"), NEW.values(), ids=NEW)
def test_reads_what_it_writes(declared: dict[str, object], text: str) -> None:
    dialect = _found(declared)
    calls = [ToolCall("f", {"x": 'a "}]" b'}), ToolCall("g", {"y": {"z": []}})]
    parsed = parse(dialect.write_calls(calls), dialect=dialect)
    assert [(call.name, call.arguments) for call in parsed.calls] == [(call.name, call.arguments) for call in calls]


def test_reads_the_reasoning_that_is_declared() -> None:
    calls = NEW["json"][0]["response_template"]["fields"]["tool_calls"]  # type: ignore[index]
    declared = _template(calls, thinking={"open": "<<musing>>", "close": "<</musing>>", "content": "text"})
    parsed = parse('<<musing>>Hm.<</musing>>Yes. <<CALL>>{"tool": "f", "with": {}}<<END>>', dialect=_found(declared))
    assert (parsed.reasoning, parsed.text.strip(), len(parsed.calls)) == ("Hm.", "Yes.", 1)


def test_the_chat_template_is_next_where_nothing_usable_is_declared() -> None:
    tags = {"open_pattern": r"<c (?P<name>\w+)>", "close": "</c>", "content": "kv-lines", "transform": _NAMED}
    assert detect({**_template(tags), "chat_template": "<TOOLCALL>"}) == "nemotron_nano"
    useless: object
    for useless in ({}, [], "text", 3, {"fields": 3}, {"fields": {"tool_calls": {"open": 3, "content": "json"}}}):
        assert detect({"response_template": useless, "chat_template": "<TOOLCALL>"}) == "nemotron_nano"


def test_an_expression_is_never_run() -> None:
    evil = {
        "open_pattern": r"((a+)+)+(?P<name>\w+)$",
        "close_pattern": "(x+x+)+y",
        "repeats": True,
        "content": "json",
        "transform": _NAMED,
    }
    started = time.monotonic()
    parsed = parse("a" * 5000 + "x" * 5000, chat_template=_template(evil))
    assert not parsed.calls
    assert time.monotonic() - started < 5.0
    assert dialect_for(_template({**evil, "open_pattern": "(" * 100_000})) is None
