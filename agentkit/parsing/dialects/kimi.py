"""Kimi K2: ids that name the tool. Kimi K3: everything is a channel between ``<|open|>`` and ``<|close|>``."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Results, Section, TagForm, Trigger
from agentkit.parsing.dialects.common import OBJECT, between
from agentkit.parsing.patterns import alt, chars, group, look, name, opt, seq, ws
from agentkit.parsing.tags import Tags, attribute_tag

_SECTION = alt("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")
_SECTION_CLOSE = ("<|tool_calls_section_end|>", "<|tool_call_section_end|>")
_ID = group("id", opt("functions."), name(), opt(":", chars("[0-9]", 1, 6)))

KIMI_K2 = Dialect(
    "kimi_k2",
    (
        Trigger(
            seq(
                opt(_SECTION, ws()),
                "<|tool_call_begin|>",
                ws(),
                _ID,
                ws(),
                "<|tool_call_argument_begin|>",
                ws(),
                OBJECT,
            ),
            Scan(closes=("<|tool_call_end|>",), after=_SECTION_CLOSE, breaks=("<|tool_call_begin|>",)),
        ),
        Trigger(
            seq(opt(_SECTION, ws()), "<|tool_call_begin|>", ws(), _ID, ws(), "<|tool_call_argument_begin|>"),
            Scan(
                closes=("<|tool_call_end|>",), after=_SECTION_CLOSE, breaks=("<|tool_call_begin|>",), until_close=True
            ),
        ),
    ),
    Literals(
        section_open="<|tool_calls_section_begin|>",
        call_open="<|tool_call_begin|>",
        before_name="functions.",
        after_name=":{index}<|tool_call_argument_begin|>",
        after_arguments="",
        call_close="<|tool_call_end|>",
        section_close="<|tool_calls_section_end|>",
    ),
    reasoning=(between("◁think▷", "◁/think▷"),),
    results=Results("## Return of {id}\n{content}"),
)


def _open(what: str) -> str:
    return f"<|open|>{what}<|sep|>"


def _close(what: str) -> str:
    return f"<|close|>{what}<|sep|>"


KIMI_K3 = Dialect(
    "kimi_k3",
    (
        Trigger(
            seq(opt(_open("tools"), ws()), attribute_tag("<|open|>call", "tool", "name", "<|sep|>"), ws()),
            Tags(
                param_open=attribute_tag("<|open|>argument", "key", "key", "<|sep|>"),
                param_close=(_close("argument"),),
                call_close=(_close("call"),),
                after=(_close("tools"),),
                call_open=(
                    seq(
                        attribute_tag("<|open|>call", "tool", "_next", "<|sep|>"),
                        ws(),
                        look("<|open|>argument", "<|close|>call"),
                    ),
                ),
                typed="type",
            ),
        ),
    ),
    TagForm(
        section_open=_open("tools"),
        call_open='<|open|>call tool="{name}" index="{number}"<|sep|>',
        param='<|open|>argument key="{key}" type="{type}"<|sep|>{value}<|close|>argument<|sep|>',
        call_close=_close("call"),
        section_close=_close("tools"),
    ),
    reasoning=(between(_open("think"), _close("think")),),
    sections=(
        Section(alt(_open("response"), _close("response"), _close("message"), _close("tools"), "<|end_of_msg|>")),
    ),
    results=Results('<|open|>message role="tool" tool="{name}"<|sep|>{content}<|close|>message<|sep|>', ""),
)
