"""A function's signature and docstring → a JSON Schema, and a validator for arguments that claim to fit it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, cast, get_origin, get_type_hints

from agentkit.errors import InvalidArgumentsError, ToolDefinitionError
from agentkit.messages import JsonObject

if TYPE_CHECKING:
    import griffe
    from pydantic import TypeAdapter, ValidationError
    from pydantic.json_schema import GenerateJsonSchema

__all__ = [
    "ArgumentsValidator",
    "FunctionSchema",
    "check_signature",
    "faults",
    "read_functions",
    "schema_validator",
    "type_schema",
]


# griffe warns about parameters without types in the docstring: ours have them in the signature.
_QUIET: Final[griffe.PerStyleOptions] = {
    "google": {"warnings": False},
    "numpy": {"warnings": False},
    "sphinx": {"warnings": False},
}


class ArgumentsValidator(Protocol):
    """Arguments as the model wrote them → arguments as the function takes them.

    Raises:
        InvalidArgumentsError: they do not fit; the message is for the model.
    """

    def __call__(self, arguments: JsonObject) -> JsonObject: ...


@dataclass(frozen=True, slots=True)
class FunctionSchema:
    """What a model is told of a function, and how it is called."""

    description: str
    parameters: JsonObject
    takes_context: bool
    validate: ArgumentsValidator


def check_signature(function: Callable[..., object], name: str) -> None:
    """Refuse at once what could never be shown to a model. Cheap: types are resolved later, on first use.

    Raises:
        ToolDefinitionError: ``*args``, ``**kwargs`` or a parameter without a type.
    """
    parameters = list(_signature(function, name).parameters.values())
    if _is_defined_in_class(function):
        parameters = parameters[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise ToolDefinitionError(
                f"Tool {name!r} takes {stars}{parameter.name}, which no schema can describe: "
                "name each parameter, or take one list or dict"
            )
        if parameter.annotation is parameter.empty:
            raise ToolDefinitionError(
                f"Tool {name!r}: parameter {parameter.name!r} has no type, so the model cannot know what to send: "
                f"write `{parameter.name}: str`, say"
            )


def read_functions(functions: Mapping[str, Callable[..., object]]) -> dict[str, FunctionSchema]:
    """Read all of some functions' types and documentation, once `check_signature` has let them pass.

    It is done phase by phase. Each of the three goes through much code, and to change between them with every function
    would take half as long again.

    Args:
        functions: each by its tool's name.

    Raises:
        ToolDefinitionError: a type that cannot be resolved, or that JSON Schema cannot express.
    """
    written = {name: _read_source(function, name) for name, function in functions.items()}
    adapters = {name: _arguments_adapter(name, source) for name, source in written.items()}
    return {
        name: FunctionSchema(
            source.description,
            _json_schema(adapters[name], name, source),
            source.takes_context,
            _FunctionValidator(adapters[name]),
        )
        for name, source in written.items()
    }


@dataclass(frozen=True, slots=True)
class _Source:
    """What stands in the source: parameters and their types, without a RunContext, and the docstring's words."""

    parameters: Mapping[str, inspect.Parameter]
    hints: Mapping[str, object]
    takes_context: bool
    description: str
    described: Mapping[str, str]


def _read_source(function: Callable[..., object], name: str) -> _Source:
    parameters = dict(_signature(function, name).parameters)
    hints = _hints(function, name)
    takes_context = _drop_context(parameters, hints, name)
    return _Source(parameters, hints, takes_context, *_docstring(function))


