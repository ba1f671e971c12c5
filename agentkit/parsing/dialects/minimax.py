"""MiniMax M2: ``<invoke name="f">``. M3: the parameter's name is the tag, tags nest, each behind ``]<]minimax[>[``."""

from __future__ import annotations

from agentkit.parsing.dialects.base import Dialect, Results, TagForm, Trigger
from agentkit.parsing.patterns import chars, opt, seq, ws
from agentkit.parsing.tags import Tags, attribute_tag, next_invoke

MINIMAX_M2 = Dialect(
    "minimax_m2",
    (
        Trigger(
            seq(opt("<minimax:tool_call>", ws()), attribute_tag("<invoke", "name", "name"), ws()),
            Tags(
                param_open=attribute_tag("<parameter", "name", "key"),
                param_close=("</parameter>",),
                call_close=("</invoke>",),
                after=("</minimax:tool_call>", "</dots_function_call>"),
                call_open=(next_invoke("<minimax:tool_call>", "<invoke", "<parameter", "</invoke>"),),
            ),
        ),
    ),
    TagForm(
        section_open="<minimax:tool_call>\n",
        call_open='<invoke name="{name}">\n',
        param='<parameter name="{key}">{value}</parameter>\n',
        call_close="</invoke>\n",
        section_close="</minimax:tool_call>",
    ),
    results=Results("<response>{content}</response>"),
)

_NS = "]<]minimax[>["
MINIMAX_M3 = Dialect(
    "minimax_m3",
    (
        Trigger(
            seq(opt(f"{_NS}<tool_call>", ws()), attribute_tag(f"{_NS}<invoke", "name", "name"), ws()),
            Tags(
                param_open=seq(_NS, chars(" ", 0, 4), "<", chars(r"[^<>/\s]", group="key"), ">"),
                param_close=(),
                close_prefix=_NS,
                call_close=(f"{_NS}</invoke>",),
                after=(f"{_NS}</tool_call>",),
                call_open=(next_invoke(f"{_NS}<tool_call>", f"{_NS}<invoke", f"{_NS}<"),),
            ),
        ),
    ),
    TagForm(
        section_open=f"{_NS}<tool_call>\n",
        call_open=f'{_NS}<invoke name="{{name}}">',
        param=f"{_NS}<{{key}}>{{value}}{_NS}</{{key}}>",
        call_close=f"{_NS}</invoke>\n",
        section_close=f"{_NS}</tool_call>",
        nested=_NS,
    ),
    results=Results("<response>{content}</response>"),
)
