"""JSON Schemas, as far as a grammar can hold a decoder to them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from agentkit.messages import JsonObject, JsonValue

__all__ = ["Kind", "Parameters", "json_value", "kinds", "parameters", "pointed", "text_patterns"]

# How JSON is spaced: as models are trained to write it. ``lenient`` lets the compiler pass over keywords that it does
# not know; the arguments are validated in full before a tool runs.
_JSON_STYLE: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": True,
}
_KINDS: Final = ("string", "number", "boolean", "null", "array", "object")
_REFERENCES: Final = 20
"""References that are followed one after another before a schema counts as saying nothing."""


def json_value(schema: JsonValue, root: JsonObject, fallback: JsonObject) -> str:
    """Symbols for a JSON value of a schema.

    Args:
        schema: a part of ``root``, or all of it.
        root: where references lead.
        fallback: what is taken where llguidance cannot compile the schema. What it leaves open is validated before a
            tool runs.
    """
    whole = schema if isinstance(schema, dict) else {}
    definitions: JsonObject = {key: root[key] for key in ("$defs", "definitions") if key in root}
    return f"%json {_compilable(_dumped({**definitions, **whole}), _dumped(fallback))}"


def _dumped(schema: JsonObject) -> str:
    return json.dumps(schema, default=str)


@lru_cache(maxsize=4096)
def _compilable(schema: str, fallback: str) -> str:
    """The schema as far as llguidance can compile it: without its patterns if it must be, else the fallback."""
    from llguidance import LLMatcher

    whole = json.loads(schema)
    if "allOf" not in schema:  # each part of one would close the others out
        whole = _rewritten(whole, _closed)
    for attempt in (whole, _rewritten(whole, _without_patterns)):
        styled = json.dumps({**attempt, "x-guidance": _JSON_STYLE})
        if not LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(styled)):
            return styled
    return json.dumps({**json.loads(fallback), "x-guidance": _JSON_STYLE})


def _closed(schema: JsonObject) -> JsonObject:
    """An object that says what it holds holds nothing else: a model is not to make up arguments."""
    open_ended = ("additionalProperties", "unevaluatedProperties", "patternProperties", "anyOf", "oneOf", "$ref", "if")
    if "properties" not in schema or any(key in schema for key in open_ended):
        return schema
    return {**schema, "additionalProperties": False}


def _without_patterns(schema: JsonObject) -> JsonObject:
    return {key: value for key, value in schema.items() if key not in ("pattern", "format", "patternProperties")}


def _rewritten(schema: JsonObject, rewrite: Callable[[JsonObject], JsonObject]) -> JsonObject:
    """A schema with every schema in it rewritten."""

    def inside(key: str, value: JsonValue) -> JsonValue:
        if isinstance(value, list):
            return [_rewritten(item, rewrite) if isinstance(item, dict) else item for item in value]
        if not isinstance(value, dict):
            return value
        if key in ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas"):
            return {name: _rewritten(item, rewrite) if isinstance(item, dict) else item for name, item in value.items()}
        return _rewritten(value, rewrite)

    values = ("enum", "const", "default", "examples")  # these hold no schemas
    return {key: value if key in values else inside(key, value) for key, value in rewrite(schema).items()}


# ── what a schema allows, for notations that are not JSON ──────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Kind:
    """One JSON type that a schema allows, and what it says of values of this type."""

    name: str
    schema: JsonObject

    @property
    def values(self) -> list[JsonValue] | None:
        """The only values, if they are listed."""
        found = self.schema.get("enum")
        return found if isinstance(found, list) else None


def kinds(schema: JsonValue, root: JsonObject, depth: int = 0) -> list[Kind]:
    """The types that a schema allows; all of them where it says nothing. Its references are followed."""
    if not isinstance(schema, dict):
        return _any_kind()
    schema = _resolved(schema, root)
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(listed, list):
        return [Kind(name, {"enum": values}) for name, values in _by_type(listed).items()]
    named = schema.get("type")
    names = [named] if isinstance(named, str) else named
    if isinstance(names, list):
        known = [name for name in names if name in _KINDS or name == "integer"]
        return [Kind(str(name), schema) for name in known] or _any_kind()
    for word, name in (("properties", "object"), ("items", "array"), ("prefixItems", "array")):
        if word in schema:
            return [Kind(name, schema)]
    branches = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(branches, list) and depth < _REFERENCES:
        found = [kind for branch in branches for kind in kinds(branch, root, depth + 1)]
        return [kind for index, kind in enumerate(found) if kind not in found[:index]]
    return _any_kind()


def _any_kind() -> list[Kind]:
    return [Kind(name, {}) for name in _KINDS]


def _by_type(values: list[JsonValue]) -> dict[str, list[JsonValue]]:
    found: dict[str, list[JsonValue]] = {}
    for value in values:
        found.setdefault(_type_of(value), []).append(value)
    return found


def _type_of(value: JsonValue) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "object"


def _resolved(schema: JsonObject, root: JsonObject) -> JsonObject:
    """The schema with its ``$ref`` followed and its ``allOf`` merged."""
    for _ in range(_REFERENCES):
        reference = schema.get("$ref")
        parts = schema.get("allOf")
        if isinstance(reference, str):
            siblings = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**pointed(reference, root), **siblings}
        elif isinstance(parts, list):
            schema = _merged([{key: value for key, value in schema.items() if key != "allOf"}, *parts], root)
        else:
            return schema
    return {}


def pointed(reference: str, root: JsonObject) -> JsonObject:
    """What a reference within ``root`` leads to; empty if to nothing."""
    found: JsonValue = root if reference.startswith("#") else {}
    for step in filter(None, reference[1:].split("/")):
        step = step.replace("~1", "/").replace("~0", "~")
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _merged(parts: list[JsonValue], root: JsonObject) -> JsonObject:
    """All of ``allOf`` in one, as far as that is simple: of what two of them say of one thing, the later counts."""
    whole: JsonObject = {}
    for part in parts:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("$ref"), str):
            part = {**pointed(cast("str", part["$ref"]), root), **{k: v for k, v in part.items() if k != "$ref"}}
        for key, value in part.items():
            before = whole.get(key)
            if key in ("properties", "$defs") and isinstance(before, dict) and isinstance(value, dict):
                whole[key] = {**before, **value}
            elif key in ("required", "allOf") and isinstance(before, list) and isinstance(value, list):
                whole[key] = [*before, *value]
            else:
                whole[key] = value
    return whole


@dataclass(frozen=True)
class Parameters:
    """What an object holds. ``more``: the schema of what it holds besides; None: nothing."""

    named: list[tuple[str, JsonValue, bool]]
    """Key, schema, and whether it is required, in the schema's order."""
    more: JsonValue | None


