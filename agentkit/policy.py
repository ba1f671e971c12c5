"""Which calls may be made: effects, taint, rules, and approvals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentkit.messages import JsonObject
from agentkit.tool import Effect

__all__ = ["Action", "Decision", "PendingCall"]

Action: TypeAlias = Literal["allow", "deny", "ask", "modify"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person, or a handler in their place, says of a call.

    Attributes:
        allow: whether it may be made; of a call whose outcome is unknown, whether it is to be made again.
        reason: in words; the model reads it where the call is denied.
        arguments: instead of the call's own; None leaves them. They are validated like the model's.
        result: what the call came to, where the person knows: the model is told this and nothing is run.
    """

    allow: bool
    reason: str = ""
    arguments: JsonObject | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits for a decision.

    Attributes:
        key: names it in `Agent.resume`: the call's idempotency key.
        run_id: the run that made it; a call's run of its own, where an agent was called as a tool.
        tool: its name.
        arguments: exactly those that it will be run with, as JSON values with their keys sorted.
        effect: what the tool says that it does; None where it does not say.
        why: the rule or the taint that asks for it.
        is_interrupted: the call was started before, and nobody knows whether it took effect.
    """

    key: str
    run_id: str
    tool: str
    arguments: JsonObject
    effect: Effect | None
    why: str
    is_interrupted: bool = False
