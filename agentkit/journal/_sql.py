"""A journal in an SQL database: what SQLite and PostgreSQL share."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from agentkit.errors import JournalCorruptError, JournalError, JournalUnavailableError
from agentkit.journal._owner import new_owner
from agentkit.journal._schema import Heading, Line, SavedLine
from agentkit.journal._tables import Tables
from agentkit.journal._worker import Worker
from agentkit.journal.base import Entry, Journal, Lease, RunInfo, prompt_of
from agentkit.journal.records import Record, RunEnded, RunStarted, dump_record, load_record
from agentkit.messages import clean_text

__all__ = ["SQLJournal"]

T = TypeVar("T")


class SQLJournal(Journal):
    """One thread does its work; it begins with the first method that is called and ends with the object. Any thread and
    any event loop may call, several at the same time too. A process that forks has a thread in the fork as well."""

    def __init__(self, lease_ttl: float) -> None:
        if not lease_ttl > 0:
            raise ValueError(f"lease_ttl is {lease_ttl!r}: it must be above 0 seconds")
        self._lease_ttl = lease_ttl
        self._serving: dict[int, tuple[Worker, Tables]] = {}  # by process id: a fork has its own

    @abstractmethod
    def _tables(self) -> Tables:
        """The tables of a new connection."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """The database, as an error names it."""

    async def begin(self, run_id: str, started: RunStarted) -> Lease:
        """See `Journal.begin`."""
        owner, line = new_owner(), _line(started)
        prompt = clean_text(prompt_of(started)).replace("\0", "")  # PostgreSQL has no NUL in texts
        heading = Heading(started.agent, started.model, started.session, started.parent, prompt)
        return await self._take(lambda tables: tables.insert(run_id, owner, heading, line))

    async def acquire(self, run_id: str) -> Lease:
        """See `Journal.acquire`."""
        owner = new_owner()
        return await self._take(lambda tables: tables.acquire(run_id, owner))

    async def append(self, lease: Lease, *records: Record) -> None:
        """See `Journal.append`."""
        if not records:
            return
        lines = [_line(record) for record in records]
        last = records[-1]
        stop_reason = last.stop_reason if isinstance(last, RunEnded) else None
        written = asyncio.wrap_future(self._submit(lambda tables: tables.append(lease, lines, stop_reason)))
        written.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits any more
        await asyncio.shield(written)  # what came of a call is kept, whoever is cancelled

    def release(self, lease: Lease) -> None:
        """See `Journal.release`."""
        _, tables = self._worker()

        def look(released: Future[None]) -> None:
            if released.exception() is not None:
                tables.release_later(lease)

        with suppress(JournalError):  # closed: then the lease was given back already
            self._submit(lambda tables: tables.release(lease)).add_done_callback(look)

    async def entries(self, run_id: str) -> list[Entry]:
        """See `Journal.entries`."""
        lines = await asyncio.wrap_future(self._submit(lambda tables: tables.lines(run_id), writes=False))
        if len(lines) != lines[0].records:
            raise self._damaged(run_id, f"has {len(lines)} of its {lines[0].records} records")
        return [self._entry(run_id, seq, line) for seq, line in enumerate(lines, 1)]

    async def runs(self, *, session: str | None = None, limit: int = 100) -> list[RunInfo]:
        """See `Journal.runs`."""
        return await asyncio.wrap_future(self._submit(lambda tables: tables.runs(session, limit), writes=False))

    async def delete(self, run_id: str) -> None:
        """See `Journal.delete`."""
        await asyncio.wrap_future(self._submit(lambda tables: tables.delete(run_id)))

    async def close(self) -> None:
        """See `Journal.close`."""
        worker, _ = self._worker()
        await asyncio.wrap_future(worker.stop())

    async def _take(self, work: Callable[[Tables], Lease]) -> Lease:
        future = self._submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._give_back)  # it may have been taken all the same, or be just now
            raise

    def _give_back(self, future: Future[Lease]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.release(future.result())

    def _submit(self, work: Callable[[Tables], T], *, writes: bool = True) -> Future[T]:
        worker, tables = self._worker()
        return worker.submit(lambda: work(tables), writes=writes)

    def _worker(self) -> tuple[Worker, Tables]:
        process = os.getpid()
        if process not in self._serving:
            tables = self._tables()
            worker = Worker(tables)
            if self._serving.setdefault(process, (worker, tables))[0] is worker:  # else another thread was faster
                weakref.finalize(self, worker.stop).atexit = False
        return self._serving[process]

    def _entry(self, run_id: str, seq: int, line: SavedLine) -> Entry:
        if line.at is None or line.body is None or not line.is_whole(run_id, seq):
            raise self._damaged(run_id, f"has a record, number {seq}, that is not as it was written")
        try:
            return Entry(seq, line.at, load_record(line.body))
        except ValueError as error:
            raise JournalUnavailableError(
                f"Record {seq} of run {run_id!r} in {self._where} was written by another version of agentkit, which "
                f"this one cannot read ({error}): upgrade agentkit"
            ) from error

    def _damaged(self, run_id: str, how: str) -> JournalCorruptError:
        return JournalCorruptError(
            f"Run {run_id!r} in {self._where} {how}: the database was damaged. End what uses it and put a backup in "
            "its place, or go on without this run"
        )


def _line(record: Record) -> Line:
    return Line(time.time(), record.kind, dump_record(record).decode())
