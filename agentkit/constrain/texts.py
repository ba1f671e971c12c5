"""Strings: raw ones, and what a schema says of any."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agentkit.constrain.lark import ANY_TEXT, Rules, Specials, compiles, escaped, overlap, quoted
from agentkit.constrain.schemas import Kind, text_patterns
from agentkit.messages import JsonObject

__all__ = ["COUNTED", "Never", "length_of", "length_terms", "patterns_of", "raw_text", "repeated"]

COUNTED: Final = 256
"""Characters up to which a length is counted together with something else."""


@dataclass(frozen=True)
class Never:
    """What a raw text cannot be.

    Attributes:
        expression: of such texts.
        mark: a character that each of them holds.
    """

    expression: str
    mark: str

    def within(self, pattern: str) -> bool:
        """Whether a text of this pattern could be one of them."""
        return overlap(pattern, f"(?s:.*){escaped(self.mark)}(?s:.*)")


def raw_text(kind: Kind, never: Never, close: str, specials: Specials, rules: Rules) -> str:
    """Symbols for a text that stands for itself, up to and including the literal that closes it.

    What its schema says besides is left to validation where it would make too many states for the lexer: a greatest
    length, and patterns that allow what ends the text.
    """
    before, rest = specials.split(close)
    values = kind.values
    if values is None:
        body = _body(kind.schema, never)
        may_be_empty = length_of(kind.schema)[0] == 0 and " & ~" in body
    else:
        texts = [str(value) for value in values if not re.fullmatch(never.expression, str(value))]
        body = " | ".join(map(quoted, texts)) or ANY_TEXT
        may_be_empty = "" in texts
    if not rest:
        return rules.terminal(f"({body}) {quoted(close)}")
    if before:
        return f"{rules.terminal(f'({body}) {quoted(before)}')} {specials.symbols(rest)}"
    text = rules.terminal(f"({body}) & /(?s:.+)/")
    return f"({text})? {specials.symbols(rest)}" if may_be_empty else f"{text} {specials.symbols(rest)}"


def _body(schema: JsonObject, never: Never) -> str:
    least, most = length_of(schema)
    patterns = [f"/{pattern}/" for pattern in patterns_of(schema) if not never.within(pattern)]
    if patterns:
        return " & ".join([*patterns, *length_terms(least, most)])
    return f"/(?s:.{repeated(min(least, COUNTED), None)})/ & ~/{never.expression}/"


def patterns_of(schema: JsonObject) -> list[str]:
    """What a string must match, as far as it can be compiled."""
    return [pattern for pattern in text_patterns(schema) if compiles(f"/{pattern}/")]


def length_terms(least: int, most: int | None) -> list[str]:
    """A length beside a pattern, unless it is too great to be counted."""
    if most is None or most > COUNTED:
        most = None
    return [f"/(?s:.{repeated(least, most)})/"] if 0 < least <= COUNTED or most is not None else []


def length_of(schema: JsonObject) -> tuple[int, int | None]:
    """A string's least and greatest length, in characters."""
    least, most = schema.get("minLength"), schema.get("maxLength")
    return least if isinstance(least, int) else 0, most if isinstance(most, int) else None


def repeated(least: int, most: int | None) -> str:
    """The quantifier of an expression."""
    return f"{{{least},{'' if most is None else most}}}" if least or most is not None else "*"
