"""Patterns that can also say "not yet": does the text so far begin something that more text could complete?

`re` cannot answer that, so a pattern here carries a second expression that matches every proper beginning of it.
Every run is bounded, so a pattern never holds back more than a few hundred characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

__all__ = ["Pattern", "PatternSet", "alt", "chars", "group", "lit", "look", "name", "opt", "seq", "ws"]

SPACES = 256
"""Whitespace that may stand inside a marker; more of it is not one."""

NAME_CHARS = r"[^\s<>{}\[\]()\"'`|=,;✿]"
NAME_LENGTH = 128
_KEY = 3
"""Characters by which patterns are looked up."""


@dataclass(frozen=True)
class Pattern:
    """A regular expression, and one for its beginnings (to be followed by the end of the text).

    ``prefixes`` are literals, one of which every match begins with; None if there are none. ``empty`` says whether it
    can match nothing.
    """

    full: str
    begin: str
    prefixes: frozenset[str] | None = None
    empty: bool = False

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The full expression."""
        return re.compile(self.full)

    @cached_property
    def beginning(self) -> re.Pattern[str]:
        """Matches where the text ends before the pattern is sure to."""
        return re.compile(rf"(?:{anonymous(self.begin)})\Z")

    @property
    def first(self) -> frozenset[str]:
        """The characters that it can begin with, as far as they are known."""
        return frozenset(prefix[0] for prefix in self.prefixes or ())


def lit(text: str) -> Pattern:
    """Exactly this text."""
    begin = ""
    for char in reversed(text[:-1]):
        begin = f"(?:{re.escape(char)}{begin})?"
    return Pattern(re.escape(text), begin, frozenset({text}))


def alt(*options: str | Pattern) -> Pattern:
    """One of these; the earliest wins."""
    patterns = [_pattern(option) for option in options]
    if len(patterns) == 1:
        return patterns[0]
    return Pattern(
        f"(?:{'|'.join(pattern.full for pattern in patterns)})",
        f"(?:{'|'.join(pattern.begin for pattern in patterns)})",
        _union(patterns),
        any(pattern.empty for pattern in patterns),
    )


def chars(allowed: str, least: int = 1, most: int = NAME_LENGTH, group: str = "") -> Pattern:
    """A run of characters of a class, ``[...]`` as in a regular expression."""
    full = f"{allowed}{{{least},{most}}}"
    return Pattern(f"(?P<{group}>{full})" if group else full, f"{allowed}{{0,{most}}}", None, least == 0)


def group(name: str, *parts: str | Pattern) -> Pattern:
    """These, remembered under a name."""
    inner = seq(*parts)
    return Pattern(f"(?P<{name}>{inner.full})", inner.begin, inner.prefixes, inner.empty)


def ws(least: int = 0) -> Pattern:
    """Whitespace."""
    return chars(r"\s", least, SPACES)


def name(group: str = "name", *, plain: bool = False) -> Pattern:
    """A tool's name: no spaces, quotes or brackets; as short as what follows allows. ``plain``: no colon either."""
    allowed = NAME_CHARS.replace(";", ";:") if plain else NAME_CHARS
    return Pattern(f"(?P<{group}>{allowed}{{1,{NAME_LENGTH}}}?)", f"{allowed}{{0,{NAME_LENGTH}}}")


def opt(*parts: str | Pattern) -> Pattern:
    """These, or nothing."""
    inner = seq(*parts)
    return Pattern(f"(?:{inner.full})?", inner.begin, inner.prefixes, True)


def look(*options: str | Pattern) -> Pattern:
    """Followed by one of these, which stay unread."""
    inner = alt(*options)
    return Pattern(f"(?={inner.full})", inner.begin, inner.prefixes, False)


def seq(*parts: str | Pattern) -> Pattern:
    """One after another."""
    patterns = [_pattern(part) for part in parts]
    begin = patterns[-1].begin
    for pattern in reversed(patterns[:-1]):
        begin = f"(?:{pattern.begin}|{anonymous(pattern.full)}{begin})"
    until_solid: list[Pattern] = []
    for pattern in patterns:
        until_solid.append(pattern)
        if not pattern.empty:
            break
    full = "".join(pattern.full for pattern in patterns)
    return Pattern(full, begin, _union(until_solid), all(pattern.empty for pattern in patterns))


def anonymous(expression: str) -> str:
    """Without group names, which may occur only once in an expression."""
    return re.sub(r"\(\?P<\w+>", "(?:", expression)


def _pattern(given: str | Pattern) -> Pattern:
    return lit(given) if isinstance(given, str) else given


def _union(patterns: Sequence[Pattern]) -> frozenset[str] | None:
    found: frozenset[str] = frozenset()
    for pattern in patterns:
        if pattern.prefixes is None:
            return None
        found |= pattern.prefixes
    return found


class PatternSet:
    """Several patterns tried at one place; the earliest in order wins."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = list(patterns)
        self._always: list[tuple[int, str]] = []  # may begin with anything, or with a literal too short to look up
        self._by_key: dict[str, list[tuple[int, str]]] = {}
        for index, pattern in enumerate(patterns):
            for prefix in sorted(pattern.prefixes) if pattern.prefixes else [""]:
                if len(prefix) < _KEY:
                    self._always.append((index, prefix))
                else:
                    self._by_key.setdefault(prefix[:_KEY], []).append((index, prefix))

    def match(self, text: str, at: int, final: bool) -> tuple[int, re.Match[str]] | bool:
        """What begins at ``at``: (index, match). True: more text is needed to say. False: nothing.

        With ``final`` no more text will come. The answer never depends on where the text was cut: a match is only
        given once no further text could make it longer, or make an earlier pattern win.
        """
        for index in self._candidates(text, at):
            pattern = self._patterns[index]
            match = pattern.compiled.match(text, at)
            if not final and pattern.beginning.match(text, at):
                return True
            if match:
                return index, match
        return False

    def _candidates(self, text: str, at: int) -> list[int]:
        """The patterns with a literal that stands here, or that the text ends in the middle of."""
        key = text[at : at + _KEY]
        if len(key) == _KEY:
            listed: Iterator[tuple[int, str]] = chain(self._always, self._by_key.get(key, ()))
        else:
            listed = chain(self._always, *(found for start, found in self._by_key.items() if start.startswith(key)))
        rest = len(text) - at
        found = {
            index
            for index, prefix in listed
            if text.startswith(prefix, at) or (rest < len(prefix) and prefix.startswith(text[at:]))
        }
        return sorted(found)
