"""What happens in a run, as it happens.

A provider streams the first group and ends with `ModelFinished`; a run passes them on and adds the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias

from agentkit.limits import StopReason
from agentkit.messages import (
    FinishReason,
    JsonObject,
    JsonValue,
    Message,
    ModelResponse,
    Problem,
    ToolCall,
    ToolResult,
    Usage,
)

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from agentkit.policy import PendingCall

    OutputT_co = TypeVar("OutputT_co", covariant=True, default=str)
else:  # defaults are a type checker's matter; typing has them from Python 3.13 on
    from typing import TypeVar

    OutputT_co = TypeVar("OutputT_co", covariant=True)

__all__ = [
    "Event",
    "ModelEvent",
    "ModelFinished",
    "OutputT_co",
    "PartialOutput",
    "ProblemFound",
    "ReasoningDelta",
    "ReasoningEnd",
    "Restarted",
    "RunFinished",
    "RunResult",
    "StepFinished",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallEnd",
    "ToolCallStart",
    "ToolFinished",
    "ToolStarted",
]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningEnd:
    """A piece of reasoning is complete, and its provider wants ``state`` back (see `ReasoningPart`)."""

    state: JsonObject


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """The model began to write a call and its tool's name is known."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a call's arguments, as the model writes them."""

    id: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallEnd:
    """A call is complete and could be read."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ProblemFound:
    """Something in the model's turn could not be used."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Restarted:
    """The turn broke off and begins anew: whatever it has streamed so far is void.

    Only providers that were told to do so restart a turn (see `Retry`). ``reason`` is the error that broke it off.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class ModelFinished:
    """The model's turn is over. The last event of a provider's stream."""

    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)


ModelEvent: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | ReasoningEnd
    | ToolCallStart
    | ToolCallDelta
    | ToolCallEnd
    | ProblemFound
    | Restarted
    | ModelFinished
)


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """An answer of a type has grown: ``value`` is all of it so far, as JSON that was not validated yet.

    Where the answer turns out not to fit and is written again, its parts come again too.
    """

    value: JsonValue


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A call was found valid and its tool is running."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A call has its result; calls of one turn may finish in any order."""

    call: ToolCall
    result: ToolResult


@dataclass(frozen=True, slots=True)
class StepFinished:
    """The model's turn is complete; its calls, if any, come next."""

    response: ModelResponse


@dataclass(frozen=True, slots=True)
class RunResult(Generic[OutputT_co]):
    """What a run came to.

    ``output`` is the answer: text, or a value of the agent's output type. ``messages`` is the whole conversation
    without the agent's instructions: pass it as ``history`` to go on. ``usage`` includes that of agents that were
    called as tools. ``steps`` counts the model's turns; ``problems`` are all that were met, solved or not. ``pending``
    are the calls that wait for a decision, where the run is paused: see `Agent.resume`.
    """

    output: OutputT_co
    messages: list[Message]
    usage: Usage
    run_id: str
    steps: int
    stop_reason: StopReason
    problems: list[Problem] = field(default_factory=list)
    pending: list[PendingCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunFinished(Generic[OutputT_co]):
    """The last event of a run."""

    result: RunResult[OutputT_co]


Event: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | ReasoningEnd
    | ToolCallStart
    | ToolCallDelta
    | ToolCallEnd
    | ProblemFound
    | Restarted
    | PartialOutput
    | ToolStarted
    | ToolFinished
    | StepFinished
    | RunFinished[OutputT_co]
)
