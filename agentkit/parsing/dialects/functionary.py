"""Functionary: v2 (recipients), v3.1 (``<function=f>{…}</function>``), v3.2 (``>>>f``).

The prompt of v3.2 already ends in ``>>>``, so a turn begins with a name.
"""

from __future__ import annotations

from dataclasses import replace

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Results, Section, Trigger
from agentkit.parsing.dialects.common import ANYTHING, OBJECT, named_call
from agentkit.parsing.patterns import Pattern, alt, chars, lit, name, opt, seq, ws

_NOT_ALL = Pattern(r"(?!all\s)", "", None, True)
"""``all`` is everybody, not a tool."""

FUNCTIONARY_V2 = Dialect(
    "functionary_v2",
    (
        *named_call(
            seq(opt("<|from|>assistant\n"), "<|recipient|>", ws(), _NOT_ALL, name(), ws(), "<|content|>", ws()),
            Scan(after=("<|stop|>",), breaks=("<|recipient|>", "<|from|>")),
        ),
        *named_call(seq(_NOT_ALL, name(), ws(), "<|content|>", ws()), Scan(breaks=("<|from|>",)), turn_start=True),
    ),
    Literals(
        call_open="<|from|>assistant\n<|recipient|>",
        before_name="",
        after_name="\n<|content|>",
        after_arguments="",
        separator="\n",
    ),
    sections=(
        Section(
            alt(seq(opt("<|from|>assistant\n"), "<|recipient|>", ws(), "all", ws(), "<|content|>"), "<|stop|>"),
        ),
        Section(seq("all", ws(), "<|content|>"), turn_start=True),
    ),
    results=Results("<|from|>{name}\n<|recipient|>all\n<|content|>{content}"),
)

_FUNCTION = seq("<function", ws(), "=", ws(), chars("[\"']", 0, 1), name(), chars("[\"']", 0, 1), ">")
_SCAN = Scan(closes=("</function>",), breaks=("<function=",))

FUNCTIONARY_V31 = Dialect(
    "functionary_v31",
    (
        Trigger(seq(_FUNCTION, ws(), OBJECT), _SCAN),
        Trigger(seq(_FUNCTION, ANYTHING), replace(_SCAN, until_close=True), named_only=True),
    ),
    Literals(call_open="<function=", before_name="", after_name=">", after_arguments="", call_close="</function>"),
    results=Results("{content}"),
)

FUNCTIONARY_V32 = Dialect(
    "functionary_v32",
    (
        *named_call(
            seq(">>>", ws(), _NOT_ALL, name(), chars(r"[ \t]", 0, 8), "\n", ws()),
            Scan(breaks=(">>>",)),
            known=True,
            line_start=True,
        ),
        Trigger(seq(">>>", name(), "\n", ws(), OBJECT), Scan(breaks=(">>>",))),
        *named_call(
            seq(_NOT_ALL, name(), chars(r"[ \t]", 0, 8), "\n", ws()), Scan(breaks=(">>>",)), known=True, turn_start=True
        ),
    ),
    Literals(call_open=">>>", before_name="", after_name="\n", after_arguments=""),
    sections=(Section(lit(">>>all\n")), Section(lit("all\n"), turn_start=True)),
    results=Results("{content}"),
)
