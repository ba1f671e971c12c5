"""The journal of runs that need not outlive their process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count

from agentkit.errors import LeaseLostError, RunBusyError, RunExistsError, RunNotFoundError
from agentkit.journal.base import Entry, Journal, Lease, RunInfo, prompt_of
from agentkit.journal.records import Record, RunEnded, RunStarted

__all__ = ["MemoryJournal"]


@dataclass(slots=True)
class _Kept:
    started: RunStarted
    entries: list[Entry] = field(default_factory=list)
    fence: int = 0
    is_leased: bool = False

    @property
    def end(self) -> RunEnded | None:
        last = self.entries[-1].record
        return last if isinstance(last, RunEnded) else None


class MemoryJournal(Journal):
    """Keeps records in memory: a run that failed, paused or was cancelled can be resumed while the process lives.

    Args:
        runs: how many are kept; beyond that the oldest that nobody runs is forgotten, or the oldest session.
        keep_ended: False forgets a run that has ended, unless it is part of a session, or beneath a run that has not
            ended. An agent that is given no journal has one of these.
    """

    def __init__(self, *, runs: int = 1000, keep_ended: bool = True) -> None:
        self._limit = runs
        self._keep_ended = keep_ended
        self._fences = count(1)  # of all runs: a deleted one's leases are not those of the next of its name
        self._runs: dict[str, _Kept] = {}  # the one that was released last comes last
        self._beneath: dict[str, list[str]] = {}  # by the run above

    async def begin(self, run_id: str, started: RunStarted) -> Lease:
        """See `Journal.begin`."""
        if run_id in self._runs:
            raise RunExistsError(f"There is a run {run_id!r} already: resume it, or give another run_id")
        if started.session:
            for other, there in self._runs.items():
                if there.is_leased and there.started.session == started.session:
                    raise _busy(other)
        if started.parent:
            self._beneath.setdefault(started.parent, []).append(run_id)
        kept = self._runs[run_id] = _Kept(started, [Entry(1, time.time(), started)], next(self._fences), True)
        return Lease(run_id, kept.fence, 1)

    async def acquire(self, run_id: str) -> Lease:
        """See `Journal.acquire`."""
        kept = self._kept(run_id)
        if kept.is_leased:
            raise _busy(run_id)
        kept.fence = next(self._fences)
        kept.is_leased = True
        return Lease(run_id, kept.fence, len(kept.entries))

    async def append(self, lease: Lease, *records: Record) -> None:
        """See `Journal.append`."""
        kept = self._runs.get(lease.run_id)
        if kept is None or not kept.is_leased or kept.fence != lease.fence:
            raise LeaseLostError(f"The run {lease.run_id!r} was given back or taken over: nothing was written")
        now = time.time()
        for record in records:
            lease.seq += 1
            kept.entries.append(Entry(lease.seq, now, record))

    def release(self, lease: Lease) -> None:
        """See `Journal.release`."""
        kept = self._runs.get(lease.run_id)
        if kept is None or kept.fence != lease.fence:
            return
        kept.is_leased = False
        if self._is_wanted(kept):
            self._runs[lease.run_id] = self._runs.pop(lease.run_id)
            self._forget_oldest()
        else:
            self._forget(lease.run_id)

    async def entries(self, run_id: str) -> list[Entry]:
        """See `Journal.entries`."""
        return list(self._kept(run_id).entries)

    async def runs(self, *, session: str | None = None, limit: int = 100) -> list[RunInfo]:
        """See `Journal.runs`."""
        infos = [_info(run_id, kept) for run_id, kept in self._runs.items() if session in (None, kept.started.session)]
        return sorted(infos, key=lambda info: info.started, reverse=True)[:limit]

    async def delete(self, run_id: str) -> None:
        """See `Journal.delete`."""
        self._kept(run_id)  # is there
        doomed = self._with_those_beneath(run_id)
        for each in doomed:
            if self._runs[each].is_leased:
                raise _busy(each)
        self._forget(run_id)

    def _kept(self, run_id: str) -> _Kept:
        kept = self._runs.get(run_id)
        if kept is None:
            raise RunNotFoundError(
                f"There is no run {run_id!r} in memory: of an agent without a journal=… only runs that did not come "
                "to their end are kept, and only in the process that ran them"
            )
        return kept

    def _is_wanted(self, kept: _Kept) -> bool:
        end = kept.end
        started = kept.started
        is_ended = end is not None and end.stop_reason != "paused"
        return self._keep_ended or not is_ended or bool(started.session) or started.parent in self._runs

    def _forget_oldest(self) -> None:
        """The run that was released longest ago; of a session all runs, since each builds on those before it."""
        if len(self._runs) <= self._limit:
            return
        newest = self._runs[next(reversed(self._runs))].started.session
        busy = {kept.started.session for kept in self._runs.values() if kept.is_leased} | {newest}
        for run_id, kept in self._runs.items():
            session = kept.started.session
            if kept.is_leased or (session and session in busy) or kept.started.parent in self._runs:
                continue
            forgotten = [i for i, other in self._runs.items() if session and other.started.session == session]
            for old in forgotten or [run_id]:
                self._forget(old)
            return

    def _forget(self, run_id: str) -> None:
        """Forget a run, and those beneath it: their calls are its calls."""
        above = self._beneath.get(self._runs[run_id].started.parent, [])
        if run_id in above:
            above.remove(run_id)
        for each in self._with_those_beneath(run_id):
            del self._runs[each]
            self._beneath.pop(each, None)

    def _with_those_beneath(self, run_id: str) -> list[str]:
        found = [run_id]
        for upper in found:
            found += self._beneath.get(upper, [])
        return found


def _busy(run_id: str) -> RunBusyError:
    return RunBusyError(f"The run {run_id!r} is going on in this process: wait for its end, or cancel it")


def _info(run_id: str, kept: _Kept) -> RunInfo:
    started = kept.started
    return RunInfo(
        run_id,
        started.agent,
        started.model,
        started.session,
        started.parent,
        prompt_of(started),
        kept.entries[0].at,
        kept.entries[-1].at,
        len(kept.entries),
        kept.end.stop_reason if kept.end else None,
        kept.is_leased,
    )