def _signature(function: Callable[..., object], name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ToolDefinitionError(f"Tool {name!r}: {function!r} has no signature to read: {error}") from error


def _is_defined_in_class(function: Callable[..., object]) -> bool:
    if inspect.ismethod(function):
        return False
    return "." in getattr(function, "__qualname__", "").rpartition("<locals>.")[2]


def _hints(function: Callable[..., object], name: str) -> dict[str, object]:
    function = _unwrapped(function)
    try:
        return get_type_hints(function if inspect.isroutine(function) else type(function).__call__, include_extras=True)
    except Exception as error:
        raise ToolDefinitionError(
            f"Tool {name!r}: its types cannot be resolved ({error}): they must stand at module level, "
            "and be imported at run time, not only under TYPE_CHECKING"
        ) from error


def _unwrapped(function: Callable[..., object]) -> Callable[..., object]:
    """The function inside a `functools.partial`: that is where types and documentation are."""
    while isinstance(function, partial):
        function = function.func
    return function


def _drop_context(parameters: dict[str, inspect.Parameter], hints: Mapping[str, object], name: str) -> bool:
    """Take the RunContext out of the parameters; True if there was one."""
    from agentkit.tool import RunContext

    takes_context = False
    for index, parameter in enumerate(list(parameters)):
        hint = hints.get(parameter)
        if (get_origin(hint) or hint) is RunContext:
            if index > 0:
                raise ToolDefinitionError(f"Tool {name!r}: RunContext must be the first parameter, not {parameter!r}")
            del parameters[parameter]
            takes_context = True
    return takes_context


def _arguments_adapter(name: str, source: _Source) -> TypeAdapter[JsonObject]:
    from typing import NotRequired

    from pydantic import ConfigDict, TypeAdapter, with_config
    from pydantic.errors import PydanticUserError
    from pydantic.fields import FieldInfo
    from typing_extensions import TypedDict

    fields: dict[str, object] = {}
    for parameter in source.parameters.values():
        hint, default = source.hints[parameter.name], parameter.default
        if isinstance(default, FieldInfo):  # `x: int = Field(5, description="…")`
            hint, default = Annotated[hint, default], parameter.empty if default.is_required() else default
        fields[parameter.name] = hint if default is parameter.empty else NotRequired[hint]
    arguments = with_config(ConfigDict(extra="forbid"))(TypedDict(name, fields))  # type: ignore[operator]
    try:
        return TypeAdapter(arguments)
    except (PydanticUserError, TypeError) as error:
        raise ToolDefinitionError(f"Tool {name!r}: {str(error).splitlines()[0]}") from error


def _json_schema(adapter: TypeAdapter[JsonObject], name: str, source: _Source) -> JsonObject:
    from pydantic.errors import PydanticInvalidForJsonSchema
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        schema = type_schema(adapter)
    except PydanticInvalidForJsonSchema as error:
        raise ToolDefinitionError(f"Tool {name!r}: a parameter's type has no JSON form: {error.message}") from error
    properties = cast("dict[str, JsonObject]", schema.setdefault("properties", {}))
    for parameter in source.parameters.values():
        entry = properties[parameter.name]
        if parameter.name in source.described:
            entry.setdefault("description", source.described[parameter.name])
        if parameter.default is not parameter.empty and "default" not in entry:
            with suppress(PydanticSerializationError):  # a default that JSON cannot say still is the function's
                entry["default"] = to_jsonable_python(parameter.default)
    return {"type": "object", **schema}


def type_schema(adapter: TypeAdapter[Any]) -> JsonObject:
    """The JSON Schema of a type, without made-up titles.

    Raises:
        pydantic.errors.PydanticInvalidForJsonSchema: it has no JSON form.
    """
    schema: JsonObject = adapter.json_schema(schema_generator=_schema_generator())
    without_titles(schema)
    return schema


@cache
def _schema_generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema

    class WithoutWarnings(GenerateJsonSchema):
        ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - pydantic's own shape

    return WithoutWarnings


def without_titles(schema: object) -> None:
    """Remove the titles that pydantic makes up from names: they cost tokens and say nothing. In place."""
    if isinstance(schema, list):
        for item in schema:
            without_titles(item)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("title"), str):
        del schema["title"]
    for key, value in schema.items():
        if key in ("properties", "$defs", "patternProperties") and isinstance(value, dict):
            for item in value.values():
                without_titles(item)
        elif key not in ("default", "enum", "const", "examples"):
            without_titles(value)


def _docstring(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """The description (the docstring's prose), and each parameter's."""
    function = _unwrapped(function)
    text = inspect.getdoc(function if inspect.isroutine(function) else type(function))
    if not text:
        return "", {}
    import griffe

    prose: list[str] = []
    described: dict[str, str] = {}
    for section in griffe.parse_auto(griffe.Docstring(text), per_style_options=_QUIET):
        if section.kind is griffe.DocstringSectionKind.text:
            prose.append(str(section.value).strip())
        elif section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.other_parameters):
            described.update(_parameter_descriptions(section))
    return "\n\n".join(prose), described


def _parameter_descriptions(section: griffe.DocstringSection) -> dict[str, str]:
    return {item.name.lstrip("*"): " ".join(item.description.split()) for item in section.value}


@dataclass(frozen=True, slots=True)
class _FunctionValidator:
    """Validates through pydantic, so the function gets the types it declares."""

    adapter: TypeAdapter[JsonObject]

    def __call__(self, arguments: JsonObject) -> JsonObject:
        from pydantic import ValidationError

        try:
            return self.adapter.validate_python(arguments)
        except ValidationError as error:
            raise InvalidArgumentsError(faults(error, "arguments")) from error


def faults(error: ValidationError, whole: str) -> str:
    """What pydantic found wrong, for the model to read; ``whole`` is what the value is called where no part is."""
    return "; ".join(
        f"{'.'.join(str(step) for step in fault['loc']) or whole}: {fault['msg']}"
        + ("" if fault["type"] in ("missing", "extra_forbidden") else f", not {_excerpt(fault['input'])}")
        for fault in error.errors(include_url=False, include_context=False)
    )


def schema_validator(schema: JsonObject) -> ArgumentsValidator:
    """A validator for a bare JSON Schema (draft 2020-12 unless it names another); it passes arguments on unchanged.

    Raises:
        ToolDefinitionError: the schema is not valid itself.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
    from referencing.exceptions import Unresolvable

    checker = validator_for(schema, default=Draft202012Validator)
    try:
        checker.check_schema(schema)
    except SchemaError as error:
        raise ToolDefinitionError(f"not a JSON Schema: {error.message}") from error
    validator = checker(schema, registry=REGISTRY)  # the drafts alone: nothing is fetched for a reference

    def validate(arguments: JsonObject) -> JsonObject:
        try:
            found = [
                f"{fault.json_path.removeprefix('$.') if fault.json_path != '$' else 'arguments'}: {fault.message}"
                for fault in validator.iter_errors(cast("Any", arguments))
            ]
        except Unresolvable as error:
            raise ToolDefinitionError(f"the schema refers to {error.ref!r}, which is not in it") from error
        if found:
            raise InvalidArgumentsError("; ".join(found))
        return arguments

    return validate


def _excerpt(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
