"""`agentkit runs`: what is on record, and forgetting it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from agentkit.cli.journal import SEARCHED, find, short, with_journal
from agentkit.cli.screen import ERR, OUT, one_line, print_table
from agentkit.errors import JournalError, RunNotFoundError
from agentkit.journal.base import Journal, RunInfo

__all__ = ["remove", "runs", "state"]


def runs(
    context: typer.Context,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those of this conversation.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Most runs.")] = 20,
) -> None:
    """List the runs on record, the newest first: id, when it began, state, model, session and task."""
    if context.invoked_subcommand is None:
        found = with_journal(lambda journal: journal.runs(session=session, limit=SEARCHED))
        print_table([_row(run) for run in found if not run.parent][:limit])


def remove(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Their ids, or the beginnings of them.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget runs, with those beneath them."""
    chosen = with_journal(lambda journal: _chosen(journal, run))
    for info in chosen:
        ERR.print(" ".join(_row(info)))
    if not yes and not typer.confirm("Forget them?", err=True):
        raise typer.Exit(1)
    with_journal(lambda journal: _delete(journal, [info.run_id for info in chosen]))


def state(run: RunInfo) -> str:
    """``running``, ``interrupted``, or why it ended or waits."""
    return "running" if run.is_running else run.stop_reason or "interrupted"


def _row(run: RunInfo) -> tuple[str, ...]:
    when = datetime.fromtimestamp(run.started).strftime("%Y-%m-%d %H:%M")
    run_id = short(run.run_id) if OUT.is_terminal else run.run_id
    return run_id, when, state(run), run.model, run.session or "-", one_line(run.prompt, 60)


async def _chosen(journal: Journal, given: Sequence[str]) -> list[RunInfo]:
    everything = await journal.runs(limit=SEARCHED)
    wanted = {find(everything, one) for one in given}
    chosen = [run for run in everything if run.run_id in wanted]
    if unknown := wanted.difference(run.run_id for run in chosen):
        raise RunNotFoundError(
            f"No run has the id {unknown.pop()!r}, among the newest {SEARCHED:,}: see `agentkit runs`"
        )
    for run in chosen:
        later = [other.run_id for other in everything if other.session == run.session and other.started > run.started]
        if run.session and not wanted.issuperset(later):
            raise JournalError(
                f"The session {run.session!r} goes on after the run {run.run_id!r}: to forget it, name its later runs "
                f"as well ({' '.join(map(short, later))})"
            )
    return chosen


async def _delete(journal: Journal, run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        with suppress(RunNotFoundError):  # it was beneath another of them
            await journal.delete(run_id)
