"""JSON between control tokens, each family its own: Apertus, InternLM2, GigaChat 3, Inkling, PLaMo 3, Solar Open."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.calls import Keys
from agentkit.parsing.dialects.base import Dialect, Literals, Reasoning, Results, Section, Trigger
from agentkit.parsing.dialects.common import CALL_JSON, between, named_call
from agentkit.parsing.patterns import alt, chars, lit, look, name, opt, seq, ws

APERTUS = Dialect(
    "apertus",
    (Trigger(seq("<|tools_prefix|>", ws(), CALL_JSON), Scan(closes=("<|tools_suffix|>",), keys=Keys("", ""))),),
    Literals(
        section_open="<|tools_prefix|>[",
        before_name='{"',
        after_name='": ',
        separator=", ",
        section_close="]<|tools_suffix|>",
    ),
    reasoning=(between("<|inner_prefix|>", "<|inner_suffix|>"),),
    results=Results("{content}", ", ", "[", "]"),
)

INTERNLM2 = Dialect(
    "internlm2",
    (
        Trigger(
            seq("<|action_start|>", ws(), "<|plugin|>", ws(), CALL_JSON),
            Scan(closes=("<|action_end|>",), keys=Keys("name", "parameters"), breaks=("<|action_start|>",)),
        ),
    ),
    Literals(
        call_open="<|action_start|><|plugin|>\n",
        after_name='", "parameters": ',
        call_close="<|action_end|>",
        separator="\n",
    ),
    results=Results("{content}"),
)

GIGACHAT3 = Dialect(
    "gigachat3",
    (
        Trigger(
            seq("<|message_sep|>", ws(), "function call", ws(), "<|role_sep|>", ws(), CALL_JSON),
            Scan(after=("<|message_sep|>", "</s>")),
        ),
        Trigger(
            seq("function call", ws(), "<|role_sep|>", ws(), CALL_JSON),
            Scan(after=("<|message_sep|>", "</s>")),
            line_start=True,
        ),
    ),
    Literals(section_open="<|message_sep|>\n\nfunction call<|role_sep|>\n", parallel=False),
    sections=(Section(lit("<|message_sep|>")),),
    results=Results("{content}"),
)

GIGACHAT31 = Dialect(
    "gigachat31",
    (
        Trigger(
            seq("<|function_call|>", ws(), CALL_JSON),
            Scan(after=("<|message_sep|>", "</s>"), breaks=("<|function_call|>",)),
        ),
    ),
    Literals(section_open="<|function_call|>", parallel=False),
    sections=(Section(lit("<|message_sep|>")),),
    results=Results("{content}"),
)

_MODEL = seq("<|message_model|>", opt(name("_to")))
INKLING = Dialect(
    "inkling",
    (
        Trigger(
            seq(opt(_MODEL), "<|content_invoke_tool_json|>", ws(), CALL_JSON),
            Scan(closes=("<|end_message|>",), keys=Keys("name", "args")),
        ),
    ),
    Literals(
        call_open="<|content_invoke_tool_json|>",
        after_name='", "args": ',
        call_close="<|end_message|>",
        separator="<|message_model|>",
    ),
    reasoning=(Reasoning(seq(opt(_MODEL), "<|content_thinking|>"), lit("<|end_message|>")),),
    sections=(
        Section(
            alt(
                seq(_MODEL, "<|content_text|>"), "<|content_text|>", "<|end_message|>", "<|content_model_end_sampling|>"
            )
        ),
    ),
    results=Results("<|content_tool_result|>{content}<|end_message|>"),
)


def _plamo(word: str) -> str:
    return f"<|plamo:{word}:plamo|>"


_PLAMO_ARGUMENTS = _plamo("begin_tool_arguments")
PLAMO3 = Dialect(
    "plamo3",
    (
        *named_call(
            seq(
                opt(_plamo("begin_tool_requests"), ws()),
                opt(_plamo("begin_tool_request"), ws()),
                _plamo("begin_tool_name"),
                ws(),
                name(),
                ws(),
                _plamo("end_tool_name"),
                ws(),
                _PLAMO_ARGUMENTS,
                opt("<|plamo:constrain|>", chars("[a-z]", 1, 16)),
                opt("<|plamo:msg|>"),
                ws(),
            ),
            Scan(
                closes=(
                    _plamo("end_tool_arguments") + _plamo("end_tool_request"),
                    _plamo("end_tool_arguments"),
                ),
                after=(_plamo("end_tool_requests"),),
                breaks=(_plamo("begin_tool_name"), _plamo("begin_tool_request")),
            ),
        ),
    ),
    Literals(
        section_open=_plamo("begin_tool_requests"),
        call_open=_plamo("begin_tool_request") + _plamo("begin_tool_name"),
        before_name="",
        after_name=_plamo("end_tool_name") + _PLAMO_ARGUMENTS + "<|plamo:constrain|>json<|plamo:msg|>",
        after_arguments="",
        call_close=_plamo("end_tool_arguments") + _plamo("end_tool_request"),
        section_close=_plamo("end_tool_requests"),
    ),
    reasoning=(between(_plamo("begin_think"), _plamo("end_think")),),
    sections=(Section(lit("<|plamo:tag|>")),),
    results=Results("{content}"),
)

SOLAR_OPEN = Dialect(
    "solar_open",
    (
        *named_call(
            seq(
                opt("<|begin|>assistant"),
                opt("<|tool_calls|>", ws()),
                "<|tool_call:begin|>",
                chars(r"[^<>\s]", 0, 64, group="id"),
                "<|tool_call:name|>",
                ws(),
                name(),
                ws(),
                "<|tool_call:args|>",
                ws(),
            ),
            Scan(closes=("<|tool_call:end|>",), after=("<|calls|>", "<|end|>"), breaks=("<|tool_call:begin|>",)),
        ),
    ),
    Literals(
        section_open="<|tool_calls|>",
        call_open="<|tool_call:begin|>{id}<|tool_call:name|>",
        before_name="",
        after_name="<|tool_call:args|>",
        after_arguments="",
        call_close="<|tool_call:end|>",
        id_pattern="[a-zA-Z0-9_-]{1,64}",
    ),
    reasoning=(
        Reasoning(
            seq(opt("<|begin|>assistant"), "<|think|>"),
            alt("<|end|>", look("<|begin|>assistant", "<|content|>", "<|tool_calls|>")),
        ),
    ),
    sections=(
        Section(alt(seq(opt("<|begin|>assistant"), "<|content|>"), "<|end|>", "<|flush|>", "<|begin|>assistant")),
    ),
    results=Results(
        "<|tool_response:begin|>{id}<|tool_response:name|>{name}<|tool_response:result|>{content}<|tool_response:end|>",
        "",
    ),
)
