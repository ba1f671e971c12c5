"""A chat template's source, or a tokenizer's configuration, names the dialect."""

from __future__ import annotations

import sys

import pytest

from agentkit.errors import ConfigError
from agentkit.parsing import DIALECTS, StreamParser, detect, dialect_for, parse

TEMPLATES = {
    "hermes": "{{ '<tool_call>\\n{\"name\": ' }}",
    "qwen3_coder": "<tool_call>\n<function=example>\n<parameter=a>",
    "glm": "<tool_call>{name}<arg_key>k</arg_key>",
    "mistral": "[AVAILABLE_TOOLS][TOOL_CALLS]",
    "mistral_v11": "[TOOL_CALLS]f[CALL_ID]x[ARGS]",
    "mistral_v13": "[SYSTEM_PROMPT][TOOL_CALLS]f[ARGS]",
    "harmony": "<|start|>assistant<|channel|>final<|message|>",
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>",
    "deepseek_v31": "<｜tool▁call▁begin｜>f<｜tool▁sep｜>",
    "deepseek_dsml": "{% set dsml_token = '｜DSML｜' %}",
    "gemma4": "'<|tool_call>call:'",
    "lfm2": "List of tools: [",
    "minimax_m3": "]<]minimax[>[",
}


@pytest.mark.parametrize("dialect", TEMPLATES)
def test_detects(dialect: str) -> None:
    assert detect(TEMPLATES[dialect]) == dialect


def test_a_template_without_tools_shows_none() -> None:
    assert detect("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}") is None


def test_every_dialect_that_has_a_marker_is_found_in_what_it_writes() -> None:
    from agentkit.messages import ToolCall

    missed = {
        name for name, dialect in DIALECTS.items() if detect(dialect.write_calls([ToolCall("f", {"a": "x"})])) is None
    }
    without = {"bare_json", "llama3_json", "json_fence", "glm4_9b", "functions_colon", "functionary_v32"}
    assert missed <= without | {"pythonic", "gemma3", "code", "command_r_plus"}


def test_reads_a_tokenizer_configuration() -> None:
    assert detect({"chat_template": "<tool_call>"}) == "hermes"
    several = [{"name": "default", "template": ""}, {"name": "tool_use", "template": "<TOOLCALL>"}]
    assert detect({"chat_template": several}) == "nemotron_nano"
    declared = {"tool_calls": {"open": "<\\|tool_call_start\\|>", "close": "<\\|tool_call_end\\|>"}}
    assert detect({"response_template": declared, "chat_template": "<tool_call>"}) == "lfm2"
    assert detect({}) is None


def test_the_parser_detects_for_itself() -> None:
    text = "<tool_call>\n<function=anything>\n</function>\n</tool_call>"
    parsed = parse(text, chat_template=TEMPLATES["qwen3_coder"])
    assert [call.name for call in parsed.calls] == ["anything"]


@pytest.mark.parametrize("dialect", TEMPLATES)
def test_the_dialect_itself(dialect: str) -> None:
    assert dialect_for(TEMPLATES[dialect]) is DIALECTS[dialect]


def test_a_dialect_can_be_given_by_name_or_itself() -> None:
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert parse(text, dialect=DIALECTS["hermes"]) == parse(text, dialect="hermes")
    assert StreamParser(dialect=DIALECTS["hermes"]).dialect == "hermes"
    with pytest.raises(ConfigError, match="hermes"):
        StreamParser(dialect="hermse")


def test_a_template_that_cannot_be_rendered_shows_none() -> None:
    for source in ("{% for call in message.tool_calls %}", "{{ tool_calls }}", "{{ raise_exception('tool_calls') }}"):
        assert dialect_for(source) is None
        assert detect({"chat_template": source}) is None


def test_without_jinja2_unknown_templates_show_none(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
        "@{{ c.function.name }}:{{ c.function.arguments|tojson }}@{% endfor %}{% endfor %}"
    )
    assert dialect_for(source) is not None
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "jinja2.sandbox", None)
    assert dialect_for(source + " ") is None
