"""Templates that no rule knows: the format is read off what they render."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.messages import ToolCall
from agentkit.parsing import StreamParser, detect, dialect_for, parse
from agentkit.parsing.dialects import Dialect

_ARGUMENTS = "{{ c.function.arguments|tojson }}"
_EACH = "{% for c in m.tool_calls %}"

CALLS = {
    "json between markers": _EACH
    + '<<CALL>>{"tool": {{ c.function.name|tojson }}, "with": '
    + _ARGUMENTS
    + "}<<END>>{% endfor %}",
    "name and json in brackets": _EACH + "[[{{ c.function.name }}|" + _ARGUMENTS + "]]{% endfor %}",
    "a list after one marker": "<<CALLS>>{{ '[' }}"
    + _EACH
    + '{"fn": "{{ c.function.name }}", "kw": '
    + _ARGUMENTS
    + "}{{ ', ' if not loop.last }}{% endfor %}]",
    "a list between markers": "<<CALLS>>{{ '[' }}"
    + _EACH
    + '{"fn": "{{ c.function.name }}", "kw": '
    + _ARGUMENTS
    + "}{{ ', ' if not loop.last }}{% endfor %}]<</CALLS>>",
    "arguments as text": _EACH + "<c id={{ c.id }}>{{ c.function.name }}::{{ c.function.arguments }}</c>\n{% endfor %}",
    "a section of calls": "<calls>\n"
    + _EACH
    + "<c>{{ c.function.name }} => "
    + _ARGUMENTS
    + "</c>\n{% endfor %}</calls>",
    "a wrapper": _EACH
    + '<c>{"type": "function", "function": {"name": "{{ c.function.name }}", "arguments": '
    + _ARGUMENTS
    + "}}</c>\n{% endfor %}",
    "like a function": _EACH + "{{ c.function.name }}(" + _ARGUMENTS + ")\n{% endfor %}",
    "numbered": _EACH
    + "<call_{{ loop.index0 }}>{{ c.function.name }}:"
    + _ARGUMENTS
    + "</call_{{ loop.index0 }}>{% endfor %}",
    "the name as the key": "@calls@{{ '[' }}"
    + _EACH
    + "{{ '{' }}{{ c.function.name|tojson }}: "
    + _ARGUMENTS
    + "}{{ ', ' if not loop.last }}{% endfor %}]@end@",
    "an id in the json": _EACH
    + '<x>{"id": "{{ c.id }}", "fn": "{{ c.function.name }}", "kw": '
    + _ARGUMENTS
    + "}</x>{% endfor %}",
}
ONE_CALL = (
    "{% if m.tool_calls|length > 1 %}{{ raise_exception('one call at most') }}{% endif %}"
    "{% set c = m.tool_calls[0] %}@@CALL {{ c.function.name }} WITH " + _ARGUMENTS + " @@"
)


def _template(calls: str) -> str:
    return (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.tool_calls %}"
        + calls
        + "{% endif %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("get_weather", "send-mail")
]
EXPECTED = [
    ToolCall("get_weather", {"city": 'a "b" }]', "days": [1, [2]], "deep": {"x": {}}}, "abcdefghi"),
    ToolCall("send-mail", {}, "jklmnopqr"),
]


def _found(calls: str) -> Dialect:
    dialect = dialect_for(_template(calls))
    assert dialect is not None
    return dialect


def _pairs(calls: list[ToolCall]) -> list[tuple[str, object]]:
    return [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
def test_reads_what_it_writes(calls: str) -> None:
    dialect = _found(calls)
    parsed = parse("Let me look.\n" + dialect.write_calls(EXPECTED), TOOLS, dialect)
    assert _pairs(parsed.calls) == _pairs(EXPECTED)
    assert not parsed.problems
    assert parsed.text.strip() == "Let me look."
    assert not any(call.repairs for call in parsed.calls)


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
def test_the_cut_does_not_matter(calls: str) -> None:
    dialect = _found(calls)
    text = "Let me look.\n" + dialect.write_calls(EXPECTED) + "<|end|>"
    whole = parse(text, TOOLS, dialect)
    for at in range(len(text) + 1):
        parser = StreamParser(TOOLS, dialect)
        parser.feed(text[:at])
        parser.feed(text[at:])
        parser.finish()
        assert parser.result() == whole, (text[:at], text[at:])


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_nothing_a_model_writes_raises(data: st.DataObject) -> None:
    dialect = _found(data.draw(st.sampled_from(list(CALLS.values()))))
    pieces = [dialect.write_calls(EXPECTED[:1]), "<<CALL>>", "[[", "|", "{", "}", "]]", "\n", '"', "get_weather", " a"]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=8)))
    parser = StreamParser(TOOLS, dialect)
    for char in text:
        parser.feed(char)
    parser.finish()
    assert parser.result() == parse(text, TOOLS, dialect)


def test_the_template_alone_is_enough() -> None:
    text = '<<CALL>>{"tool": "get_weather", "with": {"city": "Oslo"}}<<END>>'
    parsed = parse(text, TOOLS, chat_template=_template(CALLS["json between markers"]))
    assert _pairs(parsed.calls) == [("get_weather", {"city": "Oslo"})]
    config = {"chat_template": _template(CALLS["json between markers"])}
    assert parse(text, TOOLS, chat_template=config).calls == parsed.calls


def test_a_broken_call_is_a_problem_and_the_next_is_read() -> None:
    dialect = _found(CALLS["json between markers"])
    text = '<<CALL>>{"tool": "get_weather", "with": {"city": }}<<END>><<CALL>>{"tool": "send-mail", "with": {}}<<END>>'
    parsed = parse(text, TOOLS, dialect)
    assert [problem.kind for problem in parsed.problems] == ["unreadable"]
    assert _pairs(parsed.calls) == [("send-mail", {})]


def test_a_cut_off_call_is_never_run() -> None:
    dialect = _found(CALLS["name and json in brackets"])
    parsed = parse('[[get_weather|{"city": "Os', TOOLS, dialect, truncated=True)
    assert not parsed.calls
    assert [problem.kind for problem in parsed.problems] == ["truncated"]


def test_a_template_that_allows_one_call() -> None:
    dialect = _found(ONE_CALL)
    assert dialect.literals is not None
    assert not dialect.literals.parallel
    parsed = parse('@@CALL get_weather WITH {"city": "Oslo"} @@', TOOLS, dialect)
    assert _pairs(parsed.calls) == [("get_weather", {"city": "Oslo"})]


def test_a_known_format_in_disguise_is_the_known_dialect() -> None:
    calls = (
        _EACH
        + "{{ '<tool' ~ '_call>\\n' }}"
        + '{"name": "{{ c.function.name }}", "arguments": '
        + _ARGUMENTS
        + "}{{ '\\n</tool' ~ '_call>' }}{% endfor %}"
    )
    assert detect(_template(calls)) == "hermes"


def test_a_rendered_dialect_has_no_name_in_the_table() -> None:
    assert detect(_template(CALLS["json between markers"])) is None


HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops over text": "{% set r = 'x' * 999 %}{% for a in r %}{% for b in r %}{% for c in r %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "recursion": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "much text": "{% for a in range(99999) %}" + "a" * 500 + "{% endfor %}",
    "a long string": "{{ 'a' * 999999999999 }}",
    "a wide number": "{{ '%999999999d' % 1 }}{{ '{:>999999999}'.format(1) }}",
    "a wide filter": "{{ 'a'|center(999999999) }}",
    "replacement": "{% set x = ('a' * 99999).replace('a', 'b' * 99999) %}",
    "doubling text": "{% set n = namespace(x='ab') %}{% for i in range(90) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling lists": "{% set n = namespace(x=[1]) %}{% for i in range(90) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
    "powers": "{% set n = namespace(x=9) %}{% for i in range(90) %}{% set n.x = n.x ** n.x %}{% endfor %}",
    "an exception": "{{ raise_exception('never') }}",
    "an escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "bad syntax": "{% for %}",
    "a long source": "a" * 300_000,
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_shows_nothing(hostile: str) -> None:
    assert dialect_for(hostile + _template(CALLS["json between markers"])) is None


def test_a_template_that_shows_no_json_is_none() -> None:
    tags = _EACH + "<c f={{ c.function.name }}>{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};"
    assert dialect_for(_template(tags + "{% endfor %}</c>{% endfor %}")) is None
    assert dialect_for(_template("{{ '' if m.tool_calls else '' }}")) is None


def test_the_prompt_may_open_a_reasoning_that_a_call_has_not() -> None:
    source = (
        "{% for m in messages %}<|{{ m.role }}|>\n{% if m.tool_calls %}<TOOLS>{{ '[' }}"
        + CALLS["a list after one marker"].partition("{{ '[' }}")[2]
        + "</TOOLS>{% else %}{% if m.role == 'assistant' %}<think>\n{% endif %}{{ m.content }}{% endif %}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n<think>\n{% endif %}"
    )
    dialect = dialect_for(source)
    assert dialect is not None
    assert dialect.write_calls(EXPECTED[1:]) == '<TOOLS>[{"fn": "send-mail", "kw": {}}]</TOOLS>'
