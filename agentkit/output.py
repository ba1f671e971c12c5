"""What an agent answers with: text, or a value of a type, its JSON Schema and the checks that it must pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast, get_args

from agentkit.errors import ConfigError, ToolError
from agentkit.events import OutputT_co
from agentkit.messages import JsonObject, JsonValue, clean_json
from agentkit.parsing.answer import json_in
from agentkit.parsing.literals import Unreadable
from agentkit.schema import faults, type_schema
from agentkit.tool import AnyTool, RunContext, Tool, takes_context

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from typing_extensions import TypeForm

__all__ = ["InvalidOutput", "OutputType", "Validator"]

T = TypeVar("T")

Validator: TypeAlias = Callable[[T], object] | Callable[[RunContext[Any], T], object]
"""A function, sync or async, that is shown the answer, after a `RunContext` if it takes one. What it raises as
`ToolError` or ValueError goes to the model as a correction; what it returns is not looked at."""

WRAPPED: Final = "value"
"""The property that holds an answer which is no object itself: most providers want an object."""


class InvalidOutput(Exception):
    """The answer is none; the message is for the model."""


class OutputType(Generic[OutputT_co]):
    """The type of an agent's answers.

    Args:
        kind: `str` for text as the model writes it, else any type that pydantic has a JSON Schema for.
        validators: called in order with an answer that fits the type.

    Attributes:
        is_text: whether the answer is the model's text as it stands.
        name: the type, for messages.
        schema: JSON Schema of the answer, always of an object; empty for text.

    Raises:
        ConfigError: the type has no JSON Schema.
    """

    def __init__(self, kind: TypeForm[OutputT_co], validators: Sequence[Validator[OutputT_co]] = ()) -> None:
        self.is_text = kind is str
        self.name = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
        self.schema: JsonObject = {}
        self._validators = tuple(validators)
        self._tools: dict[str, AnyTool] = {}
        if not self.is_text:
            self._adapter, self.schema, self._is_wrapped = _adapter(kind, self.name)

    @property
    def is_plain(self) -> bool:
        """Whether every text is an answer."""
        return self.is_text and not self._validators

    def tool(self, taken: Container[str]) -> AnyTool:
        """A tool whose arguments are the answer, of a name that no other tool has."""
        name, number = "final_answer", 1
        while name in taken:
            number += 1
            name = f"final_answer_{number}"
        if name not in self._tools:
            about = "Give the final answer, and end the task. Call it once, alone, when no other tool is needed."
            self._tools[name] = Tool.from_schema(name, about, self.schema)
        return self._tools[name]

    def part(self, value: JsonObject) -> JsonValue | None:
        """An answer that is still being written, out of the object that `schema` may have put around it; None while
        there is nothing of it."""
        return value.get(WRAPPED) if self._is_wrapped else value or None

    def from_text(self, text: str) -> OutputT_co:
        """The answer that a text holds.

        Raises:
            InvalidOutput: none, several, or one that does not fit the type.
        """
        if self.is_text:
            return cast("OutputT_co", text)
        values: list[JsonValue]
        try:
            values = json_in(text)
        except Unreadable as error:
            if not self._is_wrapped or "{" in text or "[" in text or not text.strip():
                raise InvalidOutput(f"The answer is not JSON: {error}") from error
            values = [text.strip()]  # a bare word, where one was to be chosen
        fitting: list[OutputT_co] = []
        for value in values:
            try:
                fitting.append(self.from_json(value))
            except InvalidOutput as error:
                unfit = error
        if not fitting:
            raise unfit
        if any(other != fitting[0] for other in fitting):
            raise InvalidOutput(f"There are {len(fitting)} answers in this text: give one")
        return fitting[0]

    def from_json(self, value: JsonValue) -> OutputT_co:
        """The answer that a JSON value is.

        Raises:
            InvalidOutput: it does not fit the type.
        """
        from pydantic import ValidationError

        if self._is_wrapped and isinstance(value, dict) and [*value] == [WRAPPED]:
            value = value[WRAPPED]  # a model that leaves the wrapper out is understood too
        try:
            # As JSON, since that is what it is: dates, sets and the like are written otherwise in Python.
            return self._adapter.validate_json(json.dumps(clean_json(value)))
        except ValidationError as error:
            raise InvalidOutput(f"The answer does not fit: {faults(error, 'answer')}") from error

    async def check(self, answer: OutputT_co, context: RunContext[object], deadline: float) -> None:  # type: ignore[misc]
        """Show an answer to the validators.

        Raises:
            InvalidOutput: one refused it, or was still busy at the deadline, a moment of the event loop's time.
        """
        for validator in self._validators:
            given = (context, answer) if takes_context(validator) else (answer,)
            try:
                async with asyncio.timeout_at(deadline) as scope:
                    outcome = cast("Callable[..., object]", validator)(*given)
                    if isinstance(outcome, Awaitable):
                        await outcome
            except TimeoutError as error:
                if not scope.expired():
                    raise
                raise InvalidOutput("The answer was not checked: the run's deadline has passed") from error
            except (ToolError, ValueError) as error:
                raise InvalidOutput(str(error) or f"The answer was refused: {type(error).__name__}") from error


def _adapter(kind: TypeForm[T], name: str) -> tuple[TypeAdapter[T], JsonObject, bool]:
    """A type's validator, its schema as one of an object, and whether it took a wrapper to make it one."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
    from typing_extensions import TypedDict

    try:
        adapter = TypeAdapter(kind)
        schema = _without_reference(type_schema(adapter))
        if schema.get("type") == "object":
            return adapter, schema, False
        wrapper = type_schema(TypeAdapter(TypedDict("answer", {WRAPPED: kind})))  # type: ignore[operator]
    except PydanticInvalidForJsonSchema as error:
        raise ConfigError(f"output={name} cannot be an answer: it has no JSON form: {error.message}") from error
    except (PydanticUserError, NameError, TypeError) as error:
        raise ConfigError(f"output={name} cannot be an answer: {str(error).splitlines()[0]}") from error
    return adapter, {**wrapper, "additionalProperties": False}, True


def _without_reference(schema: JsonObject) -> JsonObject:
    """A type that holds itself is described by a reference at the root: here is what it refers to."""
    definitions = cast("dict[str, JsonObject]", schema.get("$defs", {}))
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    return {**definitions[reference.removeprefix("#/$defs/")], "$defs": definitions}
