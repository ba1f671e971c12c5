"""Whether a call may be run: what is on record of it, its arguments, limits, hooks, policy, and people."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agentkit.calls import ValidatedCall, failure, run_call, validate
from agentkit.errors import CallNotDone
from agentkit.journal.records import CallDecided
from agentkit.messages import JsonObject, ToolCall, ToolResult, canonical
from agentkit.policy import Action, Decision, PendingCall, Policy, Verdict

if TYPE_CHECKING:
    from agentkit.context import Run

__all__ = ["Admission", "admit"]

_STRICTNESS: Final[Sequence[Action]] = ("deny", "ask", "modify", "allow")


@dataclass(frozen=True, slots=True)
class Admission:
    """What comes of a call: it is run, it has a result without being run, or it waits for a decision. ``audit`` says
    what was decided, if anything was; ``whole`` is the result before it was cut."""

    outcome: ValidatedCall | ToolResult | PendingCall
    audit: tuple[CallDecided, ...] = ()
    whole: str = ""


async def admit(run: Run[object], place: int, call: ToolCall) -> Admission:
    """Decide on a call of the last turn.

    Raises:
        StopRun: a hook ended the run.
    """
    assert run.turn is not None
    key = run.key(place)
    if place in run.turn.started:
        return await _interrupted(run, place, call)
    if key in run.asked and call.name in run.setup.tools:  # as it was asked for, it is decided
        return await _asked(run, run.asked[key], call, key)
    checked = validate(call, run.setup.tools)
    if isinstance(checked, ToolResult):
        return Admission(checked)
    hooked = await _hooked(run, checked, key)
    if isinstance(hooked, ToolResult):
        return Admission(hooked)
    return await _judged(run, hooked, key)


async def _hooked(run: Run[object], checked: ValidatedCall, key: str) -> ValidatedCall | ToolResult:
    for hooks in run.setup.hooks:
        answer = await run.bounded(hooks.before_tool(run.context(checked.call, key), checked.call))
        if isinstance(answer, ToolResult):
            return replace(answer, call_id=checked.call.id, name=checked.call.name)
        again = _with_arguments(run, checked.call, answer.arguments)  # though it is the same: it may have been changed
        if isinstance(again, ToolResult):
            return again
        checked = again
    return checked


async def _judged(run: Run[object], checked: ValidatedCall, key: str) -> Admission:
    """The policies say: each sees the arguments that the one before it left, and the strictest word holds."""
    call = checked.call
    verdicts: list[Verdict] = []
    for policy in run.all_policies():
        arguments = verdicts[-1].arguments if verdicts else call.arguments
        verdicts.append(policy.decide(checked.tool, arguments, run.taint))
    verdict = min(verdicts, key=lambda verdict: _STRICTNESS.index(verdict.action))
    arguments = verdicts[-1].arguments
    audit = CallDecided(key, call.name, arguments, verdict.action, verdict.by, verdict.reason)
    if verdict.action == "deny":
        return Admission(_denied(call, verdict.reason), (audit,))
    if verdict.action == "modify":
        return _ready(run, _with_arguments(run, call, arguments), audit)
    if verdict.action == "ask":
        why = f"{verdict.reason} ({verdict.by})"
        pending = PendingCall(key, run.run_id, call.name, arguments, checked.tool.effect, why, idempotency_key=key)
        return await _asked(run, pending, call, key)
    return _ready(run, checked, audit)


async def _asked(run: Run[object], pending: PendingCall, call: ToolCall, key: str) -> Admission:
    """A call that somebody must decide on: it is decided already, the handler is asked, or the run is paused."""
    by = "the person who resumed the run"
    decision = run.decided.get(pending.key)
    if decision is None and not pending.is_interrupted:  # a handler that allows a call does not mean: do it again
        by = "the handler"
        decision = await _decision(run, pending)
    if decision is None:
        return Admission(pending)
    arguments = pending.arguments if decision.arguments is None else decision.arguments
    action: Action = "deny" if not decision.allow else "allow" if decision.arguments is None else "modify"
    reason = "; ".join(filter(None, [pending.why, decision.reason]))
    audit = CallDecided(key, pending.tool, canonical(arguments), action, by, reason)
    if decision.result is not None:
        return Admission(ToolResult(call.id, call.name, decision.result), (audit,))
    if decision.allow:
        checked = _with_arguments(run, call, arguments)
        return Admission(checked, (audit,)) if pending.is_interrupted else _ready(run, checked, audit)
    refused = _unknown(call, decision.reason) if pending.is_interrupted else _denied(call, decision.reason)
    return Admission(refused, (audit,))


async def _decision(run: Run[object], pending: PendingCall) -> Decision | None:
    """What the handlers say: that of each policy that asks, or, where it has none, of one above. All must allow it."""
    decision: Decision | None = None
    heard: list[Policy] = []
    policies = run.all_policies()
    for place, policy in enumerate(policies):
        verdict = policy.decide(run.setup.tools[pending.tool], pending.arguments, run.taint)
        if verdict.action != "ask":
            continue
        answering = next((above for above in policies[place:] if above.on_ask is not None), None)
        if answering is None:
            return None
        if answering not in heard:
            heard.append(answering)
            decision = await _answer(run, answering, pending)
            if not decision.allow:
                return decision
    return decision


async def _answer(run: Run[object], policy: Policy, pending: PendingCall) -> Decision:
    late = Decision(False, "nobody decided before the run's deadline")
    try:
        async with asyncio.timeout_at(run.deadline) as scope:
            return await policy.ask(pending) or late
    except TimeoutError:
        if not scope.expired():
            raise
        return late


async def _interrupted(run: Run[object], place: int, call: ToolCall) -> Admission:
    """A call that was started before, and that has no result on record: it is never simply made again."""
    assert run.turn is not None
    started = run.turn.started[place]
    # A question of its own each time: what was decided before was not this.
    question = hashlib.sha256(f"{started.key} {run.turn.attempts[place]}".encode()).hexdigest()[:32]
    checked = _with_arguments(run, call, started.arguments)
    if isinstance(checked, ToolResult):  # the agent has no such tool any more
        return Admission(_unknown(call, checked.content))
    if checked.tool.idempotent:
        return Admission(checked)
    why = "the call was interrupted, and nobody knows whether it took effect: to allow it is to make it again"
    if question not in run.decided and checked.tool.reconcile is not None:
        try:
            context = run.context(checked.call, started.key)
            name = run.output_name(place)
            result, whole = await run_call(run, checked, context, checked.tool.reconcile, name)
        except CallNotDone:
            return Admission(checked)
        if result.error is None:
            return Admission(await run.after_tool(checked.call, started.key, result), whole=whole)
        why += f" (`reconcile` did not find out: {result.content})"
    if all(policy.unknown == "tell" for policy in run.all_policies()):
        return Admission(_unknown(call))
    name, effect = checked.tool.name, checked.tool.effect
    pending = PendingCall(question, run.run_id, name, started.arguments, effect, why, True, started.key)
    return await _asked(run, pending, call, started.key)


def _ready(run: Run[object], checked: ValidatedCall | ToolResult, audit: CallDecided) -> Admission:
    """Run it, if its arguments fit (they may be a person's) and a limit allows one more."""
    if isinstance(checked, ValidatedCall) and (refusal := run.budget.take_call(checked.call.name)):
        return Admission(failure(checked.call, "not_run", f"{checked.call.name!r} was not run: {refusal}"), (audit,))
    return Admission(checked, (audit,))


def _with_arguments(run: Run[object], call: ToolCall, arguments: JsonObject) -> ValidatedCall | ToolResult:
    return validate(replace(call, arguments=arguments), run.setup.tools)


def _denied(call: ToolCall, reason: str) -> ToolResult:
    why = f": {reason.rstrip('.')}" if reason else ""
    return failure(call, "denied", f"{call.name!r} was not run: it was refused{why}. Do not try it again.")


def _unknown(call: ToolCall, reason: str = "") -> ToolResult:
    said = f" {reason}" if reason else ""
    return failure(
        call,
        "unknown_outcome",
        f"{call.name!r} was interrupted, and its outcome is unknown: it may have taken effect.{said} "
        "Look before you do it again.",
    )
