"""What a provider is: something that streams one turn of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from agentkit.errors import DuplicateToolError, ProviderProtocolError
from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    ReasoningEnd,
    Restarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
)
from agentkit.limits import ModelSettings
from agentkit.messages import (
    JsonObject,
    Message,
    ModelResponse,
    Part,
    Problem,
    ReasoningPart,
    TextPart,
    ToolCall,
    as_messages,
    canonical,
)
from agentkit.tool import AnyTool, as_tool, check_choice

__all__ = ["ModelRequest", "OutputMode", "Provider", "ResponseBuilder", "tools_by_name"]

OutputMode: TypeAlias = Literal["native", "tool", "prompt"]
"""How an answer of a type is best asked for: by ``output_schema``; as the arguments of a tool; in the prompt."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """All that one turn of a model depends on.

    ``messages`` begin with the system message, if there is one. ``tool_choice`` is ``auto``, ``required``, ``none``
    or a tool's name. ``output_schema`` is the JSON Schema of an answer: the turn is then calls, or exactly one JSON
    value of this type. ``deadline`` is when the run ends, in the event loop's time: nothing that would end later needs
    to be waited for. ``examples`` counts the messages behind the system message that are few-shot examples.
    """

    messages: Sequence[Message]
    tools: Sequence[AnyTool] = ()
    tool_choice: str = "auto"
    settings: ModelSettings = field(default_factory=ModelSettings)
    output_schema: JsonObject | None = None
    deadline: float | None = None
    examples: int = 0

    @property
    def lead(self) -> Sequence[Message]:
        """What each conversation of an agent begins with: the system message and the examples."""
        system = bool(self.messages) and self.messages[0].role == "system"
        return self.messages[: system + self.examples]

    def spelled_out(self) -> ModelRequest:
        """The same for a model that has no place for reasoning: what the examples hold of it is text, so that the model
        sees the steps."""
        if not self.examples:
            return self
        return replace(self, messages=[*map(_spelled_out, self.lead), *self.messages[len(self.lead) :]])


def _spelled_out(message: Message) -> Message:
    if not message.reasoning:
        return message
    end = "\n" if message.text else ""
    return Message(
        message.role,
        [
            TextPart(part.text + end) if isinstance(part, ReasoningPart) and not part.state else part
            for part in message.content
        ],
    )


class Provider(ABC):
    """One model, reachable. Subclass it and write `stream`.

    Attributes:
        name: the model as a user would write it, ``openai:gpt-5`` for example; runs are on record with it.
    """

    name: str = ""

    @abstractmethod
    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """One turn of the model: its events in order, `ModelFinished` last.

        Closing the generator, or cancelling the task that reads it, stops the model.

        Raises:
            ProviderError: the model could not answer.
        """

    async def complete(
        self,
        messages: str | Message | Iterable[Message | Mapping[str, object]],
        *,
        tools: Iterable[AnyTool | Callable[..., object] | Mapping[str, object]] = (),
        tool_choice: str = "auto",
        settings: ModelSettings | None = None,
        output_schema: JsonObject | None = None,
    ) -> ModelResponse:
        """One call of the model, no loop: the tools are offered, not run.

        Raises:
            ProviderError: the model could not answer.
            UnsupportedInputError: this provider cannot hold an answer to a schema.
            ConfigError: a tool or the ``tool_choice`` is not usable.
        """
        offered = tools_by_name(as_tool(given) for given in tools)
        check_choice(tool_choice, offered)
        request = ModelRequest(
            as_messages(messages), list(offered.values()), tool_choice, settings or ModelSettings(), output_schema
        )
        builder = ResponseBuilder()
        async for event in self.stream(request):
            builder.add(event)
        return builder.response()

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """How to ask for an answer of a type in a request that offers tools, or offers none. It may ask the server.

        ``prompt`` unless a provider says otherwise: it works with every model.
        """
        return "prompt"

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The tokens of the request's prompt, tools and template included; None where only the server could say."""
        return None

    async def context_size(self) -> int | None:
        """The tokens that a prompt and its answer may have together; None where that is not known. It may ask the
        server."""
        return None

    async def close(self) -> None:  # noqa: B027 - most providers hold nothing to release
        """Release connections or memory. The provider must not be used after."""


class ResponseBuilder:
    """Puts the events of one turn together. ``size`` is how many characters the model has written."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[Part] = []
        self._run: list[str] = []  # the text or reasoning being collected
        self._run_kind: type[TextPart] | type[ReasoningPart] = TextPart
        self._problems: list[Problem] = []
        self._finished: ModelFinished | None = None

    def add(self, event: ModelEvent) -> None:
        """Take the next event."""
        if isinstance(event, TextDelta):
            self._collect(TextPart, event.text)
        elif isinstance(event, ReasoningDelta):
            self._collect(ReasoningPart, event.text)
        elif isinstance(event, ReasoningEnd):
            self._collect(ReasoningPart, "")
            self._parts.append(ReasoningPart("".join(self._run), event.state))
            self._run.clear()
        elif isinstance(event, ToolCallDelta):
            self.size += len(event.arguments)
        elif isinstance(event, ToolCallEnd):
            self._flush()
            self._add(event.call)
        elif isinstance(event, ProblemFound):
            self._problems.append(event.problem)
        elif isinstance(event, Restarted):
            self._parts.clear()
            self._run.clear()
            self._problems.clear()
        elif isinstance(event, ModelFinished):
            self._finished = event

    def response(self) -> ModelResponse:
        """The turn.

        Raises:
            ProviderProtocolError: the stream ended without `ModelFinished`.
        """
        if self._finished is None:
            raise ProviderProtocolError("the provider's stream ended without ModelFinished")
        self._flush()
        reason = self._finished.finish_reason
        if reason == "stop" and any(isinstance(part, ToolCall) for part in self._parts):
            reason = "tool_calls"
        return ModelResponse(Message("assistant", self._parts), self._problems, self._finished.usage, reason)

    def partial(self) -> Message:
        """What was said so far, without its calls: a turn that was broken off leaves valid history."""
        self._flush()
        return Message("assistant", [part for part in self._parts if not isinstance(part, ToolCall)])

    def _add(self, call: ToolCall) -> None:
        try:
            canonical(call.arguments)
        except (TypeError, ValueError) as error:  # no record could hold it
            message = f"The call of {call.name!r} was not run, its arguments cannot be put on record: {error}."
            self._problems.append(Problem("invalid_arguments", message, call.name))
        else:
            self._parts.append(call)

    def _collect(self, kind: type[TextPart] | type[ReasoningPart], text: str) -> None:
        if kind is not self._run_kind:
            self._flush()
            self._run_kind = kind
        self._run.append(text)
        self.size += len(text)

    def _flush(self) -> None:
        text = "".join(self._run)
        self._run.clear()
        if text:
            self._parts.append(self._run_kind(text))


def tools_by_name(tools: Iterable[AnyTool]) -> dict[str, AnyTool]:
    """Tools by name, in order; the same tool twice counts once.

    Raises:
        DuplicateToolError: two different tools have one name.
    """
    found: dict[str, AnyTool] = {}
    for tool in tools:
        other = found.setdefault(tool.name, tool)
        if other is not tool:
            raise DuplicateToolError(f"Two tools are named {tool.name!r}: give one another name with @tool(name=…)")
    return found
