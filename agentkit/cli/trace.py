"""`agentkit trace`: what is on record of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated

import typer

from agentkit.cli.journal import SEARCHED, find, with_journal
from agentkit.cli.options import RunId
from agentkit.cli.story import Story
from agentkit.errors import RunNotFoundError
from agentkit.journal.base import Entry, Journal
from agentkit.journal.records import CallStarted, dump_record

__all__ = ["trace"]


@dataclass(frozen=True, slots=True)
class _Trace:
    run_id: str
    entries: list[Entry]
    is_running: bool
    beneath: dict[str, _Trace] = field(default_factory=dict)  # runs that its calls began, by the calls' keys


def trace(
    run: RunId = None,
    full: Annotated[bool, typer.Option("--full", help="Cut nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSONL.")] = False,
) -> None:
    """Print what is on record of a run, and of those beneath it; without RUN of the last one."""
    read = with_journal(lambda journal: _read(journal, run))
    if as_json:
        _print_json(read)
    else:
        _tell(read, Story(full=full))


async def _read(journal: Journal, given: str | None) -> _Trace:
    runs = await journal.runs(limit=SEARCHED)
    if given is None and not runs:
        raise RunNotFoundError("No run is on record")
    own = [run.run_id for run in runs if not run.parent]
    running = {run.run_id for run in runs if run.is_running}
    parents = {run.run_id: run.parent for run in runs}

    async def read(run_id: str) -> _Trace:
        entries = await journal.entries(run_id)
        beneath = {child: await read(child) for child, parent in parents.items() if parent == run_id}
        return _Trace(run_id, entries, run_id in running, beneath)

    return await read(own[0] if given is None else find(runs, given))


def _print_json(read: _Trace) -> None:
    for entry in read.entries:
        line = {
            "run_id": read.run_id,
            "seq": entry.seq,
            "at": entry.at,
            "record": json.loads(dump_record(entry.record)),
        }
        print(json.dumps(line))
    for beneath in read.beneath.values():
        _print_json(beneath)


def _tell(read: _Trace, story: Story) -> None:
    story.begin(read.run_id)
    told = set()
    for entry in read.entries:
        story.tell(entry)
        if isinstance(entry.record, CallStarted) and entry.record.key in read.beneath and entry.record.key not in told:
            told.add(entry.record.key)  # it is started again when the run is resumed; its record is one
            _tell(read.beneath[entry.record.key], story.beneath())
    story.end(is_running=read.is_running)
