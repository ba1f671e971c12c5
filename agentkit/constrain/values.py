"""Values in notations other than JSON: Python's, Gemma's, and what all of them share."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import Final

from agentkit.constrain.lark import Rules, Specials, escaped, members, overlap, quoted
from agentkit.constrain.schemas import Kind, json_value, kinds, parameters
from agentkit.constrain.texts import COUNTED, Never, length_of, length_terms, patterns_of, raw_text, repeated
from agentkit.messages import JsonObject, JsonValue

__all__ = ["BOUNDS", "GemmaValues", "JsonNotation", "JsonValues", "PythonValues", "other_than"]

# Finite ones only, and none too long for Python to read.
_INTEGER: Final = "-?(0|[1-9][0-9]{0,30})"
_NUMBER: Final = rf"{_INTEGER}(\.[0-9]{{1,30}})?([eE][+-]?([0-9]{{1,2}}|1[0-9]{{2}}|2[0-6][0-9]))?"
BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
"""What a schema may say of a number."""
_IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]{0,63}"


def _number(kind: Kind, rules: Rules) -> str:
    """Symbols for an integer or a number, which every notation writes as JSON does."""
    bounds: JsonObject = {key: kind.schema[key] for key in BOUNDS if key in kind.schema}
    if bounds:
        return json_value({"type": kind.name, **bounds}, {}, {"type": kind.name})
    return rules.terminal(f"/{_INTEGER if kind.name == 'integer' else _NUMBER}/")


class Values(ABC):
    """Rules for the values of one tool's arguments, in one notation.

    Args:
        rules: where they go.
        root: the tool's schema.
    """

    separator: str
    colon: str

    def __init__(self, rules: Rules, root: JsonObject) -> None:
        self._rules = rules
        self._root = root
        self._named: dict[str, str] = {}

    @abstractmethod
    def string(self, kind: Kind) -> str:
        """Symbols for a string."""

    @abstractmethod
    def number(self, kind: Kind) -> str:
        """Symbols for a number."""

    @abstractmethod
    def literal(self, value: JsonValue) -> str:
        """Symbols for exactly this value, no string."""

    @abstractmethod
    def key(self, key: str) -> str:
        """Symbols for a key of an object."""

    @abstractmethod
    def any_key(self, but: list[str]) -> str:
        """Symbols for a key that is none of these."""

    def value(self, schema: JsonValue) -> str:
        """The rule of a value of a schema, which may refer to itself."""
        key = json.dumps(schema, default=str)
        if key not in self._named:
            self._named[key] = name = self._rules.reserve()
            found = dict.fromkeys(self.one(kind) for kind in kinds(schema, self._root))
            self._rules.define(name, " | ".join(found))
        return self._named[key]

    def object(self, schema: JsonObject) -> str:
        """Symbols for an object."""
        given = parameters(schema, self._root)
        colon = quoted(self.colon)
        items = [(f"{self.key(key)} {colon} {self.value(part)}", required) for key, part, required in given.named]
        more = ""
        if given.more is not None:
            more = self._rules.rule(
                f"{self.any_key([key for key, *_ in given.named])} {colon} {self.value(given.more)}"
            )
        return f'"{{" {members(self._rules, items, quoted(self.separator), more)} "}}"'

    def one(self, kind: Kind) -> str:
        """Symbols for a value of one type."""
        if kind.name == "string":
            return self.string(kind)
        if kind.values is not None:
            return " | ".join(map(self.literal, kind.values))
        if kind.name in ("integer", "number"):
            return self.number(kind)
        if kind.name == "array":
            return self._array(kind.schema)
        if kind.name == "object":
            return self.object(kind.schema)
        return " | ".join(map(self.literal, [True, False] if kind.name == "boolean" else [None]))

    def _array(self, schema: JsonObject) -> str:
        least, most = schema.get("minItems"), schema.get("maxItems")
        least = least if isinstance(least, int) else 0
        separator = quoted(self.separator)
        first = schema.get("prefixItems")
        if isinstance(first, list):
            items = [(self.value(item), index < least) for index, item in enumerate(first)]
            return f'"[" {members(self._rules, items, separator)} "]"'
        item = self.value(schema.get("items", {}))
        if most == 0:
            return '"[]"'
        rest = repeated(max(least - 1, 0), most - 1 if isinstance(most, int) else None)
        several = f"{item} ({separator} {item}){rest}"
        return f'"[" {several if least else f"({several})?"} "]"'


class JsonNotation(Values):
    """JSON, but for its strings."""

    separator = ", "
    colon = ": "

    def number(self, kind: Kind) -> str:
        return _number(kind, self._rules)

    def literal(self, value: JsonValue) -> str:
        return quoted(json.dumps(value, ensure_ascii=False))

    def key(self, key: str) -> str:
        return quoted(json.dumps(key, ensure_ascii=False))

    def any_key(self, but: list[str]) -> str:
        return self.string(Kind("string", {}))


class JsonValues(JsonNotation):
    """JSON inside tags: no string in it is ``never``, so that the tags end where they seem to."""

    def __init__(self, rules: Rules, root: JsonObject, never: Never) -> None:
        super().__init__(rules, root)
        self._never = never

    def string(self, kind: Kind) -> str:
        if kind.values is not None:
            written = [json.dumps(value, ensure_ascii=False) for value in kind.values]
            fit = [text for text in written if not re.fullmatch(self._never.expression, text)]
            return self._rules.terminal(" | ".join(map(quoted, fit or written)))
        least, _ = length_of(kind.schema)
        patterns = [pattern for pattern in _unescaped_patterns(kind.schema) if not self._never.within(pattern)]
        if patterns:
            return self._rules.terminal(_quoted_pattern('"', patterns, kind.schema))
        text = rf'/"([^"\\\x00-\x1f]|{_JSON_ESCAPES}){repeated(min(least, COUNTED), None)}"/'
        return self._rules.terminal(f"{text} & ~/{self._never.expression}/")


class PythonValues(Values):
    """Python's literals; true, false and null may be JSON's."""

    separator = ", "
    colon = ": "

    def string(self, kind: Kind) -> str:
        if kind.values is not None:
            options = [
                quoted(text) for value in kind.values for text in dict.fromkeys([repr(value), json.dumps(value)])
            ]
            return self._rules.terminal(" | ".join(options))
        patterns = _unescaped_patterns(kind.schema)
        return self._rules.terminal(" | ".join(_python_string(quote, patterns, kind.schema) for quote in "'\""))

    def number(self, kind: Kind) -> str:
        return _number(kind, self._rules)

    def literal(self, value: JsonValue) -> str:
        return " | ".join(map(quoted, dict.fromkeys([repr(value), json.dumps(value, ensure_ascii=False)])))

    def key(self, key: str) -> str:
        return self._rules.terminal(" | ".join(map(quoted, dict.fromkeys([repr(key), json.dumps(key)]))))

    def any_key(self, but: list[str]) -> str:
        return self.string(Kind("string", {}))

    def keywords(self, schema: JsonObject) -> str:
        """Symbols for a call's arguments, with their names."""
        given = parameters(schema, self._root)
        written = [item for item in given.named if _KEYWORD.fullmatch(item[0])]
        items = [(f"{quoted(key + '=')} {self.value(part)}", required) for key, part, required in written]
        more = ""
        if given.more is not None:
            name = other_than([key for key, *_ in given.named])
            more = self._rules.rule(f'{self._rules.terminal(name)} "=" {self.value(given.more)}')
        return members(self._rules, items, quoted(self.separator), more)


