"""What several dialects share."""

from __future__ import annotations

from dataclasses import replace

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Reasoning, Trigger
from agentkit.parsing.patterns import Pattern, alt, chars, lit, look, name, opt, seq, ws

__all__ = ["ANYTHING", "CALL_JSON", "HYPHEN_SUFFIX", "OBJECT", "THINK", "between", "named_call", "python_call"]

CALL_JSON: Pattern = look("{", "[")
"""A call's JSON, or a list of them, begins."""

OBJECT: Pattern = look("{")
"""The arguments begin."""

ANYTHING: Pattern = look(chars(r"[^\s<{]", 1, 1))
"""Something else stands where the arguments should: a string, a number, garbage."""


def named_call(
    head: Pattern, scan: Scan, *, known: bool = False, line_start: bool = False, turn_start: bool = False
) -> tuple[Trigger, Trigger]:
    """Triggers of a call whose name stands in ``head``: arguments as an object, and whatever else a model may write.

    ``known``: the latter only if the name is a tool's, where ordinary text could look like the head.
    """
    loose = replace(scan, until_close=True)
    return (
        Trigger(seq(head, OBJECT), scan, line_start=line_start, turn_start=turn_start),
        Trigger(seq(head, ANYTHING), loose, line_start=line_start, turn_start=turn_start, known=known, named_only=True),
    )


HYPHEN_SUFFIX: Pattern = opt(":", chars(r"[\w]", 1, 32))
"""Some checkpoints put a suffix into their tags: ``<tool_call:opensource>``."""


def between(opening: str, closing: str) -> Reasoning:
    """Reasoning between two literals."""
    return Reasoning(lit(opening), lit(closing))


THINK = Reasoning(
    alt(seq("<think", HYPHEN_SUFFIX, ">"), "<thinking>", "<thought>", "◁think▷", "<mm:think>"),
    alt(seq("</think", HYPHEN_SUFFIX, ">"), "</thinking>", "</thought>", "◁/think▷", "</mm:think>"),
    line_start=True,
)
"""Read in every dialect: most models that reason use it, whatever their calls look like."""


def python_call(*openings: str) -> Pattern:
    """A call in Python's notation begins, after one of these."""
    return look(seq(alt(*openings), ws(), name(group="_py"), "(") if openings else seq(name(group="_py"), "("))
