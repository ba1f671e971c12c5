"""Tool calls → results: admit each, run those that may run at the same time, and put all of it on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from agentkit.admission import admit
from agentkit.budget import Budget
from agentkit.calls import CANCEL_GRACE, CallsPending, run_call
from agentkit.events import ToolFinished, ToolStarted
from agentkit.journal.records import CallFinished, CallStarted
from agentkit.messages import ToolCall, ToolResult, canonical
from agentkit.policy import PendingCall

if TYPE_CHECKING:
    from agentkit.context import Run

__all__ = ["execute"]


async def execute(run: Run[object]) -> AsyncGenerator[ToolStarted | ToolFinished, None]:
    """Run the calls of the last turn that have no result yet, at the same time, and yield each result as it comes.

    A call that waits for a decision gets none: the run is then to be paused.

    Raises:
        JournalError: a call or its result could not be put on record.
        StopRun: a hook ended the run.
    """
    calls = run.open_calls()
    if not calls:
        return
    said: asyncio.Queue[ToolStarted | ToolFinished | asyncio.Task[None]] = asyncio.Queue()
    tasks = [asyncio.create_task(_serve(run, place, call, said.put_nowait)) for place, call in calls]
    for task in tasks:
        task.add_done_callback(said.put_nowait)
    try:
        left = len(tasks)
        while left:
            item = await said.get()
            if isinstance(item, asyncio.Task):
                left -= 1
                item.result()
            else:
                yield item
    finally:
        busy = [task for task in tasks if not task.done()]
        for task in busy:
            task.cancel()
        if busy:
            await asyncio.wait(busy, timeout=2 * CANCEL_GRACE)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # one of them was raised; Python warns of the others unless they are looked at


async def _serve(
    run: Run[object], place: int, call: ToolCall, say: Callable[[ToolStarted | ToolFinished], None]
) -> None:
    """One call from its admission to its result, each on record before it counts."""
    admission = await admit(run, place, call)
    outcome, key = admission.outcome, run.key(place)
    if isinstance(outcome, PendingCall):
        run.waiting[outcome.key] = outcome
        return
    if isinstance(outcome, ToolResult):
        await run.record(*admission.audit, CallFinished(place, key, outcome, admission.whole))
        say(ToolFinished(call, outcome))
        return
    await run.record(*admission.audit, CallStarted(place, key, canonical(outcome.call.arguments)))
    say(ToolStarted(outcome.call))
    budget = Budget(parent=run.budget)
    try:
        context = run.context(outcome.call, key, budget)
        result, whole = await run_call(run, outcome, context, output_name=run.output_name(place))
    except CallsPending as paused:
        run.waiting.update((pending.key, pending) for pending in paused.calls)
        return
    result = await run.after_tool(outcome.call, key, result)
    await run.record(CallFinished(place, key, result, whole, budget.usage, dict(budget.calls)))
    say(ToolFinished(outcome.call, result))
