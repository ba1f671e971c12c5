"""What strict mode is given: never more than OpenAI takes, and nothing that the schema as given would refuse."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, TypeAdapter

from agentkit.messages import JsonObject
from agentkit.providers._strict import strict_schema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    name: str
    price: float = Field(ge=0)


class Invoice(BaseModel):
    """What was sold."""

    lines: list[Line]
    colour: Colour = Field(description="of the paper")
    kind: Literal["a", "b"]
    note: str | None = None
    parent: Invoice | None = None


def test_model() -> None:
    invoice: Any = strict_schema(Invoice.model_json_schema())
    assert invoice["type"] == "object"  # not a reference
    assert invoice["$defs"]["Invoice"]["required"] == invoice["required"]
    assert invoice["required"] == ["lines", "colour", "kind", "note", "parent"]
    assert invoice["additionalProperties"] is False
    assert invoice["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Note"}
    assert invoice["properties"]["colour"] == {"anyOf": [{"$ref": "#/$defs/Colour"}], "description": "of the paper"}


def test_the_schema_that_was_given_is_left_alone() -> None:
    schema = TypeAdapter(Line).json_schema()
    before = TypeAdapter(Line).json_schema()
    assert strict_schema(schema) != schema
    assert schema == before


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": {"type": "string"}},  # the root is an object
        {"type": "object"},  # any object
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {"type": "string"}}},  # may be left out, and must not be null
        {"type": "object", "properties": {"a": {"type": "string", "default": None}}},
        {"type": "object", "properties": {"a": {"type": ["string", "null"], "default": "x"}}},
        {"type": "object", "properties": {"a": {}}, "required": ["a"]},
        {"type": "object", "properties": {"a": True}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "array"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}]}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"anyOf": {"type": "string"}}}, "required": ["a"]},
        {"type": "object", "properties": [], "required": 3},
        {"type": "object", "properties": {}, "required": ["a"]},
        {"$ref": "#/$defs/a", "$defs": {}},
    ],
)
def test_schemas_that_cannot_be_strict(schema: JsonObject) -> None:
    assert strict_schema(schema) is None


def test_what_may_be_left_out_becomes_null() -> None:
    for kinds in ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}):
        schema: JsonObject = {"type": "object", "properties": {"a": {**kinds, "default": None}}}
        assert strict_schema(schema) == {
            "type": "object",
            "properties": {"a": kinds},
            "required": ["a"],
            "additionalProperties": False,
        }


scalars = st.sampled_from([{"type": "string"}, {"type": "integer", "minimum": 0}, {"enum": ["a"], "type": "string"}])


def _objects(inner: st.SearchStrategy[JsonObject]) -> st.SearchStrategy[JsonObject]:
    return st.builds(
        lambda properties, required: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in required],
        },
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.sets(st.sampled_from("abc"), min_size=2),
    )


schemas = _objects(
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            _objects(inner),
            inner.map(lambda items: {"type": "array", "items": items}),
            inner.map(lambda option: {"anyOf": [option, {"type": "null"}], "default": None}),
        ),
        max_leaves=6,
    )
)


@given(schemas)
def test_strict_schemas_are_closed_and_narrower(schema: JsonObject) -> None:
    strict = strict_schema(schema)
    if strict is not None:
        _check_closed(strict)
        assert Draft202012Validator(schema).is_valid(_example(strict))


def _check_closed(schema: Any) -> None:
    assert "default" not in schema
    if schema.get("type") == "object":
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
    for inner in [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]:
        _check_closed(inner)
    if "items" in schema:
        _check_closed(schema["items"])


def _example(schema: Any) -> object:
    """A value that the schema allows; the least one."""
    if "anyOf" in schema:
        return None
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: _example(inner) for name, inner in schema["properties"].items()}
    return {"string": "", "integer": 0, "array": []}[schema["type"]]
