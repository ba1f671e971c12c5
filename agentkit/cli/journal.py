"""The command's journal: where it is, and which run a person means."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from agentkit.errors import RunNotFoundError
from agentkit.journal.base import Journal, RunInfo

__all__ = ["SEARCHED", "find", "open_journal", "short", "with_journal"]

T = TypeVar("T")

SEARCHED: Final = 10_000
"""Runs, the newest, among which one is looked for by the beginning of its id."""


def open_journal() -> Journal:
    """The journal that ``AGENTKIT_JOURNAL`` names: a file, or a ``postgresql://`` address; else the user's own file.

    Raises:
        MissingExtraError: psycopg is not installed.
    """
    place = os.environ.get("AGENTKIT_JOURNAL", "")
    if place.startswith(("postgresql://", "postgres://")):
        from agentkit.journal.postgres import PostgresJournal

        return PostgresJournal(place)
    from agentkit.journal.sqlite import SQLiteJournal

    return SQLiteJournal(Path(place).expanduser() if place else _state_folder() / "agentkit" / "journal.db")


def with_journal(work: Callable[[Journal], Awaitable[T]]) -> T:
    """Open the journal, do something with it, and close it.

    Raises:
        JournalError: it cannot be used, or as the work raises it.
    """

    async def opened() -> T:
        journal = open_journal()
        try:
            return await work(journal)
        finally:
            await journal.close()

    return asyncio.run(opened())


def find(runs: Sequence[RunInfo], given: str) -> str:
    """The id of the run that a person named by it, or by its beginning. One that none of these has is returned as it
    is: the journal may know it, or says that it does not.

    Raises:
        RunNotFoundError: several begin like this.
    """
    found = [run.run_id for run in runs if run.run_id.startswith(given)]
    if len(found) > 1 and given not in found:
        raise RunNotFoundError(f"{len(found)} runs have ids that begin with {given!r}: {', '.join(found[:5])}")
    return found[0] if len(found) == 1 else given


def short(run_id: str) -> str:
    """As much of an id as a person has to write."""
    return run_id[:8]


def _state_folder() -> Path:
    """Where programs keep what should outlive them: the XDG Base Directory specification, and what macOS and Windows
    have in its place."""
    folder = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(folder):  # noqa: PTH117 - the specification: a relative one is passed over
        return Path(folder)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".local" / "state"
