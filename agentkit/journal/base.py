"""What a journal is: an append-only record of runs, and a lease on each run that is going on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from agentkit.journal.records import Record, RunStarted
from agentkit.limits import StopReason

__all__ = ["Entry", "Journal", "Lease", "RunInfo", "prompt_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with its place in the run, from 1, and when it was made, in seconds since 1970 (UTC)."""

    seq: int
    at: float
    record: Record


@dataclass(slots=True)
class Lease:
    """The right to write a run's records. ``fence`` grows with every lease of a run: a process that was taken for dead
    and comes back cannot write any more. ``seq`` is the last record's place."""

    run_id: str
    fence: int
    seq: int


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run in a list.

    Attributes:
        prompt: `prompt_of` its first record.
        started, updated: seconds since 1970 (UTC): the first and the last record.
        records: how many.
        stop_reason: why it ended or paused; None while it goes on, or after a crash.
        is_running: whether somebody holds its lease.
    """

    run_id: str
    agent: str
    model: str
    session: str
    parent: str
    prompt: str
    started: float
    updated: float
    records: int
    stop_reason: StopReason | None
    is_running: bool


def prompt_of(started: RunStarted) -> str:
    """The last user message that a run began with, its first 200 characters: for a list of runs."""
    asked = [message.text for message in started.messages if message.role == "user"]
    return asked[-1][:200] if asked else ""


class Journal(ABC):
    """Where runs are put on record. When `append` has returned, the records outlive the process.

    Any of these methods may raise:
        JournalUnavailableError: the store cannot be read or written: no such place, no permission, a full disk, locked
            by somebody else for too long. What was on record before still is.
        JournalCorruptError: what is there is no journal, or cannot be read.
    """

    @abstractmethod
    async def begin(self, run_id: str, started: RunStarted) -> Lease:
        """Put a new run on record, and take its lease.

        Raises:
            RunExistsError: there is a run of this id.
            RunBusyError: somebody is running another run of its session.
        """

    @abstractmethod
    async def acquire(self, run_id: str) -> Lease:
        """Take the lease of a run that nobody is running: it ended, paused or crashed.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody is running it.
        """

    @abstractmethod
    async def append(self, lease: Lease, *records: Record) -> None:
        """Put records on record, all or none. They are durable when this returns.

        Raises:
            LeaseLostError: the run was taken over meanwhile. Nothing was written.
        """

    @abstractmethod
    def release(self, lease: Lease) -> None:
        """Give a lease back. Returns at once and raises nothing: it is called while a run is being cancelled."""

    @abstractmethod
    async def entries(self, run_id: str) -> list[Entry]:
        """A run's records, in order.

        Raises:
            RunNotFoundError: there is no such run.
        """

    @abstractmethod
    async def runs(self, *, session: str | None = None, limit: int = 100) -> list[RunInfo]:
        """The runs, or those of one session, the newest first."""

    @abstractmethod
    async def delete(self, run_id: str) -> None:
        """Forget a run, and those beneath it.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody is running one of them.
        """

    async def close(self) -> None:  # noqa: B027 - a journal in memory holds nothing to release
        """Release what is held. The journal must not be used after."""
