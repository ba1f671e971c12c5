"""A tolerant reader of JSON and Python literals; it notes each deviation from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, NoReturn

from agentkit.messages import JsonObject, JsonValue

__all__ = ["MAX_DEPTH", "Digits", "LooseReader", "RawText", "Repeated", "Unreadable", "strict_json"]

MAX_DEPTH: Final = 100
"""Nesting beyond this is not read: it would exhaust the stack, here or in whoever gets the value."""


_WORDS: Final = {"true": True, "false": False, "null": None}
_PYTHON_WORDS: Final = {"True": True, "False": False, "None": None}
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_PYTHON_ESCAPES: Final = {"x": 2, "U": 8}

_SKIP = re.compile(r"(?:[\s\ufeff]+|//[^\n]*|/\*.*?\*/|#[^\n]*|\\n|\\t|\\r)", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?\Z")
_WORD = re.compile(r"[A-Za-z_$][\w$.-]*")
_PLAIN = {quote: re.compile(rf"[^\\{quote}\x00-\x1f]+") for quote in "\"'"}


class Unreadable(ValueError):
    """The text is no value, or more than one reading of it is possible."""


class RawText(str):
    """A value that its format writes as bare text: its type is the schema's to say."""

    __slots__ = ()


class Digits(RawText):
    """Digits with leading zeros and no quotes: an integer by the letter, an id by the look."""

    __slots__ = ()


class Repeated(list[JsonValue]):
    """The values of one parameter that was written several times."""


def strict_json(text: str) -> JsonValue:
    """A JSON value by the letter, of finite numbers and nested no deeper than `MAX_DEPTH`.

    Raises:
        ValueError: it is not.
        RecursionError: it is nested far deeper.
    """
    value: JsonValue = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise Unreadable(f"nested deeper than {MAX_DEPTH}")
    return value


def _is_deep(value: JsonValue) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[JsonValue] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return True


