"""What several dialects share."""

from __future__ import annotations

from agentkit.parsing.dialects.base import Reasoning
from agentkit.parsing.patterns import Pattern, alt, chars, lit, look, name, opt, seq, ws

__all__ = ["CALL_JSON", "HYPHEN_SUFFIX", "OBJECT", "THINK", "between", "python_call"]

CALL_JSON: Pattern = look("{", "[")
"""A call's JSON, or a list of them, begins."""

OBJECT: Pattern = look("{")
"""The arguments begin."""

HYPHEN_SUFFIX: Pattern = opt(":", chars(r"[\w]", 1, 32))
"""Some checkpoints put a suffix into their tags: ``<tool_call:opensource>``."""


def between(opening: str, closing: str) -> Reasoning:
    """Reasoning between two literals."""
    return Reasoning(lit(opening), lit(closing))


THINK = Reasoning(
    alt(seq("<think", HYPHEN_SUFFIX, ">"), "<thinking>", "<thought>", "◁think▷", "<mm:think>"),
    alt(seq("</think", HYPHEN_SUFFIX, ">"), "</thinking>", "</thought>", "◁/think▷", "</mm:think>"),
)
"""Read in every dialect: most models that reason use it, whatever their calls look like."""


def python_call(*openings: str) -> Pattern:
    """A call in Python's notation begins, after one of these."""
    return look(seq(alt(*openings), ws(), name(group="_py"), "(") if openings else seq(name(group="_py"), "("))
