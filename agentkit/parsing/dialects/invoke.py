"""XML invocations under other names: MiniCPM5, dots, Muse, Step3."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Reasoning, Results, Section, TagForm, Trigger
from agentkit.parsing.dialects.common import CALL_JSON
from agentkit.parsing.patterns import alt, lit, name, opt, seq, ws
from agentkit.parsing.tags import Tags, attribute_tag, next_invoke

MINICPM5 = Dialect(
    "minicpm5",
    (
        Trigger(
            seq(attribute_tag("<function", "name", "name"), ws()),
            Tags(
                param_open=attribute_tag("<param", "name", "key"),
                param_close=("</param>",),
                call_close=("</function>",),
                call_open=(next_invoke("\n", "<function", "<param", "</function>"),),
                cdata=True,
            ),
        ),
    ),
    TagForm(
        call_open='<function name="{name}">',
        param='<param name="{key}">{value}</param>',
        call_close="</function>",
        separator="\n",
        never_raw=("<![CDATA[",),
    ),
)

DOTS = Dialect(
    "dots",
    (
        Trigger(
            seq("<dots_function_call>", ws(), attribute_tag("<invoke", "name", "name"), ws()),
            Tags(
                param_open=attribute_tag("<parameter", "name", "key"),
                param_close=("</parameter>",),
                call_close=("</invoke>",),
                after=("</dots_function_call>",),
                call_open=(next_invoke("<dots_function_call>", "<invoke", "<parameter", "</invoke>"),),
            ),
        ),
        Trigger(
            seq(attribute_tag("<invoke", "name", "name"), ws()),
            Tags(
                param_open=attribute_tag("<parameter", "name", "key"),
                param_close=("</parameter>",),
                call_close=("</invoke>",),
                after=("</dots_function_call>",),
                call_open=(next_invoke("<dots_function_call>", "<invoke", "<parameter", "</invoke>"),),
            ),
        ),
        Trigger(seq("<dots_function_call>", ws(), CALL_JSON), Scan(closes=("</dots_function_call>",))),
    ),
    TagForm(
        section_open="<dots_function_call>\n",
        call_open='<invoke name="{name}">\n',
        param='<parameter name="{key}">{value}</parameter>\n',
        call_close="</invoke>\n",
        section_close="</dots_function_call>",
    ),
)

_START = "<|start|>assistant"
_INVOKE = seq(opt("<atem:function_calls>", ws()), attribute_tag("<atem:invoke", "name", "name"), ws())
_ATEM = Tags(
    param_open=attribute_tag("<atem:parameter", "name", "key"),
    param_close=("</atem:parameter>",),
    call_close=("</atem:invoke>",),
    after=("</atem:function_calls>",),
    call_open=(next_invoke("<atem:function_calls>", "<atem:invoke", "<atem:parameter", "</atem:invoke>"),),
)
MUSE = Dialect(
    "muse",
    (
        Trigger(seq(_START, ws(), "to=", name("_to"), "<|message|>", ws(), _INVOKE), _ATEM),
        Trigger(seq("to=", name("_to"), "<|message|>", ws(), _INVOKE), _ATEM, line_start=True),
        Trigger(_INVOKE, _ATEM, turn_start=True),
    ),
    TagForm(
        section_open=" to=tools<|message|><atem:function_calls>\n",
        call_open='<atem:invoke name="{name}">\n',
        param='<atem:parameter name="{key}">{value}</atem:parameter>\n',
        call_close="</atem:invoke>\n",
        section_close="</atem:function_calls>",
    ),
    reasoning=(
        Reasoning(seq(_START, ws(), "to=self<|message|>"), alt("<|eom|>", "<|eot|>")),
        Reasoning(lit("to=self<|message|>"), alt("<|eom|>", "<|eot|>"), line_start=True),
    ),
    sections=(
        Section(seq(_START, ws(), opt("to=", name("_to")), "<|message|>")),
        Section(seq("to=", alt("user", "commentary"), "<|message|>"), line_start=True),
        Section(alt("<|eom|>", "<|eot|>")),
    ),
    results=Results("<atem:result>\n{content}\n</atem:result>"),
)

_HEAD = seq(
    opt("<｜tool_calls_begin｜>", ws()),
    "<｜tool_call_begin｜>",
    ws(),
    opt("function", ws()),
    opt("<｜tool_sep｜>", ws()),
)
STEP3 = Dialect(
    "step3",
    (
        Trigger(
            seq(_HEAD, attribute_tag("<steptml:invoke", "name", "name"), ws()),
            Tags(
                param_open=attribute_tag("<steptml:parameter", "name", "key"),
                param_close=("</steptml:parameter>",),
                call_close=("</steptml:invoke><｜tool_call_end｜>", "</steptml:invoke>"),
                after=("<｜tool_call_end｜>\n<｜tool_calls_end｜>", "<｜tool_calls_end｜>", "<｜tool_call_end｜>"),
                call_open=(
                    seq(_HEAD, next_invoke("\n", "<steptml:invoke", "<steptml:parameter", "</steptml:invoke>")),
                ),
            ),
        ),
    ),
    TagForm(
        section_open="<｜tool_calls_begin｜>\n",
        call_open='<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="{name}">',
        param='<steptml:parameter name="{key}">{value}</steptml:parameter>',
        call_close="</steptml:invoke><｜tool_call_end｜>\n",
        section_close="<｜tool_calls_end｜>",
    ),
)
