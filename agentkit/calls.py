"""One call → its result: validate, then run. Two steps, with a `ValidatedCall` between them.

Whatever goes wrong with a call becomes that call's result, in words that the model can act on.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from agentkit._threads import Threads
from agentkit.errors import CallNotDone, InvalidArgumentsError, JournalError, ToolDefinitionError, ToolError, nearest
from agentkit.messages import JsonObject, ToolCall, ToolErrorKind, ToolResult, clean_text
from agentkit.policy import PendingCall
from agentkit.tool import AnyTool, RunContext, is_async, takes_context
from agentkit.tool_output import UnserializableError, as_output, cut

if TYPE_CHECKING:
    from agentkit.context import Run

__all__ = ["CANCEL_GRACE", "CallsPending", "ValidatedCall", "failure", "run_call", "validate"]

CANCEL_GRACE: Final = 1.0
"""Seconds that a tool has to come to its end once it was cancelled, before it is left to itself."""


class CallsPending(Exception):
    """Raised by a tool that is an agent: calls of its run wait for a decision, so this call does too."""

    def __init__(self, calls: Sequence[PendingCall]) -> None:
        self.calls = calls
        super().__init__(f"{len(calls)} calls wait for a decision")


@dataclass(frozen=True, slots=True)
class ValidatedCall:
    """A call whose tool exists and whose arguments fit; ``arguments`` are as the function takes them."""

    call: ToolCall
    tool: AnyTool
    arguments: JsonObject


def validate(call: ToolCall, tools: Mapping[str, AnyTool]) -> ValidatedCall | ToolResult:
    """Check a call against the offered tools: either it can run, or here is what the model is told instead."""
    tool = tools.get(call.name)
    if tool is None:
        known = ", ".join(tools) or "none"
        return failure(
            call, "unknown_tool", f"There is no tool named {call.name!r}. Tools: {known}.{nearest(call.name, [*tools])}"
        )
    try:
        return ValidatedCall(call, tool, tool.validate(call.arguments))
    except ToolDefinitionError as error:  # its schema is not sound
        return failure(call, "exception", f"{call.name!r} cannot be run: {error}")
    except InvalidArgumentsError as error:
        schema = json.dumps(tool.parameters.get("properties", {}), ensure_ascii=False, default=str)
        return failure(
            call,
            "invalid_arguments",
            f"The arguments for {call.name!r} do not fit: {error}. Expected: {cut(schema, 2000)}",
        )


async def run_call(
    run: Run[object],
    checked: ValidatedCall,
    context: RunContext[object],
    function: Callable[..., object] | None = None,
    output_name: str = "",
) -> tuple[ToolResult, str]:
    """Run a call and wait for its end, or until its time is up.

    Args:
        run: whose limits hold.
        checked: the call.
        context: what the tool is told of the run.
        function: instead of the tool's own.
        output_name: what the whole output will be called, where it is kept.

    Returns:
        The result as the model reads it; and the whole text where that was cut, else nothing.

    Raises:
        CallNotDone, CallsPending: as the function raised it.
        JournalError: the run beneath could not be put on record, or somebody else is running it.
    """
    call, tool = checked.call, checked.tool
    seconds = min(tool.timeout or run.limits.tool_timeout, run.deadline - asyncio.get_running_loop().time())
    if seconds <= 0:
        return failure(call, "not_run", f"{call.name!r} was not run: the run's deadline has passed"), ""
    function = function or tool.function
    work = asyncio.create_task(_call(function, checked, context, run.threads))
    try:
        await asyncio.wait({work}, timeout=seconds)
        if not work.done():
            can_end = is_async(function) or _is_isolated(function, tool)
            note = "" if can_end else " It may still be running: a thread cannot be stopped."
            return failure(call, "timeout", f"{call.name!r} did not finish within {seconds:.3g} seconds.{note}"), ""
        output = as_output(work.result(), call.name)
    except (CallNotDone, CallsPending):
        raise
    except JournalError as error:
        if error.run_id == context.idempotency_key:  # the run beneath has not failed: it can be resumed, with this one
            raise
        return _failed(error, checked, run.limits.tool_output), ""
    except asyncio.CancelledError:
        if not work.cancelled():  # this run was cancelled
            raise
        return failure(call, "exception", f"{call.name!r} was cancelled from within"), ""
    except Exception as error:
        return _failed(error, checked, run.limits.tool_output), ""
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=CANCEL_GRACE)
        if work.done() and not work.cancelled():
            work.exception()  # Python warns of one that nobody looks at, as where the run is cancelled
    content = cut(output.text, run.limits.tool_output, output_name)
    is_untrusted = tool.untrusted or output.is_untrusted
    result = ToolResult(call.id, call.name, content + _repair_note(call), None, output.images, is_untrusted)
    return result, "" if content is output.text else output.text


def _failed(error: Exception, checked: ValidatedCall, limit: int) -> ToolResult:
    call, is_untrusted = checked.call, checked.tool.untrusted
    if isinstance(error, UnserializableError):
        return failure(call, "unserializable", str(error))
    words = str(error) if isinstance(error, ToolError) else f"{call.name!r} failed: {type(error).__name__}: {error}"
    return replace(failure(call, "exception", cut(words, limit)), untrusted=is_untrusted)


async def _call(
    function: Callable[..., object] | None, checked: ValidatedCall, context: RunContext[object], threads: Threads
) -> object:
    if function is None:
        raise ToolError(f"{checked.call.name!r} is described, but there is no function here that runs it")
    if _is_isolated(function, checked.tool):
        from agentkit._processes import run_isolated

        context = replace(context, _caller=None)  # the run stays here
        return await run_isolated(_bind(function, checked.arguments, context), checked.call.name, threads)
    bound = _bind(function, checked.arguments, context)
    try:
        returned = bound() if is_async(function) else await _in_thread(bound, threads)
        return await returned if isinstance(returned, Awaitable) else returned
    except SystemExit as error:  # it would stop the event loop
        raise RuntimeError(f"SystemExit: {error}") from error


async def _in_thread(bound: Callable[[], object], threads: Threads) -> object:
    """Run a synchronous tool. One that is given up has its time to end, as an async one has: while it goes on, nobody
    can find out what will have come of it."""
    working = threads.submit(bound)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working}, timeout=CANCEL_GRACE)
        if not working.cancel():
            working.exception()  # nobody waits for it; Python warns unless it is looked at
        raise


def _bind(function: Callable[..., object], arguments: JsonObject, context: RunContext[object]) -> Callable[[], object]:
    named = dict(arguments)
    leading: list[object] = [context] if takes_context(function) else []
    positional_only = [
        name for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.POSITIONAL_ONLY and name in named
    ]  # fmt: skip
    return partial(function, *leading, *[named.pop(name) for name in positional_only], **named)


def _is_isolated(function: object, tool: AnyTool) -> bool:
    return tool.isolated and function is tool.function


def _repair_note(call: ToolCall) -> str:
    """What the model is told of a call that was run, but not quite as it was written."""
    if not call.repairs:
        return ""
    from agentkit.parsing.repair import REPAIRS, TOLD

    faults = "; ".join(REPAIRS[repair] for repair in call.repairs if repair in TOLD)
    read = cut(json.dumps(call.arguments, ensure_ascii=False, default=str), 500)
    return f"\n(Your call was not quite right: {faults}. It was read as {read}.)" if faults else ""


def failure(call: ToolCall, kind: ToolErrorKind, message: str) -> ToolResult:
    return ToolResult(call.id, call.name, clean_text(message), kind)
