"""``<tool_call>{"name": …, "arguments": …}</tool_call>``: Hermes 2/3, Qwen 2.5/3, QwQ, Granite 4, LongCat, …

Sources: the models' chat templates; Granite 3 has no closing marker, Granite 20B-FC one marker of its own.
"""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.bare import FIRST_KEY
from agentkit.parsing.dialects.base import Dialect, Literals, Reasoning, Results, Trigger
from agentkit.parsing.dialects.common import CALL_JSON
from agentkit.parsing.patterns import Pattern, alt, chars, lit, look, seq, ws


def block(tag: str, *, extra: tuple[str, ...] = ()) -> tuple[Trigger, ...]:
    """Triggers of JSON between a tag and its close; also of JSON in a fence between them."""
    opening: Pattern = alt(f"<{tag}>", *extra)
    close = f"</{tag}>"
    return (
        Trigger(seq(opening, ws(), CALL_JSON), Scan(closes=(close,), breaks=(f"<{tag}>",))),
        Trigger(
            seq(opening, ws(), "```", chars("[a-z_]", 0, 16), ws(), CALL_JSON),
            Scan(closes=(f"```\n{close}", f"```{close}", close, "```"), breaks=(f"<{tag}>",)),
            repairs=("markdown_fence",),
        ),
        Trigger(
            seq(opening, ws(), r"\n", ws(), CALL_JSON),
            Scan(closes=(close,), breaks=(f"<{tag}>",)),
            repairs=("literal_newlines",),
        ),
        Trigger(
            seq(opening, chars(r"[^<>{}\[\]`\"|]", 1, 200), look(seq("{", ws(), FIRST_KEY))),
            Scan(closes=(close,), breaks=(f"<{tag}>",)),
            strict=True,
            repairs=("surrounding_prose",),
        ),
    )


HERMES = Dialect(
    "hermes",
    block("tool_call"),
    Literals(call_open="<tool_call>\n", call_close="\n</tool_call>", separator="\n"),
)

LONGCAT = Dialect(
    "longcat",
    block("longcat_tool_call"),
    Literals(call_open="<longcat_tool_call>\n", call_close="\n</longcat_tool_call>", separator="\n"),
    reasoning=(Reasoning(lit("<longcat_think>"), lit("</longcat_think>")),),
)

_GRANITE_OPENINGS = ("<|tool_call|>", "<tool_call>")
GRANITE = Dialect(
    "granite",
    (
        Trigger(seq(alt(*_GRANITE_OPENINGS), ws(), look("[")), Scan(after=("</tool_call>", "<|/tool_call|>"))),
        *block("tool_call", extra=("<|tool_call|>",)),
    ),
    Literals(section_open="<|tool_call|>[", separator=", ", section_close="]"),
    reasoning=(
        Reasoning(lit("Here is my thought process:"), lit("Here is my response:"), line_start=True),
        Reasoning(lit("Here's my thought process:"), lit("Here's my response:"), line_start=True),
    ),
    results=Results("<|start_of_role|>tool_response<|end_of_role|>{content}<|end_of_text|>"),
)

GRANITE_20B = Dialect(
    "granite_20b",
    (Trigger(seq("<function_call>", ws(), CALL_JSON), Scan(after=("</function_call>",))),),
    Literals(call_open="<function_call> ", separator=" "),
    results=Results("<function_response>{content}"),
)
