"""JSON whose numbers can be kept.

llguidance's own rules for JSON let a number without bounds have any exponent, and ``1e999`` is a number that no float
can hold. So the objects and lists with such a number in them are written out here, and all else is left to llguidance.
"""

from __future__ import annotations

from typing import Final

from agentkit.constrain.lark import Rules
from agentkit.constrain.schemas import Kind, json_value, pointed
from agentkit.constrain.values import BOUNDS, JsonNotation
from agentkit.messages import JsonObject, JsonValue

__all__ = ["json_rule"]

_SAID: Final = {"title", "description", "default", "examples", "deprecated", "$schema", "$id", "$comment"}
_LIMITS: Final = {"minLength", "maxLength", "pattern", "format", "minItems", "maxItems", *BOUNDS}
_PARTS: Final = {"type", "enum", "const", "properties", "required", "additionalProperties", "items"}
_ELSEWHERE: Final = {"$ref", "anyOf"}
"""What says all by itself: nothing but words may stand beside it."""
_NAMED: Final = {"$defs", "definitions"}


def json_rule(rules: Rules, schema: JsonObject, root: JsonObject, fallback: JsonObject) -> str:
    """The rule of a JSON value of a schema.

    Args:
        rules: where it goes.
        schema: a part of ``root``, or all of it, or what holds all of it.
        root: where references lead.
        fallback: what is taken where llguidance cannot compile the schema.
    """
    if _is_plain(schema, root, set()) and _has_free_number(schema, root, set()):
        return _PlainJson(rules, root).value(schema)
    return rules.rule(json_value(schema, root, fallback))


class _PlainJson(JsonNotation):
    def value(self, schema: JsonValue) -> str:
        if _has_free_number(schema, self._root, set()):
            return super().value(schema)
        return self._rules.rule(json_value(schema, self._root, {}))

    def string(self, kind: Kind) -> str:
        return self._rules.rule(json_value({**kind.schema, "type": "string"}, self._root, {"type": "string"}))


def _is_plain(schema: JsonValue, root: JsonObject, seen: set[str]) -> bool:
    """Nothing of it is lost where its objects and lists are written out."""
    if not isinstance(schema, dict):
        return True
    said = schema.keys() - _SAID - _NAMED
    if not (said <= _PARTS | _LIMITS or (said <= _ELSEWHERE and len(said) == 1)):
        return False
    if schema.get("additionalProperties") and said & {"properties", "required"}:  # it could write a key twice
        return False
    return all(_is_plain(part, root, seen) for part in _parts(schema, root, seen))


def _has_free_number(schema: JsonValue, root: JsonObject, seen: set[str]) -> bool:
    if not isinstance(schema, dict):
        return False
    types = schema.get("type")
    if "number" in (types if isinstance(types, list) else [types]):
        return not schema.keys() & {"enum", "const", *BOUNDS}
    return any(_has_free_number(part, root, seen) for part in _parts(schema, root, seen))


def _parts(schema: JsonObject, root: JsonObject, seen: set[str]) -> list[JsonValue]:
    """The schemas in a schema, and the one that it refers to, if that was not ``seen`` before."""
    properties, branches, reference = schema.get("properties"), schema.get("anyOf"), schema.get("$ref")
    found = [schema.get("items"), schema.get("additionalProperties")]
    found += properties.values() if isinstance(properties, dict) else []
    found += branches if isinstance(branches, list) else []
    if isinstance(reference, str) and reference not in seen:
        seen.add(reference)
        found.append(pointed(reference, root))
    return found
