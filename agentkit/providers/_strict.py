"""OpenAI's strict mode: the part of JSON Schema that its decoder can hold a model to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from weakref import WeakKeyDictionary

from agentkit.messages import JsonObject
from agentkit.tool import AnyTool

__all__ = ["strict_parameters", "strict_schema"]

_KEYWORDS: Final = {
    *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"),
    *("$ref", "$defs", "definitions", "title", "description", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems"),
}
_FORMATS: Final = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}

_of_tools: WeakKeyDictionary[AnyTool, JsonObject | None] = WeakKeyDictionary()


def strict_parameters(tool: AnyTool) -> JsonObject | None:
    """`strict_schema` of a tool's parameters, worked out once."""
    if tool not in _of_tools:
        _of_tools[tool] = strict_schema(tool.parameters)
    return _of_tools[tool]


def strict_schema(schema: JsonObject) -> JsonObject | None:
    """The schema as strict mode wants it, or None where that would leave out something that the schema says.

    Strict mode (OpenAI's guide "Structured model outputs", section "Supported schemas") wants an object in which each
    object is closed and each property required, knows some keywords only, and allows no others beside ``$ref``. What it
    then accepts is always valid for the schema as it was given.
    """
    try:
        strict = _strict(_without_reference(schema))
    except _Unsupported:
        return None
    return strict if strict.get("type") == "object" else None


class _Unsupported(Exception):
    pass


def _without_reference(schema: JsonObject) -> JsonObject:
    """What the root refers to, in its place; pydantic writes a reference there for a model that holds itself."""
    definitions = schema.get("$defs")
    if isinstance(definitions, dict) and isinstance(ref := schema.get("$ref"), str):
        definition = definitions.get(ref.removeprefix("#/$defs/"))
        return {**definition, "$defs": definitions} if isinstance(definition, dict) else schema
    return schema


def _strict(schema: object) -> JsonObject:
    if not isinstance(schema, dict) or not schema.keys() <= _KEYWORDS or not schema.keys() & {"type", "anyOf", "$ref"}:
        raise _Unsupported
    if schema.get("format", "date") not in _FORMATS or "(?" in str(schema.get("pattern")):  # it cannot look around
        raise _Unsupported
    strict = dict(schema)
    for key in ("$defs", "definitions"):
        if key in schema:
            strict[key] = {name: _strict(value) for name, value in _mapping(schema[key]).items()}
    if "anyOf" in schema:
        strict["anyOf"] = [_strict(option) for option in _list(schema["anyOf"])]
    kinds = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    if "object" in kinds:
        strict |= _closed(schema)
    if "array" in kinds:
        strict["items"] = _strict(schema.get("items"))
    if "$ref" in schema and len(schema) > 1:
        strict["anyOf"] = [{"$ref": strict.pop("$ref")}]
    return strict


def _closed(schema: JsonObject) -> JsonObject:
    """An object's schema without room for properties that it does not name, and with all it names required. One that
    may be left out must be one that may be null, with null as the default: then null says the same."""
    if schema.get("additionalProperties", False) is not False:
        raise _Unsupported
    named = _mapping(schema.get("properties"))
    required = _list(schema.get("required", []))
    if any(name not in named for name in required):
        raise _Unsupported
    properties: JsonObject = {}
    for name, value in named.items():
        if name not in required:
            if not isinstance(value, dict) or "default" not in value or not _is_nullable(value):
                raise _Unsupported
            value = {key: item for key, item in value.items() if key != "default"}
        properties[name] = _strict(value)
    return {"properties": properties, "required": list(properties), "additionalProperties": False}


def _is_nullable(schema: JsonObject) -> bool:
    kinds = schema.get("type")
    may_be_null = {"type": "null"} in _list(schema.get("anyOf", [])) or (isinstance(kinds, list) and "null" in kinds)
    return may_be_null and schema["default"] is None


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _Unsupported
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise _Unsupported
    return value
