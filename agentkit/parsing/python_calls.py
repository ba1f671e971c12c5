"""Calls in Python's notation: ``[f(a=1), g(b='x')]``, one a line, or bare."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from agentkit.messages import JsonObject, JsonValue
from agentkit.parsing.calls import Keys, RawCall, calls_in
from agentkit.parsing.literals import LooseReader, Unreadable
from agentkit.parsing.repair import read_json

__all__ = ["complete_python_calls", "read_python_calls"]

_NAME: Final = re.compile(r"[^\W\d][\w.\-/:]*(?=\s*\()")
_KEYWORD: Final = re.compile(r"[^\W\d][\w\-]*(?=\s*=(?!=))")
_CALL_MARK: Final = re.compile(r"[()]|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_ASSIGNED: Final = re.compile(r"[^\W\d]\w*\s*=\s*(?=[^\W\d][\w.]*\s*\()")


def read_python_calls(text: str, keys: Keys, is_known: Callable[[str], bool]) -> list[RawCall]:
    """The calls in a text that consists of nothing else; also a JSON list of calls, which some models write instead.

    Raises:
        Unreadable: it is neither.
    """
    if re.match(r"\s*\[?\s*\{", text):
        value, repairs = read_json(text)
        found = list(calls_in(value, keys, text, is_known))
        for call in found:
            call.repairs += repairs
        return found
    return _Reader(text, is_known).read()


def complete_python_calls(text: str) -> list[RawCall]:
    """The calls that were complete before the text was cut off."""
    return _Reader(text, lambda name: True).complete()


class _Reader:
    def __init__(self, text: str, is_known: Callable[[str], bool]) -> None:
        self._reader = LooseReader(text, python=True)
        self._text = text
        self._is_known = is_known

    def read(self) -> list[RawCall]:
        reader = self._reader
        listed = reader.take("[")
        found: list[RawCall] = []
        while True:
            reader.skip()
            while reader.take(",") or reader.take(";"):
                pass
            if listed and reader.take("]"):
                break
            if reader.at >= len(self._text):
                if listed:
                    reader.repairs.add("missing_closers")
                break
            start = reader.at
            try:
                found.append(self._call())
            except Unreadable as error:
                found.append(self._skip_broken(start, error))
        reader.skip()
        if self._text[reader.at :].strip(")]} \n\t\r;"):
            raise reader.error("more text after the calls")
        if not found:
            raise Unreadable("no call in it")
        for call in found:
            call.repairs += sorted(reader.repairs)
        return found

    def complete(self) -> list[RawCall]:
        reader = self._reader
        reader.take("[")
        found: list[RawCall] = []
        try:
            while True:
                while reader.take(",") or reader.take(";"):
                    pass
                call = self._call()
                if "missing_closers" in reader.repairs:
                    return found
                found.append(call)
        except Unreadable:
            return found

    def _skip_broken(self, start: int, error: Unreadable) -> RawCall:
        """A call that cannot be read, up to where its parentheses close; the others are still whole."""
        depth = 0
        named = _NAME.match(self._text, start)
        for mark in _CALL_MARK.finditer(self._text, start):
            depth += {"(": 1, ")": -1}.get(mark[0], 0)
            if mark[0] == ")" and depth == 0 and named:
                self._reader.at = mark.end()
                return RawCall(named[0], None, self._text[start : mark.end()], fault=str(error))
        raise error

    def _call(self) -> RawCall:
        reader = self._reader
        start = reader.at
        assigned = _ASSIGNED.match(self._text, reader.at)
        if assigned:
            reader.at = assigned.end()
        named = _NAME.match(self._text, reader.at)
        if not named:
            raise reader.error("no call")
        reader.at = named.end()
        reader.take("(")
        if named[0] == "print" and not self._is_known("print"):  # Gemma's way: print(f(a=1))
            reader.skip()
            inner = self._call()
            if not reader.take(")"):
                raise reader.error("no closing parenthesis")
            return inner
        arguments, positional = self._arguments()
        call = RawCall(named[0], arguments, self._text[start : reader.at])
        if positional:
            if arguments:
                raise reader.error("positional and keyword arguments mixed")
            call.arguments = positional[0] if len(positional) == 1 else positional
        return call

    def _arguments(self) -> tuple[JsonObject, list[JsonValue]]:
        reader = self._reader
        arguments: JsonObject = {}
        positional: list[JsonValue] = []
        while not reader.take(")"):
            if reader.at >= len(self._text):
                reader.repairs.add("missing_closers")
                break
            keyword = _KEYWORD.match(self._text, reader.at)
            if keyword:
                reader.at = keyword.end()
                reader.take("=")
                arguments[keyword[0]] = reader.value()
            elif self._text.startswith("**", reader.at):
                reader.at += 2
                value = reader.value()
                if not isinstance(value, dict):
                    raise reader.error("** without a dict")
                arguments.update(value)
            else:
                positional.append(reader.value())
            if not reader.take(",") and reader.peek() not in (")", ""):
                raise reader.error("neither a comma nor )")
        return arguments, positional
