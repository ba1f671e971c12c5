"""What is put on record of a run: its state is what its records make of it, in order (`agentkit.state.RunState`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from agentkit.errors import JournalError
from agentkit.limits import StopReason
from agentkit.messages import (
    JSON_CONFIG,
    JsonObject,
    Message,
    ModelResponse,
    Problem,
    ToolResult,
    Usage,
    clean_json,
)
from agentkit.policy import Action, Decision, PendingCall

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "CallDecided",
    "CallFinished",
    "CallStarted",
    "Compacted",
    "ModelAnswered",
    "Record",
    "RunEnded",
    "RunResumed",
    "RunStarted",
    "StepEnded",
    "dump_record",
    "load_record",
]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first record: the task, and what it was given to.

    Attributes:
        messages: what the conversation begins with; behind those of ``continues``, if there is one.
        continues: the run whose conversation this one goes on with.
        at_step: how many of that run's steps are taken over; None for all.
        agent: the agent's name.
        model: the provider's name.
        instructions: the system message.
        tools: the tools, in OpenAI's shape.
        tool_choice: as `Agent.run` takes it.
        session: the conversation's id; empty for none.
        parent: the run that called this one's agent as a tool; empty for a run of its own.
        metadata: the caller's own.
        refused: why a hook refused the task, or that none was asked in time; empty where they passed it.
    """

    messages: tuple[Message, ...]
    continues: str = ""
    at_step: int | None = None
    agent: str = ""
    model: str = ""
    instructions: str = ""
    tools: tuple[JsonObject, ...] = ()
    tool_choice: str = "auto"
    session: str = ""
    parent: str = ""
    metadata: JsonObject = field(default_factory=dict)
    refused: str = ""
    kind: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """A turn of the model, complete."""

    response: ModelResponse
    kind: Literal["model_answered"] = "model_answered"


@dataclass(frozen=True, slots=True)
class CallDecided:
    """The audit line: what was decided of a call, by whom and why.

    Attributes:
        key: the call's idempotency key.
        tool: its name.
        arguments: as they were decided upon.
        action: what was decided.
        by: the rule, the default, the handler, or who resumed the run.
        reason: in words.
    """

    key: str
    tool: str
    arguments: JsonObject
    action: Action
    by: str
    reason: str = ""
    kind: Literal["call_decided"] = "call_decided"


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call is about to be run. Without a `CallFinished` behind it nobody knows whether it took effect.

    ``place`` counts the calls of the model's last turn from 0; ``arguments`` are those that it is run with.
    """

    place: int
    key: str
    arguments: JsonObject
    kind: Literal["call_started"] = "call_started"


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A call has its result, whether it was run or not.

    ``whole`` is the result as it was before it was cut. ``usage`` is what runs beneath the call have used, ``calls``
    counts the calls that they made, by tool.
    """

    place: int
    key: str
    result: ToolResult
    whole: str = ""
    usage: Usage = field(default_factory=Usage)
    calls: Mapping[str, int] = field(default_factory=dict)
    kind: Literal["call_finished"] = "call_finished"


@dataclass(frozen=True, slots=True)
class StepEnded:
    """What stands behind the model's turn now: results, corrections; and whether the run goes on.

    ``problems`` are those that the turn itself does not hold: an answer that was refused, a call that was not made.
    ``usage`` is that of a turn that a hook refused, which is not on record.
    """

    messages: tuple[Message, ...]
    stop_reason: StopReason | None
    problems: tuple[Problem, ...] = ()
    usage: Usage = field(default_factory=Usage)
    kind: Literal["step_ended"] = "step_ended"


@dataclass(frozen=True, slots=True)
class Compacted:
    """The model is no longer sent the first ``count`` messages of the conversation but ``instead``."""

    count: int
    instead: tuple[Message, ...]
    response: ModelResponse | None = None  # the turn that wrote the summary, for its usage
    kind: Literal["compacted"] = "compacted"

    def sent(self, messages: Sequence[Message]) -> list[Message]:
        """What the model is sent of a conversation that has gone on since."""
        return [*self.instead, *messages[self.count :]]


@dataclass(frozen=True, slots=True)
class RunResumed:
    """The run goes on: after a crash, or with decisions on the calls that waited for them."""

    decisions: Mapping[str, Decision] = field(default_factory=dict)
    kind: Literal["run_resumed"] = "run_resumed"


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run came to its end, or waits for decisions on ``pending`` calls. ``problem`` is what a hook ended it for."""

    stop_reason: StopReason
    pending: tuple[PendingCall, ...] = ()
    problem: Problem | None = None
    kind: Literal["run_ended"] = "run_ended"


Record: TypeAlias = (
    RunStarted
    | ModelAnswered
    | CallDecided
    | CallStarted
    | CallFinished
    | StepEnded
    | Compacted
    | RunResumed
    | RunEnded
)


def dump_record(record: Record) -> bytes:
    """A record as JSON; `load_record` gives back an equal one. Lone surrogates, which UTF-8 cannot carry, are replaced.

    Raises:
        JournalError: it holds what JSON cannot say.
    """
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return _adapter().dump_json(record)
    except PydanticSerializationError:
        pass
    try:
        cleaned = clean_json(_adapter().dump_python(record))
        return to_json(cleaned, bytes_mode="base64", inf_nan_mode="constants")
    except (ValueError, RecursionError) as error:
        raise JournalError(f"A record of the run ({record.kind}) cannot be written as JSON: {error}") from error


def load_record(text: str | bytes) -> Record:
    """A record from JSON.

    Raises:
        pydantic.ValidationError: the text is no JSON, or no record.
    """
    return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[Record]:
    from pydantic import Field, TypeAdapter
    from typing_extensions import Annotated  # noqa: UP035

    return TypeAdapter(Annotated[Record, Field(discriminator="kind")], config=JSON_CONFIG)
