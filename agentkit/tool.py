"""A tool: a function that a model may call, with the schema it is shown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, update_wrapper
from typing import (
    TYPE_CHECKING,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypedDict,
    TypeVar,
    get_args,
    overload,
)

from agentkit.errors import ConfigError, ToolDefinitionError
from agentkit.messages import JsonObject, ToolCall
from agentkit.schema import ArgumentsValidator, FunctionSchema, check_signature, read_functions, schema_validator

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Unpack

    from agentkit.context import Caller

__all__ = [
    "AnyTool",
    "Effect",
    "RunContext",
    "Tool",
    "ToolExample",
    "ToolOptions",
    "as_tool",
    "is_async",
    "read_tools",
    "takes_context",
    "tool",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
DepsT = TypeVar("DepsT")
InstanceT = TypeVar("InstanceT")
Q = ParamSpec("Q")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class RunContext(Generic[DepsT]):
    """What a tool may know of the run that called it: take it as the first parameter, the model never sees it.

    ``deps`` is what the caller passed to the run; ``call`` is the call being served, one without a name where there is
    none (a validator, a hook); ``step`` counts from 1. ``idempotency_key`` is this call's own and stays the
    same when the run is resumed: hand it to a service that makes nothing twice under one key.
    """

    deps: DepsT
    run_id: str
    step: int
    call: ToolCall
    idempotency_key: str = ""
    _caller: Caller | None = field(default=None, repr=False, compare=False)


Effect: TypeAlias = Literal["read", "write", "egress", "execute"]
"""What a call does to the world: nothing (``read``); it changes something; it sends something out; it runs code."""


class ToolOptions(TypedDict, total=False):
    """What may be said of a tool beside its name and schema.

    Attributes:
        timeout: seconds one call may take; by default the run's limits say.
        examples: shown to models that must be taught; others never see them.
        effect: what a call does to the world. A tool that does not say is taken for one that may do anything.
        untrusted: whether strangers may have a hand in what it returns (a web page, a mail): from then on the
            conversation is tainted, see `Policy`.
        idempotent: whether a call that was interrupted may simply be made again: twice is as good as once.
            Tools that only read are.
        reconcile: takes what the tool takes, and finds out what came of a call that was interrupted: it returns what
            the call would have returned, or raises `CallNotDone`.
        isolated: run it in a process of its own, which is killed when its time is up. For synchronous functions that
            may hang; they and their arguments must be picklable.
    """

    timeout: float | None
    examples: Sequence[ToolExample]
    effect: Effect | None
    untrusted: bool
    idempotent: bool
    reconcile: Callable[..., object] | None
    isolated: bool


@dataclass(frozen=True, slots=True)
class ToolExample:
    """How a tool is used, shown to models that were never trained on tools: they learn from examples.

    Attributes:
        request: what a user says.
        arguments: the call's arguments.
        result: what the tool answers.
        answer: what the model says then.
    """

    request: str
    arguments: JsonObject
    result: str
    answer: str


class Tool(Generic[P, R_co]):
    """A function with a name, a description and a JSON Schema of its parameters.

    Make one with `tool`, `Tool.from_function` or `Tool.from_schema`. It can still be called as the plain function.

    Attributes:
        name: as the model writes it.
        description: as the model reads it; the docstring's prose by default.
        parameters: JSON Schema of the arguments, an object.
        function: what runs; None for a tool that is only described, and run elsewhere.

    What `ToolOptions` describes are attributes too.
    """

    def __init__(
        self,
        function: Callable[P, R_co] | None,
        *,
        name: str,
        description: str | None = None,
        parameters: JsonObject | None = None,
        **options: Unpack[ToolOptions],
    ) -> None:
        _check_name(name)
        self._options = options
        self.timeout = options.get("timeout")
        self.examples = tuple(options.get("examples", ()))
        self.effect = options.get("effect")
        self.untrusted = options.get("untrusted", False)
        self.idempotent = options.get("idempotent", self.effect == "read")
        self.reconcile = options.get("reconcile")
        self.isolated = options.get("isolated", False)
        if self.timeout is not None and not self.timeout > 0:
            raise ToolDefinitionError(f"Tool {name!r}: timeout is {self.timeout!r}: it must be above 0 seconds")
        if self.effect not in (None, *get_args(Effect)):
            raise ToolDefinitionError(
                f"Tool {name!r}: effect is {self.effect!r}: it must be one of {', '.join(get_args(Effect))}"
            )
        if self.isolated and function is not None:
            from agentkit._processes import check_isolated

            check_isolated(function, name)
        if parameters is None:
            if function is None:
                raise ToolDefinitionError(f"Tool {name!r} has neither a function nor a schema")
            check_signature(function, name)
        else:
            _check_parameters(name, parameters)
        self.name = name
        self.function = function
        self._description = description
        self._parameters = parameters
        if function is not None:
            update_wrapper(self, function, updated=())

    @classmethod
    def from_function(
        cls,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
        **options: Unpack[ToolOptions],
    ) -> Tool[P, R_co]:
        """A tool from a typed function, sync or async; its types and docstring become the schema.

        Raises:
            ToolDefinitionError: at once for ``*args``, ``**kwargs``, a parameter without a type, a name that no model
                could write, or what cannot be ``isolated``; on first use for a type that JSON Schema cannot express.
        """
        given = name or getattr(function, "__name__", None) or type(function).__name__
        return Tool(function, name=given, description=description, **options)

    @classmethod
    def from_schema(
        cls,
        name: str,
        description: str,
        parameters: JsonObject,
        function: Callable[..., object] | None = None,
        **options: Unpack[ToolOptions],
    ) -> Tool[..., object]:
        """A tool from a JSON Schema, for example somebody else's. ``function`` gets the arguments by keyword.

        Raises:
            ToolDefinitionError: the schema is not one of an object.
        """
        return Tool(function, name=name, description=description, parameters=parameters, **options)

    @property
    def description(self) -> str:
        """What the model is told that the tool does."""
        return self._read.description if self._description is None else self._description

    @property
    def parameters(self) -> JsonObject:
        """JSON Schema of the arguments. Do not change it."""
        return self._read.parameters

    @property
    def takes_context(self) -> bool:
        """Whether the function's first parameter is a `RunContext`."""
        return self._read.takes_context

    def validate(self, arguments: JsonObject) -> JsonObject:
        """Arguments as the model wrote them → as the function takes them.

        Raises:
            InvalidArgumentsError: they do not fit; the message is for the model.
        """
        return self._read.validate(arguments)

    @cached_property
    def openai_schema(self) -> JsonObject:
        """The tool as OpenAI's Chat Completions describe one; most chat templates read this shape too."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }

    @cached_property
    def _read(self) -> FunctionSchema:
        """The types and the docstring, read on first use: an agent with a hundred tools is made in no time."""
        if self._parameters is None:
            assert self.function is not None
            return read_functions({self.name: self.function})[self.name]
        with_context = self.function is not None and takes_context(self.function)
        return FunctionSchema(self._description or "", self._parameters, with_context, self._schema_validator())

    def _schema_validator(self) -> ArgumentsValidator:
        assert self._parameters is not None
        try:
            return schema_validator(self._parameters)
        except ToolDefinitionError as error:
            raise ToolDefinitionError(f"Tool {self.name!r}: {error}") from error

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        if self.function is None:
            raise ToolDefinitionError(f"Tool {self.name!r} has no function: it is only described")
        return self.function(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: Tool[Concatenate[InstanceT, Q], S], instance: InstanceT, owner: type | None = None
    ) -> Tool[Q, S]: ...
    def __get__(self, instance: object, owner: type | None = None) -> AnyTool:
        """A decorated method becomes a tool of its object: ``toolbox.search`` can be given to an agent."""
        if instance is None or self.function is None:
            return self
        options = self._options.copy()
        if self.reconcile is not None and self.reconcile in vars(type(instance)).values():  # a method of its too
            options["reconcile"] = self.reconcile.__get__(instance, owner)
        return Tool(
            self.function.__get__(instance, owner),
            name=self.name,
            description=self._description,
            parameters=self._parameters,
            **options,
        )

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


AnyTool: TypeAlias = Tool[..., object]


@overload
def tool(function: Callable[P, R_co], /) -> Tool[P, R_co]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[P, R_co]], Tool[P, R_co]]: ...
def tool(
    function: Callable[P, R_co] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Unpack[ToolOptions],
) -> Tool[P, R_co] | Callable[[Callable[P, R_co]], Tool[P, R_co]]:
    """Make a function a tool: ``@tool``, or ``@tool(name=…, description=…, …)`` with what `ToolOptions` describes.

    Raises:
        ToolDefinitionError: see `Tool.from_function`.
    """

    def decorate(function: Callable[P, R_co]) -> Tool[P, R_co]:
        return Tool.from_function(function, name=name, description=description, **options)

    return decorate if function is None else decorate(function)


def as_tool(given: AnyTool | Callable[..., object] | Mapping[str, object]) -> AnyTool:
    """A tool from what people have: a Tool, a typed function, or a dict in OpenAI's shape.

    Raises:
        ToolDefinitionError: it is none of these.
    """
    if isinstance(given, Tool):
        return given
    if isinstance(given, Mapping):
        return _from_openai(given)
    if callable(given) and not inspect.isclass(given):
        return Tool.from_function(given)
    raise ToolDefinitionError(f"{given!r} is no tool: give a typed function, a Tool, or a dict in OpenAI's shape")


def read_tools(tools: Iterable[AnyTool]) -> None:
    """Read the types and docstrings of tools that were not used yet: for many together this is faster than one by one.

    Raises:
        ToolDefinitionError: a type that cannot be resolved, or that JSON Schema cannot express.
    """
    unread = {tool.name: tool for tool in tools if tool._parameters is None and "_read" not in vars(tool)}
    functions = {name: tool.function for name, tool in unread.items() if tool.function is not None}
    for name, schema in read_functions(functions).items():
        unread[name]._read = schema


def _from_openai(given: Mapping[str, object]) -> AnyTool:
    described = given.get("function", given)
    if not isinstance(described, Mapping) or not isinstance(described.get("name"), str):
        raise ToolDefinitionError(f"{given!r} is no tool: a dict needs `name`, `description` and `parameters`")
    parameters = described.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    return Tool.from_schema(described["name"], str(described.get("description") or ""), parameters)


def takes_context(function: Callable[..., object]) -> bool:
    """Whether a function's first parameter is a `RunContext`, without resolving its types."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and (
        getattr(first.annotation, "__origin__", first.annotation) is RunContext
        or (isinstance(first.annotation, str) and bool(re.match(r"(\w+\.)*RunContext\b", first.annotation)))
    )


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine: an async function, or an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _check_name(name: str) -> None:
    if name in ("auto", "required", "none"):
        raise ToolDefinitionError(f"A tool cannot be named {name!r}: tool_choice means something else by it")
    if not re.fullmatch(r"[^\s<>{}\"'`\\]{1,128}", name):
        raise ToolDefinitionError(
            f"A tool cannot be named {name!r}: 1 to 128 characters without spaces, quotes, brackets < > {{ }} "
            "or backslashes; give one with name=…"
        )


