"""DeepSeek: V3 and R1 (a fence), V3.1 (none), V3.2 to V4.1 (DSML tags); GigaChat 3.5 (the same tags, named GCML)."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Results, TagForm, Trigger
from agentkit.parsing.dialects.common import named_call
from agentkit.parsing.patterns import Pattern, alt, chars, name, opt, seq, ws
from agentkit.parsing.tags import Tags, attribute_tag, next_invoke

_CALLS_OPEN, _CALLS_CLOSE = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL_OPEN, _CALL_CLOSE, _SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
_HEAD = seq(opt(_CALLS_OPEN, ws()), _CALL_OPEN, ws())
_FENCE = opt("```", chars("[a-z]", 0, 8), ws())
_FENCED = (f"```{_CALL_CLOSE}", f"```\n{_CALL_CLOSE}", _CALL_CLOSE, "```")
_SCAN = Scan(closes=_FENCED, after=(_CALLS_CLOSE,), breaks=(_CALL_OPEN,))
_TRIGGERS = (
    *named_call(seq(_HEAD, "function", _SEP, ws(), name(), ws(1), _FENCE), _SCAN),
    *named_call(seq(_HEAD, name(), _SEP, ws(), _FENCE), _SCAN),
)

DEEPSEEK_V3 = Dialect(
    "deepseek_v3",
    _TRIGGERS,
    Literals(
        section_open=_CALLS_OPEN,
        call_open=_CALL_OPEN + "function" + _SEP,
        before_name="",
        after_name="\n```json\n",
        after_arguments="\n```",
        call_close=_CALL_CLOSE,
        separator="\n",
        section_close=_CALLS_CLOSE,
    ),
    results=Results(
        "<｜tool▁output▁begin｜>{content}<｜tool▁output▁end｜>",
        "\n",
        "<｜tool▁outputs▁begin｜>",
        "<｜tool▁outputs▁end｜>",
    ),
)

DEEPSEEK_V31 = Dialect(
    "deepseek_v31",
    _TRIGGERS,
    Literals(
        section_open=_CALLS_OPEN,
        call_open=_CALL_OPEN,
        before_name="",
        after_name=_SEP,
        after_arguments="",
        call_close=_CALL_CLOSE,
        section_close=_CALLS_CLOSE,
    ),
    results=Results("<｜tool▁output▁begin｜>{content}<｜tool▁output▁end｜>", ""),
)


def _markup(language: str) -> Trigger:
    """The trigger of ``<｜DSML｜invoke name="f">`` and its cousins; V4.1 puts a space before each tag's name."""

    def tag(slash: str, *names: str) -> Pattern:
        return seq(f"<{slash}｜{language}｜", opt(" "), alt(*names), ">")

    section = ("function_calls", "tool_calls", "toolcalls", "calls", "tool")
    opening = alt(f"<｜{language}｜invoke", f"<｜{language}｜ invoke")
    parameter = alt(f"<｜{language}｜parameter", f"<｜{language}｜ parameter")
    return Trigger(
        seq(opt(tag("", *section), ws()), attribute_tag(opening, "name", "name"), ws()),
        Tags(
            param_open=attribute_tag(parameter, "name", "key"),
            param_close=(tag("/", "parameter"),),
            call_close=(tag("/", "invoke"),),
            after=(tag("/", *section),),
            call_open=(next_invoke(tag("", *section), opening, alt(parameter, tag("/", "invoke"))),),
            typed="string",
        ),
    )


def _form(language: str, section: str) -> TagForm:
    return TagForm(
        section_open=f"<｜{language}｜{section}>\n",
        call_open=f'<｜{language}｜invoke name="{{name}}">\n',
        param=f'<｜{language}｜parameter name="{{key}}" string="{{string}}">{{value}}</｜{language}｜parameter>\n',
        call_close=f"</｜{language}｜invoke>\n",
        section_close=f"</｜{language}｜{section}>",
        never_raw=(f"<｜{language}｜ ", f"</｜{language}｜ "),
    )


DEEPSEEK_DSML = Dialect(
    "deepseek_dsml",
    (_markup("DSML"),),
    _form("DSML", "function_calls"),
    results=Results("<result>{content}</result>", "\n", "<function_results>\n", "\n</function_results>"),
)

GIGACHAT35 = Dialect("gigachat35", (_markup("GCML"),), _form("GCML", "tool_calls"))
