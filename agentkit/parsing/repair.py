"""Reading JSON and Python literals as models write them, and the names of the repairs that reading took."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final, NoReturn

from agentkit.messages import JsonObject, JsonValue

__all__ = ["REPAIRS", "TOLD", "Digits", "LooseReader", "RawText", "Repeated", "Unreadable", "read_json"]

REPAIRS: Final = MappingProxyType(
    {
        "missing_marker": "an opening or closing marker of the format was left out",
        "missing_closers": "closing brackets were missing at the end of the turn",
        "extra_closers": "there were closing brackets too many",
        "single_quotes": "strings in single quotes",
        "python_literals": "True, False, None or a tuple instead of JSON",
        "trailing_comma": "a comma after the last item",
        "comments": "comments inside JSON",
        "unquoted_keys": "keys without quotes",
        "raw_newline": "a raw newline, tab or other control character inside a string",
        "bad_escape": "a backslash that escapes nothing",
        "leading_zeros": "digits with leading zeros and no quotes: text, unless the schema wants an integer",
        "literal_newlines": r"the two characters \n between tokens",
        "inner_quotes": "quotes inside a string that were not escaped, with exactly one way to read them",
        "surrounding_prose": "text beside the call between the markers",
        "markdown_fence": "the call stood in a Markdown fence",
        "foreign_format": "the call was written in another model's format",
        "wrong_keys": "other keys than the format's: parameters for arguments, a wrapper, the name as a key, …",
        "double_encoded": "JSON inside a string where the schema wants the value itself",
        "object_to_string": "an object where the schema wants a string: written as JSON",
        "coerced_type": '"5" for 5, "true" for true, 5.0 for 5: without loss',
        "dropped_null": "null for an optional argument, left out",
        "dropped_argument": "an argument that the tool does not have, left out",
        "wrapped_argument": "a list or scalar for the only required argument",
        "renamed_tool": "a prefix, suffix or the case of the tool's name",
        "duplicate_close": "a closing tag written twice",
        "call_in_reasoning": "the turn ended with a call inside the reasoning, and had no answer",
    }
)
"""Each repair, and what was wrong."""

TOLD: Final = frozenset({"missing_closers", "object_to_string", "dropped_argument", "wrapped_argument"})
"""Repairs that the model should be told of: they changed what it may have meant."""

MAX_DEPTH: Final = 100
"""Nesting beyond this is not read: it would exhaust the stack, here or in whoever gets the value."""

AMBIGUOUS_LENGTH: Final = 20_000
"""Characters of a text whose every reading is tried."""

_WORDS: Final = {"true": True, "false": False, "null": None}
_PYTHON_WORDS: Final = {"True": True, "False": False, "None": None}
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_PYTHON_ESCAPES: Final = {"x": 2, "U": 8}

_SKIP = re.compile(r"(?:[\s\ufeff]+|//[^\n]*|/\*.*?\*/|#[^\n]*|\\n|\\t|\\r)", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?\Z")
_NEXT_MEMBER = re.compile(r'"\s*[}\]]*\s*,\s*(?:"[^"]*"\s*:|[{\[])')
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


def read_json(text: str) -> tuple[JsonValue, list[str]]:
    """A JSON value, and the repairs it took.

    Raises:
        Unreadable: there is no one way to read it.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite), []
    except (ValueError, RecursionError):
        pass
    reader = LooseReader(text)
    try:
        return reader.document(), sorted(reader.repairs)
    except Unreadable as error:
        try:
            return only_reading(text), ["inner_quotes"]
        except Unreadable:
            raise error from None


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
        if quote == "'":
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
        if self._python and char in _PYTHON_ESCAPES:
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
