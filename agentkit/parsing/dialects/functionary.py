"""Functionary: v2 (recipients), v3.1 (``<function=f>{…}</function>``), v3.2 (``>>>f``).

The prompt of v3.2 already ends in ``>>>``, so a turn begins with a name.
"""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Results, Section, Trigger
from agentkit.parsing.dialects.common import OBJECT
from agentkit.parsing.patterns import alt, chars, lit, name, opt, seq, ws

FUNCTIONARY_V2 = Dialect(
    "functionary_v2",
    (
        Trigger(
            seq(opt("<|from|>assistant\n"), "<|recipient|>", ws(), name(), ws(), "<|content|>", ws(), OBJECT),
            Scan(after=("<|stop|>",), breaks=("<|recipient|>", "<|from|>")),
        ),
        Trigger(seq(name(), ws(), "<|content|>", ws(), OBJECT), Scan(breaks=("<|from|>",)), turn_start=True),
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

FUNCTIONARY_V31 = Dialect(
    "functionary_v31",
    (
        Trigger(
            seq("<function", ws(), "=", ws(), chars("[\"']", 0, 1), name(), chars("[\"']", 0, 1), ">", ws(), OBJECT),
            Scan(closes=("</function>",), breaks=("<function=",)),
        ),
    ),
    Literals(call_open="<function=", before_name="", after_name=">", after_arguments="", call_close="</function>"),
    results=Results("{content}"),
)

FUNCTIONARY_V32 = Dialect(
    "functionary_v32",
    (
        Trigger(
            seq(">>>", ws(), name(), chars(r"[ \t]", 0, 8), "\n", ws(), OBJECT), Scan(breaks=(">>>",)), line_start=True
        ),
        Trigger(seq(">>>", name(), "\n", ws(), OBJECT), Scan(breaks=(">>>",))),
        Trigger(seq(name(), chars(r"[ \t]", 0, 8), "\n", ws(), OBJECT), Scan(breaks=(">>>",)), turn_start=True),
    ),
    Literals(call_open=">>>", before_name="", after_name="\n", after_arguments=""),
    sections=(Section(lit(">>>all\n")), Section(lit("all\n"), turn_start=True)),
    results=Results("{content}"),
)
