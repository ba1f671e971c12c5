"""JSON in which quotes inside strings are not escaped: read only if there is exactly one way to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agentkit.messages import JsonObject, JsonValue
from agentkit.parsing.literals import MAX_DEPTH, LooseReader, Unreadable

__all__ = ["only_reading"]

AMBIGUOUS_LENGTH: Final = 20_000
"""Characters of a text whose every reading is tried."""

_NEXT_MEMBER = re.compile(r'"\s*[}\]]*\s*,\s*(?:"[^"]*"\s*:|[{\[])')


def only_reading(text: str, budget: int = 2_000) -> JsonValue:
    """The value, where quotes inside strings are not escaped, if exactly one reading exists.

    Raises:
        Unreadable: no reading, several, or too many attempts to find out.
    """
    if len(text) > AMBIGUOUS_LENGTH:
        raise Unreadable("too long to try every reading")
    readings = _Readings(text, budget)
    found: list[JsonValue] = []
    try:
        for value, end in readings.value(readings.skip(0), 0):
            if readings.skip(end) == len(text):
                found.append(value)
                if len(found) > 1:
                    raise Unreadable("quotes inside a string can be read in more than one way")
    except RecursionError:
        raise Unreadable("nested too deep") from None
    if not found:
        raise Unreadable("not JSON")
    return found[0]


class _Readings:
    """All readings of JSON in which a string may contain quotes that are not escaped."""

    def __init__(self, text: str, budget: int) -> None:
        self._text = text
        self._budget = budget

    def skip(self, at: int) -> int:
        text = self._text
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        return at

    def value(self, at: int, depth: int) -> Iterator[tuple[JsonValue, int]]:
        self._budget -= 1
        if self._budget < 0 or depth > MAX_DEPTH:
            raise Unreadable("too many ways to read it")
        char = self._text[at : at + 1]
        if char == '"':
            yield from self._string(at, ",}]")
        elif char == "{":
            yield from self._members({}, self.skip(at + 1), depth + 1)
        elif char == "[":
            yield from self._items([], self.skip(at + 1), depth + 1)
        else:
            reader = LooseReader(self._text, at=at)
            try:
                value = reader.value()
            except Unreadable:
                return
            yield value, reader.at

    def _string(self, at: int, followers: str) -> Iterator[tuple[str, int]]:
        end = at
        while (end := self._text.find('"', end + 1)) >= 0:
            self._budget -= 1
            if self._budget < 0:
                raise Unreadable("too many ways to read it")
            after = self._text[(then := self.skip(end + 1)) : then + 1]
            if self._is_escaped(end) or (after and after not in followers):
                continue
            inner = re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', self._text[at + 1 : end])
            try:
                yield LooseReader(f'"{inner}"').string(), end + 1
            except Unreadable:
                continue
            if _NEXT_MEMBER.match(self._text, end) and inner.count('\\"') % 2 == 0:
                return  # a reading in which one argument swallows the next is nobody's

    def _is_escaped(self, at: int) -> bool:
        before = at
        while before > 0 and self._text[before - 1] == "\\":
            before -= 1
        return (at - before) % 2 == 1

    def _members(self, found: JsonObject, at: int, depth: int) -> Iterator[tuple[JsonObject, int]]:
        if self._text[at : at + 1] == "}":
            yield found, at + 1
            return
        end = self._text.find('"', at + 1)
        if self._text[at : at + 1] != '"' or end < 0:
            return
        colon = self.skip(end + 1)
        if self._text[colon : colon + 1] != ":":
            return
        key = self._text[at + 1 : end]
        for value, after in self.value(self.skip(colon + 1), depth):
            after = self.skip(after)
            if self._text[after : after + 1] == ",":
                yield from self._members({**found, key: value}, self.skip(after + 1), depth)
            elif self._text[after : after + 1] == "}":
                yield {**found, key: value}, after + 1

    def _items(self, found: list[JsonValue], at: int, depth: int) -> Iterator[tuple[list[JsonValue], int]]:
        if self._text[at : at + 1] == "]":
            yield found, at + 1
            return
        for value, after in self.value(at, depth):
            after = self.skip(after)
            if self._text[after : after + 1] == ",":
                yield from self._items([*found, value], self.skip(after + 1), depth)
            elif self._text[after : after + 1] == "]":
                yield [*found, value], after + 1