def _check_parameters(name: str, parameters: JsonObject) -> None:
    if not isinstance(parameters, dict):
        raise ToolDefinitionError(f"Tool {name!r}: parameters must be a JSON Schema object, not {parameters!r}")
    kind = parameters.get("type", "object")
    if kind != "object":
        raise ToolDefinitionError(
            f"Tool {name!r}: parameters must be the schema of an object, not of {kind!r}: "
            'write {"type": "object", "properties": {…}}'
        )


def check_choice(tool_choice: str, tools: Mapping[str, AnyTool]) -> None:
    """Refuse a ``tool_choice`` that cannot be honoured.

    Raises:
        ConfigError: ``required`` without any tool.
        UnknownToolError: it names a tool that is not offered.
    """
    from agentkit.errors import UnknownToolError, nearest

    if tool_choice in ("auto", "none") or tool_choice in tools:
        return
    if tool_choice == "required":
        if not tools:
            raise ConfigError("tool_choice is 'required', but there are no tools to choose from")
        return
    raise UnknownToolError(
        f"tool_choice {tool_choice!r} is neither 'auto', 'required', 'none' nor one of the offered tools "
        f"({', '.join(tools) or 'there are none'}).{nearest(tool_choice, [*tools, 'auto', 'required', 'none'])}"
    )
