"""Signature and docstring → schema; arguments → what the function takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agentkit import RunContext, Tool, ToolExample, tool
from agentkit.errors import DuplicateToolError, InvalidArgumentsError, ToolDefinitionError
from agentkit.providers.base import tools_by_name
from agentkit.tool import as_tool, read_tools


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Options(typing_extensions.TypedDict):
    deep: bool


class Address(BaseModel):
    """Where somebody lives."""

    street: str = Field(description="with the number")
    title: str  # a field of this name must survive the removal of pydantic's own titles


class Person(BaseModel):
    name: str
    address: Address
    friends: list[Person] = []


def test_every_type_that_people_use() -> None:
    @tool
    def everything(
        text: str,
        number: int,
        ratio: float,
        flag: bool,
        many: list[int],
        pairs: dict[str, float],
        literal: Literal["a", "b"],
        colour: Colour,
        point: Point,
        options: Options,
        person: Person,
        when: datetime,
        either: int | str,
        price: Decimal,
        bounded: Annotated[int, Field(ge=1, le=5, description="from 1 to 5")],
        maybe: str | None = None,
        union: int | None = 3,
    ) -> str:
        return ""

    schema: dict[str, Any] = everything.parameters
    properties = schema["properties"]
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == [name for name in properties if name not in ("maybe", "union")]
    assert properties["literal"] == {"enum": ["a", "b"], "type": "string"}
    assert properties["bounded"] == {"description": "from 1 to 5", "maximum": 5, "minimum": 1, "type": "integer"}
    assert properties["when"] == {"format": "date-time", "type": "string"}
    assert properties["maybe"]["default"] is None
    assert properties["union"]["default"] == 3
    assert "title" in schema["$defs"]["Address"]["properties"]
    assert "title" not in schema["$defs"]["Person"]

    sent = {
        "text": "t", "number": 1, "ratio": 1, "flag": True, "many": ["1"], "pairs": {"a": 1}, "literal": "a",
        "colour": "red", "point": {"x": 1}, "options": {"deep": True},
        "person": {"name": "A", "address": {"street": "B 1", "title": "C"}, "friends": []},
        "when": "2026-01-02T03:04:05Z", "either": "x", "price": "1.10", "bounded": 5,
    }  # fmt: skip
    taken = everything.validate(sent)
    assert taken["colour"] is Colour.RED
    assert taken["point"] == Point(1, 0)
    assert isinstance(taken["person"], Person)
    assert taken["when"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert taken["price"] == Decimal("1.10")
    assert taken["many"] == [1]
    assert "maybe" not in taken  # the function's own default applies


GOOGLE = """Add two numbers.

    The sum is exact.

    Args:
        a: the first
            one.
        b (int): the second one.

    Returns:
        the sum
    """
NUMPY = """Add two numbers.

    The sum is exact.

    Parameters
    ----------
    a : int
        the first
        one.
    b
        the second one.

    Returns
    -------
    int
        the sum
    """
SPHINX = """Add two numbers.

    The sum is exact.

    :param a: the first
        one.
    :param b: the second one.
    :returns: the sum
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_the_docstring_describes_the_tool_and_its_parameters(docstring: str, caplog: pytest.LogCaptureFixture) -> None:
    def add(a: int, b: int = 2) -> int:
        return a + b

    add.__doc__ = docstring
    made: Tool[..., object] = Tool.from_function(add)
    properties: dict[str, Any] = made.parameters["properties"]  # type: ignore[assignment]
    assert made.description == "Add two numbers.\n\nThe sum is exact."
    assert properties["a"]["description"] == "the first one."
    assert properties["b"] == {"type": "integer", "description": "the second one.", "default": 2}
    assert caplog.records == []  # types that only the signature has are none missing


def test_tools_that_are_read_together_are_as_those_read_alone() -> None:
    def look(context: RunContext[str], where: Address, deep: bool = True) -> str:
        """Look.

        Args:
            deep: not only at the top.
        """
        return ""

    def wait(seconds: float) -> None:
        """Wait."""

    described: Tool[..., object] = Tool.from_schema("given", "As it is.", {"type": "object", "properties": {}})
    together: list[Tool[..., object]] = [Tool.from_function(look), described, Tool.from_function(wait)]
    read_tools(together)
    assert [one.openai_schema for one in together] == [
        Tool.from_function(look).openai_schema,
        described.openai_schema,
        Tool.from_function(wait).openai_schema,
    ]
    assert [one.takes_context for one in together] == [True, False, False]
    assert together[2].validate({"seconds": 1}) == {"seconds": 1.0}