def parameters(schema: JsonObject, root: JsonObject) -> Parameters:
    """The members of an object. One that says what it holds holds nothing else unless it says so."""
    whole = _resolved(schema, root)
    found: dict[str, JsonValue] = {}
    more: JsonValue | None = None
    named = False
    for branch in _branches(whole, root):
        properties = branch.get("properties")
        if isinstance(properties, dict):
            named = True
            found = {**properties, **found}
        extra = branch.get("additionalProperties", "patternProperties" in branch)
        if extra is not False:
            more = {} if extra is True else extra
    required = whole.get("required")
    needed = {key for key in required if isinstance(key, str)} if isinstance(required, list) else set[str]()
    keys = list(dict.fromkeys([*found, *sorted(needed)]))
    if not named and "additionalProperties" not in whole:
        more = {}
    return Parameters([(key, found.get(key, {}), key in needed) for key in keys], more)


def _branches(schema: JsonObject, root: JsonObject, depth: int = 0) -> Iterator[JsonObject]:
    yield schema
    for word in ("anyOf", "oneOf"):
        options = schema.get(word)
        for option in options if isinstance(options, list) and depth < _REFERENCES else ():
            if isinstance(option, dict):
                yield from _branches(_resolved(option, root), root, depth + 1)


# ── strings ────────────────────────────────────────────────────────────────────────────────────────────────────────

_DATE: Final = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_FORMATS: Final = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}


def text_patterns(schema: JsonObject) -> list[str]:
    """What a string must match as a whole, as regular expressions for a grammar; without its length."""
    pattern = schema.get("pattern")
    found = [_whole(pattern)] if isinstance(pattern, str) else []
    return [*filter(None, found), *filter(None, [_FORMATS.get(str(schema.get("format")))])]


def _whole(pattern: str) -> str:
    """A pattern that is searched for, as one that matches the whole text; empty if that is not simple."""
    from llguidance import regex_to_lark

    begins, ends = pattern.startswith("^"), re.search(r"(?<!\\)(\\\\)*\$\Z", pattern) is not None
    inner = pattern[1 if begins else 0 : -1 if ends else None]
    if (begins or ends) and "|" in re.sub(r"\\.|\[(?:\\.|[^\]])*\]|\((?:\\.|[^()])*\)", "", inner):
        return ""  # the anchors belong to one of the alternatives
    anything = "(?s:.*)"
    return f"{'' if begins else anything}({regex_to_lark(inner, 'dw')}){'' if ends else anything}"
