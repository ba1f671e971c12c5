"""`agentkit export`: runs as training data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from agentkit.cli.journal import SEARCHED, find, with_journal
from agentkit.errors import RunNotFoundError
from agentkit.journal.base import Journal
from agentkit.journal.export import ExportForm
from agentkit.journal.export import export as exported
from agentkit.messages import JsonObject

__all__ = ["export"]


def export(
    run: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Their ids, or the beginnings of them.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="This whole conversation.", show_default=False)
    ] = None,
    form: Annotated[ExportForm, typer.Option(help="The shape of a line.")] = "openai",
) -> None:
    """Print conversations as JSONL, one a line: a run's own with those that it continues, or a session's."""
    if bool(run) == bool(session):
        raise typer.BadParameter("name runs, or a --session", param_hint="RUN")
    for line in with_journal(lambda journal: _lines(journal, run or [], session, form)):
        print(json.dumps(line, ensure_ascii=False))


async def _lines(journal: Journal, given: Sequence[str], session: str | None, form: ExportForm) -> list[JsonObject]:
    if session is None:
        everything = await journal.runs(limit=SEARCHED)
        run_ids = [find(everything, one) for one in given]
    else:
        run_ids = [run.run_id for run in await journal.runs(session=session, limit=1)]
        if not run_ids:
            raise RunNotFoundError(f"No run of a session {session!r} is on record: `agentkit runs` lists them")
    return [await exported(journal, run_id, form) for run_id in run_ids]