def test_of_tools_that_are_read_together_the_error_names_the_one() -> None:
    def sound(a: int) -> None: ...

    def unsound(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037

    with pytest.raises(ToolDefinitionError, match="'unsound'"):
        read_tools([Tool.from_function(sound), Tool.from_function(unsound)])


def test_what_is_written_at_the_parameter_wins_over_the_docstring() -> None:
    @tool
    def f(a: Annotated[int, Field(description="from Field")], b: int = Field(5, description="b", gt=1)) -> None:
        """F.

        Args:
            a: from the docstring.
        """

    properties: dict[str, Any] = f.parameters["properties"]  # type: ignore[assignment]
    assert properties["a"]["description"] == "from Field"
    assert properties["b"] == {"default": 5, "description": "b", "exclusiveMinimum": 1, "type": "integer"}
    assert f.validate({"a": 1}) == {"a": 1, "b": 5}


def test_names_that_pydantic_keeps_for_itself_are_fine() -> None:
    @tool
    def f(schema: str, model_config: int, _hidden: int, copy: int = 1) -> None: ...

    assert f.validate({"schema": "s", "model_config": 1, "_hidden": 2}) == {
        "schema": "s",
        "model_config": 1,
        "_hidden": 2,
    }


def test_the_context_is_hidden_from_the_model() -> None:
    @tool
    def f(ctx: RunContext[str], a: int) -> str:
        return ctx.deps * a

    assert f.takes_context
    assert list(f.parameters["properties"]) == ["a"]  # type: ignore[call-overload]
    with pytest.raises(ToolDefinitionError, match="first parameter"):
        _ = tool(_context_second).parameters


def _context_second(a: int, ctx: RunContext[str]) -> None: ...


def test_a_tool_is_still_the_function() -> None:
    @tool(name="plus", description="Adds.", timeout=3)
    def add(a: int, b: int) -> int:
        "Not this."
        return a + b

    assert add(1, b=2) == 3
    assert (add.name, add.description, add.timeout, add.__doc__) == ("plus", "Adds.", 3, "Not this.")
    assert repr(add) == "Tool('plus')"


def test_methods_become_tools_of_their_object() -> None:
    class Shop:
        def __init__(self, stock: int) -> None:
            self.stock = stock

        @tool
        def left(self, minus: int) -> int:
            """What is left."""
            return self.stock - minus

        def plain(self, by: int) -> int:
            return self.stock * by

        @staticmethod
        @tool
        def fixed(a: int) -> int:
            return a

    shop = Shop(5)
    assert shop.left(2) == 3
    assert list(shop.left.parameters["properties"]) == ["minus"]  # type: ignore[call-overload]
    assert list(as_tool(shop.plain).parameters["properties"]) == ["by"]  # type: ignore[call-overload]
    assert list(Shop.fixed.parameters["properties"]) == ["a"]  # type: ignore[call-overload]


def test_objects_and_partials_can_be_tools() -> None:
    class Greeter:
        """Greets."""

        def __call__(self, name: str) -> str:
            return f"hi {name}"

    made = as_tool(Greeter())
    assert (made.name, made.description) == ("Greeter", "Greets.")
    assert made.validate({"name": "A"}) == {"name": "A"}

    def power(base: int, exponent: int) -> int:
        return base**exponent

    square: Tool[..., int] = Tool.from_function(functools.partial(power, exponent=2), name="square")
    assert square.parameters["required"] == ["base"]


def _no_hints(a, b: int):  # type: ignore[no-untyped-def]
    ...


def _stars(*numbers: int) -> None: ...


def _keywords(**options: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "named"),
    [(_no_hints, "'a' has no type"), (_stars, r"\*numbers"), (_keywords, r"\*\*options"), (lambda: 1, "<lambda>")],
)
def test_functions_that_no_schema_can_describe_are_refused_at_once(function: Callable[..., object], named: str) -> None:
    with pytest.raises(ToolDefinitionError, match=named):
        tool(function)


