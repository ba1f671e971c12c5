"""Reasoning before the calls or the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentkit.constrain.lark import Specials, escaped, quoted

__all__ = ["ReasoningMarks"]

_KNOWN: Final = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))

_CHARACTERS: Final = 4
"""Characters that count as a token where tokens cannot be counted."""

_BEGINNINGS: Final = 4
"""Beginnings of the closing mark that may stand side by side."""


@dataclass(frozen=True)
class ReasoningMarks:
    """Between which literals a model reasons.

    Attributes:
        open: begins it, ``<think>`` for example.
        close: ends it.
        opened: the prompt has written ``open`` already: the turn begins inside.
        budget: tokens it may take; then ``close`` is all that can be written. None: no limit. Where ``close`` does
            not begin with a special token, four characters count as a token.
    """

    open: str = "<think>"
    close: str = "</think>"
    opened: bool = False
    budget: int | None = None

    @classmethod
    def of(cls, template: str, prompt_end: str, budget: int | None = None) -> ReasoningMarks | None:
        """How a model reasons in a turn; None if its chat template knows no such marks, or the prompt has closed them.

        Args:
            template: the template's source.
            prompt_end: the last characters of the prompt: it may have opened the reasoning, or closed it.
        """
        for open, close in _KNOWN:
            if open in template or close in template:
                if prompt_end.rstrip().endswith(close):
                    return None
                return cls(open, close, opened=prompt_end.rfind(open) > prompt_end.rfind(close), budget=budget)
        return None


def thought(marks: ReasoningMarks, vocabulary: Mapping[str, int], barred: set[int]) -> dict[str, str]:
    """The rules ``thought``, from ``open`` to ``close``, and what they need. No token of ``barred`` is in it."""
    specials = Specials.within([marks.open, marks.close], vocabulary)
    opening = "" if marks.opened else specials.symbols(marks.open)
    close = specials.first(marks.close)
    rules = {"GAP": r"/\s{1,4}/"}
    if close is None:
        before, rest = specials.split(marks.close)
        most = "*" if marks.budget is None else f"{{0,{_CHARACTERS * marks.budget}}}"
        rules["THOUGHT"] = f"/{_text_without(before, most)}/ {quoted(before)}"
        return rules | {"thought": f"{opening} THOUGHT {specials.symbols(rest)} GAP?"}
    most = "*" if marks.budget is None else f"{{0,{marks.budget}}}"
    others = ",".join(map(str, sorted({close[1], *barred})))
    return rules | {"thought": f"{opening} <[^{others}]>{most} {specials.symbols(marks.close)} GAP?"}


def _text_without(word: str, most: str) -> str:
    """An expression of texts without a word whose first character does not come again in it.

    The lexer could also intersect with a negation, but not count at the same time: that makes too many states. What
    begins like the word counts as one character.
    """
    begun = [escaped(word[:length]) for length in range(1, len(word))]
    ended = [f"{escaped(word[:length])}[^{escaped(word[0])}{escaped(word[length])}]" for length in range(1, len(word))]
    # Bounded too: a model that is cut short would write nothing but beginnings for ever.
    begins = f"({'|'.join(begun)}){{0,{_BEGINNINGS}}}" if begun else ""
    ends = f"|{begins}({'|'.join(ended)})" if ended else ""
    return f"([^{escaped(word[0])}]{ends}){most}{begins}"