_KEYWORD: Final = re.compile(r"[^\W\d][\w\-]*")
_UNESCAPED: Final = r"""[^'"\\\x00-\x1f\x7f]*"""
_SCALAR: Final = "u([0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})"  # no half of a pair
_JSON_ESCAPES: Final = rf"\\([\\\"\/nrtbf]|{_SCALAR})"
_ESCAPES: Final = rf"\\([\\'\"nrtbf]|x[0-9a-f]{{2}}|{_SCALAR}|U000[0-9a-f]{{5}})"


def _python_string(quote: str, patterns: list[str], schema: JsonObject) -> str:
    """Of one kind of quotes."""
    if patterns:
        return _quoted_pattern(quote, patterns, schema)
    return rf"/{quote}([^{quote}\\\x00-\x1f\x7f]|{_ESCAPES}){repeated(*length_of(schema))}{quote}/"


def _unescaped_patterns(schema: JsonObject) -> list[str]:
    """The patterns that a string can match without anything in it that would have to be escaped."""
    return [pattern for pattern in patterns_of(schema) if overlap(pattern, _UNESCAPED)]


def _quoted_pattern(quote: str, patterns: list[str], schema: JsonObject) -> str:
    """A string that is to match patterns: nothing is escaped in it."""
    expressions = [f"/{pattern}/" for pattern in (*patterns, _UNESCAPED)]
    inside = " & ".join([*expressions, *length_terms(*length_of(schema))])
    return f"{quoted(quote)} ({inside}) {quoted(quote)}"


def other_than(keys: list[str]) -> str:
    """A terminal of identifiers but these."""
    return f"/{_IDENTIFIER}/" + (f" & ~/{'|'.join(map(escaped, keys))}/" if keys else "")


class GemmaValues(Values):
    """Gemma's notation: nothing is escaped between its quotes. ``every``: other scalars stand between them too."""

    separator = ","
    colon = ":"

    def __init__(self, rules: Rules, root: JsonObject, quote: str, specials: Specials, *, every: bool) -> None:
        super().__init__(rules, root)
        self._quote = quote
        self._specials = specials
        self._every = every

    def string(self, kind: Kind) -> str:
        never = Never(f"(?s:.*){escaped(self._quote)}(?s:.*)", self._quote[0])
        text = raw_text(kind, never, self._quote, self._specials, self._rules)
        return f"{self._specials.symbols(self._quote)} {text}"

    def number(self, kind: Kind) -> str:
        return self._scalar(_number(kind, self._rules))

    def literal(self, value: JsonValue) -> str:
        if isinstance(value, dict):
            pairs = (f'{self.key(key)} ":" {self._item(item)}' for key, item in value.items())
            return f'"{{" {_COMMA.join(pairs)} "}}"'
        if isinstance(value, list):
            return f'"[" {_COMMA.join(map(self._item, value))} "]"'
        return self._scalar(quoted(json.dumps(value)))

    def key(self, key: str) -> str:
        return quoted(key) if key.isidentifier() and key.isascii() else self._between_quotes(quoted(key))

    def any_key(self, but: list[str]) -> str:
        return self._rules.terminal(other_than(but))

    def _item(self, value: JsonValue) -> str:
        return self._between_quotes(quoted(value)) if isinstance(value, str) else self.literal(value)

    def _scalar(self, symbols: str) -> str:
        return self._between_quotes(symbols) if self._every else symbols

    def _between_quotes(self, symbols: str) -> str:
        quote = self._specials.symbols(self._quote)
        return f"{quote} {symbols} {quote}"


_COMMA: Final = ' "," '
