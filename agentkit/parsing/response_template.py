"""``response_template`` and ``response_schema`` of a ``tokenizer_config.json`` → a dialect.

Hugging Face's metadata says how a model's output splits into fields. A ``response_template`` has ``fields`` with
``open``/``close`` literals (or ``open_pattern``/``close_pattern``), a ``content`` parser and a ``transform``; the older
``response_schema`` is a JSON Schema with ``x-regex``, ``x-regex-iterator`` and ``x-parser``. Source: the page "Response
Parsing" of transformers' documentation.

The metadata comes with the model, so its regular expressions are never run. Literals are read out of them; what cannot
be read like this is left to the rules of `detect`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from agentkit.parsing.built import PROBES, build, known_or, reads
from agentkit.parsing.calls import Keys
from agentkit.parsing.dialects import DIALECTS
from agentkit.parsing.dialects.base import Dialect, Literals, Reasoning
from agentkit.parsing.patterns import alt

__all__ = ["declared_dialect", "declared_literals"]

_REASONING_FIELDS: Final = ("thinking", "reasoning", "reasoning_content")
_LONGEST: Final = 1000
"""Characters of an expression that is looked at."""

_TOKEN: Final = re.compile(
    r"(?P<name>\(\?P<name>(?:\\w|\.|\[[^\]()]{1,40}\])[+*]\??\))"
    r"|(?P<hole>\((?:\?P<\w+>)?(?:\\[{\[])?(?:\.|\[\\s\\S\])[*+]\??(?:\\[}\]])?\))"
    r"|(?P<space>(?:\\s|\\n|\n| )[*+?]\??)"
    r"|(?P<group>\(\?:)|(?P<escaped>\\.)|(?P<special>[.^$*+?()\[\]{}|])|(?P<plain>[^\\])",
    re.DOTALL,
)
_ALTERNATIVE: Final = re.compile(r"(?<!\\)\|")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "s": " "}
_PLACEHOLDER: Final = re.compile(r"\{(?:content\.)?(\w{1,64})\}\Z")
_MAPPED: Final = {
    part: re.compile(rf"\b{part}\s*:\s*(\w{{1,64}})\s*[,}}]") for part in ("name", "arguments")
}  # in JMESPath: {type: 'function', function: {name: tool_name, arguments: parameters}}


@dataclass(frozen=True)
class _Field:
    """Where the calls are. ``name`` is in ``open`` where the tool's name stands before the arguments."""

    open: str
    close: str
    keys: Keys | None
    listed: bool
    named: bool = False
    after_name: str = ""


def declared_dialect(declared: object, by_rule: str | None = None) -> Dialect | None:
    """The dialect that the metadata declares.

    A hand-written one goes first where it reads what the metadata describes: it knows its models' mistakes. None: no
    calls are declared, or in a way that cannot be taken over.

    Args:
        declared: the value of ``response_template`` or ``response_schema``.
        by_rule: the hand-written dialect that the metadata's literals point to.
    """
    known = DIALECTS[by_rule] if by_rule else None
    built = _built(declared)
    if built is None:
        return known
    if known is not None and reads(known, built.write_calls(PROBES), PROBES):
        return known
    return known_or(built)


def declared_literals(declared: object) -> str:
    """What is declared about calls, with what a regular expression escapes unescaped; for the rules."""
    fields = _fields(declared)
    about = fields.get("tool_calls", declared)
    return re.sub(r"\\([^\w\s])", r"\1", "\n".join(_strings(about)))


def _strings(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:_LONGEST]
    elif depth < 20 and isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item, depth + 1)


def _fields(declared: object) -> Mapping[str, object]:
    if not isinstance(declared, Mapping):
        return {}
    for key in ("fields", "properties"):
        inner = declared.get(key)
        if isinstance(inner, Mapping):
            return inner
    return declared


def _built(declared: object) -> Dialect | None:
    fields = _fields(declared)
    calls = fields.get("tool_calls")
    if not isinstance(calls, Mapping):
        return None
    field = _schema_field(calls) if "items" in calls or "x-regex-iterator" in calls else _template_field(calls)
    if field is None:
        return None
    dialect = build("declared", _as_literals(field), field.keys, tuple(_reasoning(fields)))
    return dialect if dialect is not None and reads(dialect, dialect.write_calls(PROBES), PROBES) else None


def _as_literals(field: _Field) -> Literals:
    if field.keys is None:
        return Literals(
            call_open=field.open,
            before_name="",
            after_name=field.after_name,
            after_arguments="",
            call_close=field.close,
        )
    before, middle = f'{{"{field.keys.name}": "', f'", "{field.keys.arguments}": '
    if field.listed:
        return Literals(
            section_open=field.open + "[",
            before_name=before,
            after_name=middle,
            separator=", ",
            section_close="]" + field.close,
        )
    return Literals(call_open=field.open, before_name=before, after_name=middle, call_close=field.close)


