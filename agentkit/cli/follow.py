"""A run on the screen until it ends, or is left: shown, decided on, and how to go on with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Final

import typer

from agentkit.agent import Agent
from agentkit.cli.approve import Person, show_pending
from agentkit.cli.journal import short
from agentkit.cli.screen import ERR, show_error
from agentkit.cli.view import RunView
from agentkit.errors import AgentKitError, JournalCorruptError, JournalError, JournalUnavailableError, ProviderError
from agentkit.events import Event, RunFinished, RunResult
from agentkit.limits import StopReason
from agentkit.messages import dump_messages

__all__ = ["follow"]

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a provider may take to release what it holds."""

_INCOMPLETE: Final[dict[StopReason, str]] = {
    "steps": "the step limit was reached before an answer: allow more with --max-steps",
    "deadline": "the time ran out before an answer: allow more with --timeout",
    "output_tokens": "the limit of tokens was reached before an answer: allow more with --max-output-tokens",
    "cost": "the limit of cost was reached before an answer: allow more with --max-cost",
    "corrections": "the model wrote no usable call or answer several times in a row: try another --model",
    "repeats": "the model made the same calls with the same results several times in a row: try another --model",
    "output_size": "the model's turn grew too long and was broken off",
    "length": "the answer is cut off: the model reached its limit of tokens",
    "content_filter": "the answer was withheld by the provider's content filter",
    "refusal": "the model refused to answer",
}
_MORE: Final[dict[StopReason, str]] = {
    "steps": "--max-steps N",
    "deadline": "--timeout SECONDS",
    "output_tokens": "--max-output-tokens N",
    "cost": "--max-cost USD",
}


def follow(
    agent: Agent[str],
    run_id: str,
    events: AsyncGenerator[Event[str], None],
    view: RunView,
    *,
    on_record: bool,
    as_json: bool,
) -> None:
    """Show a run to its end, asking the person at the terminal whenever calls wait for a decision.

    Args:
        agent: whose run it is; its provider and its journal are closed.
        run_id: the run.
        events: what happens in it.
        view: shows it.
        on_record: whether it can be resumed later.
        as_json: print the result as JSON.

    Raises:
        typer.Exit: it ended without an answer (3), was paused (4), or failed (1).
        KeyboardInterrupt: it was interrupted.
    """
    resume = f"agentkit resume {short(run_id)}" if on_record else ""
    try:
        result = _followed(agent, run_id, events, view)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(resume) from None
    except AgentKitError as error:
        show_error(str(error))
        if isinstance(error, JournalUnavailableError | JournalCorruptError):
            ERR.print("to do without a journal: agentkit run --no-journal", style="dim")
        elif error.run_id and not isinstance(error, JournalError):
            _tell(resume)
        raise typer.Exit(1) from error
    if as_json:
        print(_as_json(result))
    if result.stop_reason == "paused":
        _leave_paused(result, resume)
    if result.stop_reason != "answer":
        show_error(_INCOMPLETE.get(result.stop_reason, f"the run ended without an answer: {result.stop_reason}"))
        if result.stop_reason in _MORE:
            _tell(resume, _MORE[result.stop_reason])
        raise typer.Exit(3)


def _followed(
    agent: Agent[str], run_id: str, events: AsyncGenerator[Event[str], None], view: RunView
) -> RunResult[str]:
    person = Person()
    # The person is asked while no event loop runs: there Ctrl-C ends the waiting, and no deadline passes.
    with asyncio.Runner() as runner:
        try:
            result = runner.run(_shown(events, view))
            while result.pending and person.is_there and (decisions := person.decide(result.pending)):
                result = runner.run(_shown(agent.stream_resumed(run_id, decisions), view))
        finally:
            runner.run(_close(agent))
            view.close()
    view.summarise(result)
    return result


async def _shown(events: AsyncGenerator[Event[str], None], view: RunView) -> RunResult[str]:
    async with aclosing(events):
        async for event in events:
            view.show(event)
            if isinstance(event, RunFinished):
                return event.result
    raise ProviderError("the run ended without a result")  # a run's last event is always RunFinished


async def _close(agent: Agent[str]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await agent.provider.close()
    await agent.journal.close()


def _leave_paused(result: RunResult[str], resume: str) -> None:
    if not Person().is_there:  # else they have just seen them
        for call in result.pending:
            show_pending(call)
    if resume:
        keys = " ".join(f"--allow {call.key[:8]}" for call in result.pending)
        _tell(resume, f"{keys}, or --deny")
    else:
        show_error("there is nobody to decide and no journal to wait in: give --yes, or leave out --no-journal")
    raise typer.Exit(4)


def _tell(resume: str, options: str = "") -> None:
    if resume:
        ERR.print(f"to go on: {resume} {options}".rstrip(), style="dim")


def _as_json(result: RunResult[str]) -> str:
    return json.dumps(
        {
            "output": result.output,
            "stop_reason": result.stop_reason,
            "steps": result.steps,
            "usage": asdict(result.usage),
            "problems": [asdict(problem) for problem in result.problems],
            "run_id": result.run_id,
            "pending": [asdict(call) for call in result.pending],
            "messages": json.loads(dump_messages(result.messages)),
        }
    )
