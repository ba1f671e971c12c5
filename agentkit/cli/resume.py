"""`agentkit resume`: go on with a run that was interrupted, failed, is paused, or met a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from agentkit.cli.follow import follow
from agentkit.cli.journal import SEARCHED, find, open_journal, with_journal
from agentkit.cli.launch import Launch
from agentkit.cli.options import AsJson, MaxCost, MaxOutputTokens, MaxSteps, RunId, Timeout, Yes, bounded
from agentkit.cli.view import RunView
from agentkit.errors import ResumeError, RunNotFoundError
from agentkit.journal.base import Entry, Journal, RunInfo
from agentkit.journal.records import RunEnded, RunStarted
from agentkit.policy import PendingCall

__all__ = ["resume"]


def resume(
    run: RunId = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Make this call that waits; repeatable.")
    ] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Do not make this call; repeatable.")] = None,
    max_steps: MaxSteps = None,
    timeout: Timeout = None,
    max_cost: MaxCost = None,
    max_output_tokens: MaxOutputTokens = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a run; without RUN with the last one that came to no end. What was done is not done again."""
    run_id, entries = with_journal(lambda journal: _on_record(journal, run))
    started, last = entries[0].record, entries[-1].record
    assert isinstance(started, RunStarted)
    launch = Launch.read(run_id, started)
    pending = last.pending if isinstance(last, RunEnded) else ()
    decisions = {_key(given, pending): True for given in allow or ()}
    decisions |= {_key(given, pending): False for given in deny or ()}
    limits = bounded(launch.limits, max_steps, timeout, max_cost, max_output_tokens)
    launch.enter_folder()
    agent = launch.agent(started.instructions, open_journal(), yes=yes)
    follow(
        agent,
        run_id,
        agent.stream_resumed(run_id, decisions, limits=limits if limits != launch.limits else None),
        RunView(has_tools=bool(agent.tools) and started.tool_choice != "none", answer=not as_json),
        on_record=True,
        as_json=as_json,
    )


async def _on_record(journal: Journal, given: str | None) -> tuple[str, list[Entry]]:
    runs = await journal.runs(limit=SEARCHED)
    run_id = find(runs, given) if given else next((run.run_id for run in runs if _waits(run)), "")
    if not run_id:
        raise RunNotFoundError("No run waits to go on: `agentkit runs` lists them all")
    return run_id, await journal.entries(run_id)


def _waits(run: RunInfo) -> bool:
    return run.stop_reason in (None, "paused") and not run.is_running and not run.parent


def _key(given: str, pending: Sequence[PendingCall]) -> str:
    found = [call.key for call in pending if call.key.startswith(given)]
    if len(found) != 1:
        waiting = ", ".join(f"{call.key} ({call.tool})" for call in pending) or "none"
        raise ResumeError(f"{given!r} is not one call that waits for a decision: those that wait are {waiting}")
    return found[0]
