"""Pieces of a grammar in llguidance's dialect of Lark (its ``docs/syntax.md``)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

__all__ = ["ANY_TEXT", "Rules", "Specials", "compiles", "escaped", "members", "overlap", "quoted"]

ANY_TEXT: Final = "/(?s:.*)/"
"""Any text, as an expression."""


def quoted(text: str) -> str:
    """A text as a literal of the grammar."""
    return json.dumps(text)


def escaped(text: str) -> str:
    """A text inside a regular expression of the grammar: between slashes, in the syntax of Rust."""
    return "".join(map(_escaped_character, text))


def _escaped_character(char: str) -> str:
    if char.isalnum() or char in "_<>" or not char.isascii():
        return char
    return rf"\x{ord(char):02x}" if char.isspace() or not char.isprintable() else f"\\{char}"


@lru_cache(maxsize=4096)
def compiles(terminal: str) -> bool:
    """Whether a terminal is one that llguidance can compile: not every regular expression of a schema is."""
    from llguidance import LLMatcher

    return not LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(f"start: T\nT: {terminal}"))


@lru_cache(maxsize=4096)
def overlap(first: str, second: str) -> bool:
    """Whether there is a text that two regular expressions match. Both must compile."""
    from llguidance import LLMatcher, LLTokenizer

    both = LLMatcher.grammar_from_lark(f"start: T\nT: /{first}/ & /{second}/")
    matcher = LLMatcher(LLTokenizer("byte"), both, log_level=0)
    matcher.compute_bitmask()
    return not matcher.is_stopped()


class Rules:
    """Rules and terminals by name. The same definition gets the same name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._names: dict[str, str] = {}
        self._definitions: dict[str, str] = {}

    def rule(self, definition: str) -> str:
        """The name of a rule."""
        return self._named(definition, str.lower)

    def terminal(self, definition: str) -> str:
        """The name of a terminal: one regular expression for the lexer, put together from parts."""
        return self._named(definition, str.upper)

    def reserve(self) -> str:
        """The name of a rule that is yet to be defined, since its definition may refer to it."""
        name = f"{self._prefix}_{len(self._definitions)}".lower()
        self._definitions[name] = ""
        return name

    def define(self, name: str, definition: str) -> None:
        """Define what was reserved."""
        self._definitions[name] = definition

    def items(self) -> tuple[tuple[str, str], ...]:
        """Names and definitions."""
        return tuple(self._definitions.items())

    def _named(self, definition: str, case: Callable[[str], str]) -> str:
        if definition not in self._names:
            name = case(f"{self._prefix}_{len(self._definitions)}")
            self._names[definition] = name
            self._definitions[name] = definition
        return self._names[definition]


def members(
    rules: Rules, items: Sequence[tuple[str, bool]], separator: str, more: str = "", *, empty: bool = True
) -> str:
    """Items in their order with a separator between; those that are not required may be left out.

    Args:
        items: each item's symbols, and whether it is required.
        more: the symbols of what may follow any number of times.
        empty: whether nothing at all is allowed where nothing is required.
    """
    behind = [f"({separator} {more})*" if more else ""]  # what may follow once an item is written
    for item, required in reversed(items):
        piece = f"{separator} {item}" if required else f"({separator} {item})?"
        behind.append(rules.rule(f"{piece} {behind[-1]}"))
    first = f"{more} {behind[0]}" if more else ""
    if first and empty:
        first = f"({first})?"
    for (item, required), then in zip(reversed(items), behind, strict=False):
        begun = f"{item} {then}"
        if required:
            first = begun
        elif first:
            first = rules.rule(f"{begun} | {first}")
        else:
            first = f"({begun})?" if empty else begun
    return first


@dataclass(frozen=True)
class Specials:
    """The special tokens that occur in some literals: they are matched by their ids, since text never becomes one."""

    ids: tuple[tuple[str, int], ...]

    @classmethod
    def within(cls, literals: Iterable[str], vocabulary: Mapping[str, int]) -> Specials:
        """Those that any of these literals holds."""
        text = "\0".join(literals)
        found = [(special, id) for special, id in vocabulary.items() if special and special in text]
        return cls(tuple(sorted(found, key=lambda item: (-len(item[0]), item[0]))))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("(" + "|".join(re.escape(special) for special, _ in self.ids) + ")" if self.ids else "(?!)()")

    def split(self, literal: str) -> tuple[str, str]:
        """What stands before the first special token, and the rest."""
        found = self._pattern.search(literal)
        at = found.start() if found else len(literal)
        return literal[:at], literal[at:]

    def first(self, literal: str) -> tuple[str, int] | None:
        """The special token that a literal begins with, and its id."""
        found = self._pattern.match(literal)
        return (found[0], dict(self.ids)[found[0]]) if found else None

    def symbols(self, literal: str, holes: Mapping[str, str] | None = None) -> str:
        """A literal as symbols of the grammar. ``holes``: symbols for placeholders in it."""
        ids = dict(self.ids)
        found = []
        for piece in self._pieces(literal, holes or {}):
            if holes and piece in holes:
                found.append(holes[piece])
            else:
                found.append(f"<[{ids[piece]}]>" if piece in ids else quoted(piece))
        return " ".join(found)

    def _pieces(self, literal: str, holes: Mapping[str, str]) -> Iterable[str]:
        marks = [*(special for special, _ in self.ids), *holes]
        if not marks:
            return [literal] if literal else []
        return filter(None, re.split("(" + "|".join(map(re.escape, marks)) + ")", literal))
