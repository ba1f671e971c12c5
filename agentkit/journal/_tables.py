"""What is done to a journal's tables: the same in every SQL database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from agentkit.errors import LeaseLostError, RunBusyError, RunExistsError, RunNotFoundError
from agentkit.journal._owner import in_words, is_dead
from agentkit.journal._schema import Cursor, Heading, Line, SavedLine, Value, checksum
from agentkit.journal.base import Lease, RunInfo
from agentkit.limits import StopReason

__all__ = ["Tables"]


@dataclass(slots=True)
class _OwnedLease(Lease):
    owner: str  # fences begin anew when a run is deleted and begun again; owners are never the same
    keeper: Tables = field(repr=False, compare=False)  # a fork has another one


class _Holder(NamedTuple):
    fence: int
    owner: str
    lease_until: float
    records: int

    def is_alive(self, now: float) -> bool:
        return self.lease_until > now and not is_dead(self.owner)


class Tables(ABC):
    """What a `Journal` does, within a transaction, and the leases that it holds. A dialect adds how to talk to its
    database. One thread at a time may use it."""

    def __init__(self, *, lease_ttl: float) -> None:
        self._ttl = lease_ttl
        self._held: dict[str, _OwnedLease] = {}  # by owner
        self._unreleased: dict[str, _OwnedLease] = {}  # given back, but the others could not be told so yet
        self._undo: list[Callable[[], object]] = []

    @abstractmethod
    def begin(self, *, writes: bool) -> None:
        """Begin a transaction; connect first, if need be."""

    @abstractmethod
    def translate(self, error: Exception) -> Exception:
        """What to raise for an error of the database: a new object each time, since each run keeps its own."""

    @abstractmethod
    def _execute(self, sql: str, values: Sequence[Value]) -> Cursor:
        """Execute a statement; ``?`` stands for each value."""

    @abstractmethod
    def _now(self) -> float:
        """Seconds since 1970, by the clock that all who use this database share."""

    def _lock(self, name: str) -> None:  # noqa: B027 - where only one transaction writes at a time, there is no need
        """Let no other transaction lock the same before this one ends."""

    @abstractmethod
    def _disconnect(self) -> None: ...

    def commit(self) -> None:
        """End the transaction. What was written in it is durable now."""
        self._rows("COMMIT")
        self._undo.clear()

    def abandon(self) -> None:
        """Undo the transaction, if there is one, and disconnect. Raises nothing."""
        while self._undo:
            self._undo.pop()()
        self._disconnect()

    def insert(self, run_id: str, owner: str, heading: Heading, line: Line) -> Lease:
        """Put a new run on record, held by ``owner``."""
        if heading.session:
            self._refuse_if_session_is_busy(run_id, heading.session)
        is_new = self._change(
            "INSERT INTO runs (run_id, agent, model, session, parent, prompt, started, updated, records, fence, owner, "
            "lease_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 1, ?, ?) ON CONFLICT DO NOTHING",
            *(run_id, *heading, line.at, line.at, owner, self._now() + self._ttl),
        )
        if is_new:
            self._write(run_id, 1, 1, [line])
        elif self._holder(run_id).owner != owner:  # else it is us: the connection was lost just when that was committed
            raise RunExistsError(f"There is a run {run_id!r} already: resume it, or give another run_id")
        return self._hold(_OwnedLease(run_id, 1, 1, owner, self))

    def acquire(self, run_id: str, owner: str) -> Lease:
        """Take a run's lease for ``owner``."""
        while True:
            holder = self._holder(run_id)
            if holder.owner == owner:  # the connection was lost just when that was committed
                return self._hold(_OwnedLease(run_id, holder.fence, holder.records, owner, self))
            now = self._now()
            self._refuse_if_busy(run_id, holder, now)
            if self._change(
                "UPDATE runs SET fence = ?, owner = ?, lease_until = ? WHERE run_id = ? AND fence = ? AND owner = ?",
                *(holder.fence + 1, owner, now + self._ttl, run_id, holder.fence, holder.owner),
            ):
                return self._hold(_OwnedLease(run_id, holder.fence + 1, holder.records, owner, self))

    def append(self, lease: Lease, lines: Sequence[Line], stop_reason: StopReason | None) -> None:
        """Put records behind the last one that the lease knows of."""
        held = self._find(lease)
        if held is not None and self._change(
            "UPDATE runs SET records = ?, updated = ?, stop_reason = ? "
            "WHERE run_id = ? AND fence = ? AND owner = ? AND records = ?",
            *(lease.seq + len(lines), lines[-1].at, stop_reason),
            *(lease.run_id, lease.fence, held.owner, lease.seq),
        ):
            self._write(lease.run_id, lease.fence, lease.seq + 1, lines)
        elif held is None or not self._is_on_record(lease, lines):
            raise LeaseLostError(
                f"The lease of run {lease.run_id!r} is not held any more: somebody else has taken the run over, it was "
                "deleted, or the lease was given back. Nothing was written; look at the run before you resume it"
            )
        before = lease.seq
        self._undo.append(lambda: setattr(lease, "seq", before))
        lease.seq += len(lines)

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        if isinstance(lease, _OwnedLease) and lease.keeper is self:
            self._held.pop(lease.owner, None)
            self._set_expiry(lease, 0.0)

    def release_later(self, lease: Lease) -> None:
        """Do it with the next renewal: it could not be done at once."""
        if isinstance(lease, _OwnedLease) and lease.keeper is self:
            self._held.pop(lease.owner, None)
            self._unreleased[lease.owner] = lease

    def lines(self, run_id: str) -> list[SavedLine]:
        """A run's records, in order."""
        rows = self._rows(
            "SELECT runs.records, seq, at, body, checksum FROM runs LEFT JOIN records ON records.run_id = runs.run_id "
            "WHERE runs.run_id = ? ORDER BY seq",
            run_id,
        )
        if not rows:
            raise _not_found(run_id)
        return [SavedLine(*row) for row in rows]

    def runs(self, session: str | None, limit: int) -> list[RunInfo]:
        """The runs, or those of one session, the newest first."""
        which, values = ("", ()) if session is None else ("WHERE session = ?", (session,))
        rows = self._rows(
            "SELECT run_id, agent, model, session, parent, prompt, started, updated, records, stop_reason, "
            f"fence, owner, lease_until, records FROM runs {which} ORDER BY started DESC, run_id LIMIT ?",
            *(*values, limit),
        )
        now = self._now()
        return [RunInfo(*(*row[:10], _Holder(*row[10:]).is_alive(now))) for row in rows]

    def delete(self, run_id: str) -> None:
        """Forget a run, and those beneath it."""
        while True:
            doomed = self._with_those_beneath(run_id)
            holders = [self._holder(each) for each in doomed]
            now = self._now()
            for each, holder in zip(doomed, holders, strict=True):
                self._refuse_if_busy(each, holder, now)
            if self._change("DELETE FROM runs WHERE run_id = ? AND owner = ?", run_id, holders[0].owner):
                break
        for beneath in doomed[1:]:
            self._change("DELETE FROM runs WHERE run_id = ?", beneath)

    def _with_those_beneath(self, run_id: str) -> list[str]:
        found = [run_id]
        for upper in found:
            rows = self._rows("SELECT run_id FROM runs WHERE parent = ? AND parent <> ''", upper)
            found += [beneath for (beneath,) in rows]
        return found

    @property
    def renew_every(self) -> float | None:
        """How often to `renew`, in seconds; None while there is nothing to do."""
        return self._ttl / 3 if self._held or self._unreleased else None

    def renew(self) -> None:
        """Make the leases that are held last longer, and give those back that are not."""
        for lease in list(self._unreleased.values()):
            self._set_expiry(lease, 0.0)
            del self._unreleased[lease.owner]
            self._undo.append(partial(self.release_later, lease))
        until = self._now() + self._ttl
        for lease in list(self._held.values()):
            if not self._set_expiry(lease, until):
                del self._held[lease.owner]

    def release_all(self) -> None:
        """Give all leases back."""
        for lease in [*self._held.values(), *self._unreleased.values()]:
            self._set_expiry(lease, 0.0)
        self._held.clear()
        self._unreleased.clear()

    def _rows(self, sql: str, *values: Value) -> Sequence[tuple[Any, ...]]:
        cursor = self._execute(sql, values)
        return cursor.fetchall() if cursor.description else []

    def _change(self, sql: str, *values: Value) -> int:
        return self._execute(sql, values).rowcount

    def _set_expiry(self, lease: _OwnedLease, until: float) -> int:
        return self._change(
            "UPDATE runs SET lease_until = ? WHERE run_id = ? AND owner = ?", until, lease.run_id, lease.owner
        )

    def _hold(self, lease: _OwnedLease) -> Lease:
        self._held[lease.owner] = lease
        self._undo.append(lambda: self._held.pop(lease.owner, None))
        return lease

    def _find(self, lease: Lease) -> _OwnedLease | None:
        return self._held.get(lease.owner) if isinstance(lease, _OwnedLease) else None

    def _holder(self, run_id: str) -> _Holder:
        rows = self._rows("SELECT fence, owner, lease_until, records FROM runs WHERE run_id = ?", run_id)
        if not rows:
            raise _not_found(run_id)
        return _Holder(*rows[0])

    def _refuse_if_busy(self, run_id: str, holder: _Holder, now: float) -> None:
        if holder.is_alive(now) and holder.owner not in self._unreleased:
            owner = in_words(holder.owner)
            raise RunBusyError(
                f"Run {run_id!r} is being run by {owner} (host:process id): wait until it is done, or end that "
                f"process. A process that died on another machine is waited for {self._ttl:g} s",
                owner=owner,
            )

    def _refuse_if_session_is_busy(self, run_id: str, session: str) -> None:
        self._lock(session)
        now = self._now()
        others = self._rows(
            "SELECT fence, owner, lease_until, records, run_id FROM runs "
            "WHERE session = ? AND lease_until > ? AND run_id <> ?",
            *(session, now, run_id),
        )
        for *holder, other in others:
            self._refuse_if_busy(other, _Holder(*holder), now)

    def _write(self, run_id: str, fence: int, seq: int, lines: Sequence[Line]) -> None:
        for place, line in enumerate(lines, seq):
            self._change(
                "INSERT INTO records (run_id, seq, at, kind, fence, body, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(run_id, place, line.at, line.kind, fence, line.body, checksum(run_id, place, line.at, line.body)),
            )

    def _is_on_record(self, lease: Lease, lines: Sequence[Line]) -> bool:
        """Whether exactly these records stand there already: the connection was lost just when they were committed."""
        rows = self._rows(
            "SELECT at, kind, body FROM records WHERE run_id = ? AND fence = ? AND seq > ? ORDER BY seq",
            *(lease.run_id, lease.fence, lease.seq),
        )
        return [Line(*row) for row in rows] == list(lines)


def _not_found(run_id: str) -> RunNotFoundError:
    return RunNotFoundError(f"No run has the id {run_id!r}: `agentkit runs` lists them")