def _unresolvable(a: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821


class Opaque:
    pass


def _opaque(a: Opaque) -> None: ...


def _callback(a: Callable[[int], int]) -> None: ...


class OldTypedDict(TypedDict):
    a: int


@pytest.mark.parametrize(
    ("function", "named"),
    [(_unresolvable, "NoSuchType"), (_opaque, "Opaque"), (_callback, "no JSON form")],
)
def test_types_without_a_schema_are_refused_on_first_use(function: Callable[..., object], named: str) -> None:
    made = tool(function)
    with pytest.raises(ToolDefinitionError, match=f"(?s)'{function.__name__}'.*{named}"):
        _ = made.parameters


@pytest.mark.parametrize("name", ["", "two words", "a" * 129, "auto", "required", "none", 'a"b', "<x>", "a{b"])
def test_names_that_no_model_could_write_are_refused(name: str) -> None:
    with pytest.raises(ToolDefinitionError):
        Tool.from_schema(name, "", {})


def test_invalid_arguments_name_each_fault() -> None:
    @tool
    def f(a: int, point: Point, c: str = "") -> None: ...

    with pytest.raises(InvalidArgumentsError) as caught:
        f.validate({"a": "x", "point": {"x": []}, "d": 1})
    message = str(caught.value)
    for expected in ("a: ", "'x'", "point.x: ", "d: Extra inputs"):
        assert expected in message
    with pytest.raises(InvalidArgumentsError, match="a: Field required"):
        f.validate({"point": {"x": 1}})


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.none() | st.integers() | st.text() | st.lists(st.floats())))
def test_any_arguments_validate_or_are_refused(arguments: dict[str, object]) -> None:
    try:
        taken = _typed.validate(arguments)
    except InvalidArgumentsError:
        return
    assert isinstance(taken["a"], int)


@tool
def _typed(a: int, b: str = "") -> None: ...


class TestFromSchema:
    SCHEMA = {  # noqa: RUF012
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "$defs": {"City": {"type": "string", "minLength": 1}},
    }

    def test_arguments_pass_unchanged_or_are_refused(self) -> None:
        forecast = Tool.from_schema("forecast", "Weather.", self.SCHEMA)
        assert forecast.validate({"city": "Oslo", "more": 1.5}) == {"city": "Oslo", "more": 1.5}
        with pytest.raises(InvalidArgumentsError) as caught:
            forecast.validate({"city": "", "days": 0})
        assert "city" in str(caught.value)
        assert "days" in str(caught.value)

    def test_it_can_be_described_without_a_function(self) -> None:
        described = Tool.from_schema("f", "d", {})
        with pytest.raises(ToolDefinitionError, match="no function"):
            described()

    @pytest.mark.parametrize("schema", [{"type": "string"}, [], "x"])
    def test_only_objects_can_be_arguments(self, schema: Any) -> None:
        with pytest.raises((ToolDefinitionError, ValueError, TypeError)):
            Tool.from_schema("f", "d", schema)

    def test_a_reference_that_leads_elsewhere_is_not_followed(self) -> None:
        properties = {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}
        outside = Tool.from_schema("f", "d", {"type": "object", "properties": properties})
        with pytest.raises(ToolDefinitionError, match=r"http://127\.0\.0\.1:9/schema\.json"):
            outside.validate({"a": 1})

    def test_a_schema_that_is_none_is_refused(self) -> None:
        broken = Tool.from_schema("f", "d", {"type": "object", "properties": {"a": {"type": "strnig"}}})
        with pytest.raises(ToolDefinitionError, match="strnig"):
            broken.validate({"a": 1})


def test_tools_from_openai_dicts() -> None:
    described = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    for shape in (described, {"type": "function", "function": described}):
        made = as_tool(shape)
        assert made.openai_schema == {"type": "function", "function": described}
    with pytest.raises(ToolDefinitionError):
        as_tool({"type": "function"})
    with pytest.raises(ToolDefinitionError, match="no tool"):
        as_tool(5)  # type: ignore[arg-type]


def test_two_tools_of_one_name() -> None:
    one, other = Tool.from_schema("f", "1", {}), Tool.from_schema("f", "2", {})
    assert tools_by_name([one, one]) == {"f": one}
    with pytest.raises(DuplicateToolError, match="'f'"):
        tools_by_name([one, other])


def test_examples_stay_with_the_tool() -> None:
    example = ToolExample("What is 1 + 1?", {"a": 1, "b": 1}, "2", "It is 2.")

    @tool(examples=[example])
    def add(a: int, b: int) -> int:
        return a + b

    assert add.examples == (example,)
