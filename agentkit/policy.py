"""Which calls may be made: effects, taint, rules, and approvals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from agentkit.messages import JsonObject
from agentkit.tool import AnyTool, Effect

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


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    by: str
    reason: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class Policy:
    on_ask: Callable[[PendingCall], Decision] | None = None
    unknown: Literal["pause", "tell"] = "pause"

    def decide(self, tool: AnyTool, arguments: JsonObject, taint: str | None) -> Verdict:
        arguments = canonical(arguments)
        if taint is not None and tool.effect != "read":
            return Verdict("ask", "taint", f"tainted by {taint}", arguments)
        return Verdict("allow", "default", "", arguments)

    async def ask(self, call: PendingCall) -> Decision | None:
        return None if self.on_ask is None else self.on_ask(call)


def canonical(arguments: JsonObject) -> JsonObject:
    return cast("JsonObject", json.loads(json.dumps(arguments, sort_keys=True, default=str)))


Decisions: TypeAlias = Mapping[str, Decision | bool]
"""Decisions on pending calls, by their keys; True and False allow and deny."""


def as_decisions(given: Decisions) -> dict[str, Decision]:
    """The same, each as a `Decision`."""
    return {key: made if isinstance(made, Decision) else Decision(made) for key, made in given.items()}