# ── response_template ──────────────────────────────────────────────────────────────────────────────────────────────


def _template_field(calls: Mapping[str, object]) -> _Field | None:
    if calls.get("content") != "json" or calls.get("content_args"):
        return None
    opening, closing = _delimiter(calls, "open"), _delimiter(calls, "close")
    if not opening or closing is None:
        return None
    before, has_name, after = opening.partition("\0")
    keys = _transform_keys(calls.get("transform"), named=bool(has_name))
    if keys is None and not has_name:
        return None
    listed = calls.get("transform_each") is True or not calls.get("repeats", False)
    return _Field(before, closing, None if has_name else keys, listed and not has_name, bool(has_name), after)


def _delimiter(field: Mapping[str, object], which: str) -> str | None:
    """A literal; a NUL stands for the tool's name. Empty: none is declared. None: it cannot be told."""
    given = field.get(which)
    if isinstance(given, list) and given:
        given = given[0]
    if isinstance(given, str):
        return given[:_LONGEST]
    pattern = field.get(f"{which}_pattern")
    return _literal(pattern) if isinstance(pattern, str) else ""


def _transform_keys(transform: object, *, named: bool) -> Keys | None:
    """The keys of a call's JSON object; None where the name stands outside it, or the transform is not understood."""
    if named:
        return None
    if transform is None or transform == "{content}":
        return Keys()
    function = transform.get("function", transform) if isinstance(transform, Mapping) else None
    if function == "{content}":
        return Keys()
    if not isinstance(function, Mapping):
        return None
    found = [_PLACEHOLDER.match(str(function.get(part))) for part in ("name", "arguments")]
    return Keys(*(match[1] for match in found if match)) if all(found) else None


# ── response_schema ────────────────────────────────────────────────────────────────────────────────────────────────


def _schema_field(calls: Mapping[str, object]) -> _Field | None:
    each = calls.get("x-regex-iterator")
    pattern = each if isinstance(each, str) else calls.get("x-regex")
    items = calls.get("items")
    parsed = items if isinstance(each, str) else calls
    if not isinstance(pattern, str) or not isinstance(parsed, Mapping) or parsed.get("x-parser") != "json":
        return None
    around = _literal(pattern)
    if around is None or around.count("\1") != 1 or "\0" in around:
        return None
    opening, _, closing = around.partition("\1")
    arguments = parsed.get("x-parser-args")
    transform = arguments.get("transform") if isinstance(arguments, Mapping) else None
    return _Field(opening.strip(), closing.strip(), _mapped_keys(transform), listed=not isinstance(each, str))


def _mapped_keys(transform: object) -> Keys:
    text = transform[:_LONGEST] if isinstance(transform, str) else ""
    found = [pattern.search(text) for pattern in _MAPPED.values()]
    return Keys(*(match[1] for match in found if match)) if all(found) else Keys()


# ── both ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _literal(pattern: str) -> str | None:
    """The text that an expression of literals and optional whitespace stands for; None for any other.

    NUL stands for its group ``name``, U+0001 for a group that takes everything.
    """
    if len(pattern) > _LONGEST:
        return None
    pattern = _without_end(pattern)
    out: list[str] = []
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token[0]
        if kind == "name":
            out.append("\0")
        elif kind == "hole":
            out.append("\1")
        elif kind == "escaped":
            char = _ESCAPES.get(text[1], text[1])
            if text[1].isalnum() and text[1] not in _ESCAPES:
                return None
            out.append(char)
        elif kind == "plain":
            out.append(text)
        elif kind == "space":
            out.append(" " if text.endswith("+") else "")
        else:
            return None
    return "".join(out)


def _without_end(pattern: str) -> str:
    """``(?:close|$)`` → ``close``: the end of the text closes anything."""
    if pattern.endswith("|$)") and "(?:" in pattern:
        before, _, last = pattern[:-3].rpartition("(?:")
        return before + _ALTERNATIVE.split(last, maxsplit=1)[0]
    return pattern


def _reasoning(fields: Mapping[str, object]) -> Iterator[Reasoning]:
    for name in _REASONING_FIELDS:
        field = fields.get(name)
        if not isinstance(field, Mapping):
            continue
        opening, closing = _delimiter(field, "open"), _delimiter(field, "close")
        if not opening and isinstance(field.get("x-regex"), str):
            around = _literal(str(field["x-regex"])) or ""
            opening, _, closing = around.partition("\1")
        if opening and closing and opening.strip() != "<think>" and not {"\0", "\1"} & set(opening + closing):
            yield Reasoning(alt(opening.strip()), alt(closing.strip()))