def _refuse(constant: str) -> NoReturn:
    raise Unreadable(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise Unreadable(f"{digits} is too large")
    return number


class LooseReader:
    """A deterministic reader of JSON, Python literals and mixtures of both; it notes each deviation from JSON.

    Args:
        text: what to read.
        python: Python literals are the format itself, not a deviation.
        delimiters: further strings that open and close a string, ``<|"|>`` for example; nothing is escaped in them.
        raw_strings: what stands between delimiters is typed by the schema.
        at: where to begin.
    """

    def __init__(
        self,
        text: str,
        *,
        python: bool = False,
        delimiters: tuple[str, ...] = (),
        raw_strings: bool = False,
        at: int = 0,
    ) -> None:
        self.text = text
        self.at = at
        self.repairs: set[str] = set()
        self._python = python
        self._delimiters = delimiters
        self._raw_strings = raw_strings
        self._depth = 0
        self._single = False

    def document(self) -> JsonValue:
        """One value and nothing after it."""
        value = self.value()
        self.skip()
        if self.at < len(self.text):
            if self.text[self.at :].strip("]} \n\r\t"):
                raise self.error("more text after the value")
            self._note("extra_closers")
        return value

    def value(self) -> JsonValue:
        """The value that begins here."""
        self.skip()
        char = self.peek()
        if char and char in "\"'":
            return self.string()
        if char == "{":
            return self._nested(self._object)
        if char == "[":
            return self._nested(self._array)
        if char == "(" and self._python:
            return self._nested(self._tuple)
        for delimiter in self._delimiters:
            if self.text.startswith(delimiter, self.at):
                return self._delimited(delimiter)
        number = _NUMBER.match(self.text, self.at)
        if number:
            return self._number(number)
        return self._word()

    def skip(self) -> None:
        """Past whitespace, comments and escaped newlines between tokens."""
        while found := _SKIP.match(self.text, self.at):
            first = found[0][0]
            if first in "/#":
                self._note("comments")
            elif first == "\\":
                self._note("literal_newlines")
            self.at = found.end()

    def peek(self) -> str:
        """The character here; empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> bool:
        """Whether this character comes next; it is passed if so."""
        self.skip()
        if self.peek() == expected:
            self.at += 1
            return True
        return False

    def error(self, what: str) -> Unreadable:
        """What is wrong, and where."""
        return Unreadable(f"{what} at character {self.at}: {self.text[self.at : self.at + 20]!r}")

    def _note(self, repair: str) -> None:
        python = self._python and repair in ("single_quotes", "python_literals", "trailing_comma", "comments")
        delimited = self._delimiters and repair in ("unquoted_keys", "single_quotes", "python_literals")
        if not python and not delimited:
            self.repairs.add(repair)

    def _nested(self, read: Callable[[], JsonValue]) -> JsonValue:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH}")
        self.at += 1
        value = read()
        self._depth -= 1
        return value

    def _object(self) -> JsonObject:
        found: JsonObject = {}
        while not self._closes("}"):
            key = self._key()
            if not self.take(":"):
                raise self.error("no colon after a key")
            found[key] = self.value()
            self._separator("}")
        return found

    def _array(self) -> list[JsonValue]:
        found: list[JsonValue] = []
        while not self._closes("]"):
            found.append(self.value())
            self._separator("]")
        return found

    def _tuple(self) -> JsonValue:
        found: list[JsonValue] = []
        single = False
        while not self._closes(")"):
            found.append(self.value())
            before = self.at
            self._separator(")")
            single = len(found) == 1 and "," not in self.text[before : self.at]
        return found[0] if single else found

    def _closes(self, closer: str) -> bool:
        """Whether the container ends here. At the end of the text it does too, if brackets are all that is missing."""
        if self.take(closer):
            return True
        if self.at >= len(self.text):
            self._note("missing_closers")
            return True
        return False

    def _separator(self, closer: str) -> None:
        self.skip()
        if self.peek() in (closer, ""):
            return
        if not self.take(","):
            raise self.error(f"neither a comma nor {closer}")
        self.skip()
        if self.peek() == closer:
            self._note("trailing_comma")
        elif self.peek() == "":
            raise self.error("cut off after a comma")

    def _key(self) -> str:
        self.skip()
        if self.peek() in "\"'" and self.peek():
            return str(self.string())
        for delimiter in self._delimiters:
            if self.text.startswith(delimiter, self.at):
                return str(self._delimited(delimiter))
        word = _WORD.match(self.text, self.at) or _NUMBER.match(self.text, self.at)
        if not word:
            raise self.error("no key")
        self._note("unquoted_keys")
        self.at = word.end()
        return word[0]

    def string(self) -> str:
        """The string that begins here, with what follows it directly if that is another one (Python)."""
        quote = self.peek()
        if self._python and self.text.startswith(quote * 3, self.at):
            return self._quoted(quote * 3)
        self._single = quote == "'"
        if self._single:
            self._note("single_quotes")
        value = self._quoted(quote)
        if self._python:
            here = self.at
            self.skip()
            if self.peek() in ("'", '"'):
                return value + self.string()
            self.at = here
        return value

    def _quoted(self, quote: str) -> str:
        parts: list[str] = []
        self.at += len(quote)
        plain = _PLAIN[quote[0]]
        while not self.text.startswith(quote, self.at):
            found = plain.match(self.text, self.at)
            if found:
                parts.append(found[0])
                self.at = found.end()
                continue
            char = self.peek()
            if not char:
                raise self.error("a string without an end")
            if char == "\\":
                parts.append(self._escape())
                continue
            if char < " " and len(quote) == 1:
                self._note("raw_newline")
            parts.append(char)
            self.at += 1
        self.at += len(quote)
        return "".join(parts)

    def _escape(self) -> str:
        char = self.text[self.at + 1 : self.at + 2]
        if char == "u":
            digits = self.text[self.at + 2 : self.at + 6]
            if re.fullmatch(r"[0-9a-fA-F]{4}", digits):
                self.at += 6
                return self._low_surrogate(chr(int(digits, 16)))
        if char in _ESCAPES and char:
            self.at += 2
            return _ESCAPES[char]
        if char == "'":
            self._note("single_quotes")
            self.at += 2
            return char
        if self._python and char == "\n":
            self.at += 2
            return ""
        if (self._python or self._single) and char in _PYTHON_ESCAPES:
            length = _PYTHON_ESCAPES[char]
            digits = self.text[self.at + 2 : self.at + 2 + length]
            if re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digits) and int(digits, 16) <= 0x10FFFF:
                self.at += 2 + length
                return chr(int(digits, 16))
        self._note("bad_escape")
        self.at += 1
        return "\\"

    def _low_surrogate(self, high: str) -> str:
        """A pair of escaped surrogates is one character."""
        low = self.text[self.at : self.at + 6]
        if "\ud800" <= high <= "\udbff" and re.fullmatch(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", low):
            self.at += 6
            return chr(0x10000 + ((ord(high) - 0xD800) << 10) + (int(low[2:], 16) - 0xDC00))
        return high

    def _delimited(self, delimiter: str) -> str:
        end = self.text.find(delimiter, self.at + len(delimiter))
        if end < 0:
            raise self.error("a string without an end")
        value = self.text[self.at + len(delimiter) : end]
        self.at = end + len(delimiter)
        return RawText(value) if self._raw_strings else value

    def _number(self, found: re.Match[str]) -> JsonValue:
        digits = found[0]
        self.at = found.end()
        if _WORD.match(self.text, self.at):
            raise self.error("letters after a number")
        if _JSON_NUMBER.match(digits):
            return _read_number(digits)
        if re.fullmatch(r"0\d+", digits):
            self._note("leading_zeros")
            return Digits(digits)
        plain = digits.replace("_", "").lstrip("+")
        plain = re.sub(r"^(-?)\.", r"\g<1>0.", plain)
        plain = re.sub(r"\.(?=$|[eE])", "", plain) if plain.endswith(".") else plain
        if not _JSON_NUMBER.match(plain):
            raise self.error("no number")
        self._note("python_literals")
        return _read_number(plain + ".0" if digits.endswith(".") else plain)

    def _word(self) -> JsonValue:
        found = _WORD.match(self.text, self.at)
        if not found:
            raise self.error("no value")
        word = found[0]
        self.at = found.end()
        if word in _WORDS:
            return _WORDS[word]
        if word in _PYTHON_WORDS:
            self._note("python_literals")
            return _PYTHON_WORDS[word]
        if self._python and word in ("r", "f", "b", "u") and self.peek() in ("'", '"'):
            return self._prefixed(word)
        self.at = found.start()
        raise self.error("a bare word")

    def _prefixed(self, prefix: str) -> JsonValue:
        if prefix != "r":
            return self.string()
        quote = self.peek() * 3 if self.text.startswith(self.peek() * 3, self.at) else self.peek()
        return self._delimited(quote)


def _read_number(digits: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(digits, parse_float=_finite)
    except ValueError as error:
        raise Unreadable(f"{digits[:20]} is no number that can be kept") from error
    return value
