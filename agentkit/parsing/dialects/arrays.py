"""A JSON list of calls after a marker: Jamba, Hunyuan, Apriel, MiniMax-M1, Nemotron Nano v2, Phi-4-mini, functools."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Reasoning, Results, Section, Trigger
from agentkit.parsing.dialects.common import CALL_JSON
from agentkit.parsing.patterns import alt, lit, look, seq, ws


def listed(opening: str, closing: str) -> tuple[Trigger, ...]:
    """The trigger of a list between two markers."""
    return (
        Trigger(seq(opening, ws(), look("[")), Scan(closes=(closing,), breaks=(opening,))),
        Trigger(seq(opening, ws(), look("{")), Scan(closes=(closing,), until_close=True, breaks=(opening,))),
    )


_TOOL_CALLS = Literals(section_open="<tool_calls>[", separator=", ", section_close="]</tool_calls>")

JAMBA = Dialect("jamba", listed("<tool_calls>", "</tool_calls>"), _TOOL_CALLS)

HUNYUAN = Dialect(
    "hunyuan",
    listed("<tool_calls>", "</tool_calls>"),
    _TOOL_CALLS,
    sections=(Section(alt("<answer>", "</answer>")),),
)

APRIEL = Dialect(
    "apriel",
    listed("<tool_calls>", "</tool_calls>"),
    _TOOL_CALLS,
    reasoning=(
        Reasoning(
            lit("Here are my reasoning steps:"),
            alt("[BEGIN FINAL RESPONSE]", look("<tool_calls>[")),
            line_start=True,
        ),
    ),
    sections=(Section(alt("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]", "<|end|>")),),
    results=Results("<|tool_result|>{content}"),
)

MINIMAX_M1 = Dialect(
    "minimax_m1",
    listed("<tool_calls>", "</tool_calls>"),
    Literals(section_open="<tool_calls>\n", separator="\n", section_close="\n</tool_calls>"),
)

NEMOTRON_NANO = Dialect(
    "nemotron_nano",
    listed("<TOOLCALL>", "</TOOLCALL>"),
    Literals(section_open="<TOOLCALL>[", separator=", ", section_close="]</TOOLCALL>"),
    results=Results("{content}", separator=", ", open="<TOOL_RESPONSE>[", close="]</TOOL_RESPONSE>"),
)

PHI4_MINI = Dialect(
    "phi4_mini",
    (Trigger(seq("<|tool_call|>", ws(), CALL_JSON), Scan(closes=("<|/tool_call|>",), breaks=("<|tool_call|>",))),),
    Literals(section_open="<|tool_call|>[", separator=", ", section_close="]<|/tool_call|>"),
    results=Results("<|tool_response|>{content}<|/tool_response|>"),
)

FUNCTOOLS = Dialect(
    "functools",
    (Trigger(seq("functools", ws(), look("[", "{")), Scan(), after_space=True),),
    Literals(section_open=" functools[", separator=", ", section_close="]"),
    results=Results("{content}"),
)
