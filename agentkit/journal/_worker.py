"""The thread that owns a store's connection. What waits at the same time is committed together."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from agentkit.errors import JournalError, JournalUnavailableError
from agentkit.journal._tables import Tables

__all__ = ["Worker"]

T = TypeVar("T")

_BATCH: Final = 1000  # jobs in one transaction
PATIENCE: Final = 10.0  # seconds that the end of the interpreter waits for what is still to be written


@dataclass(slots=True)
class _Job:
    work: Callable[[], object]
    writes: bool
    future: Future[object] = field(default_factory=Future)

    def attempt(self) -> Callable[[], None]:
        """Do the work; gives what tells the caller so, for when it is committed."""
        try:
            result = self.work()
        except JournalError as refusal:  # made before anything was written
            error = refusal
            return lambda: self.future.set_exception(error)
        return lambda: self.future.set_result(result)


class Worker:
    """Runs jobs on the tables, each in a transaction that it may share with others. A job that refuses (`JournalError`)
    does not touch the others; if one fails in any other way, the transaction is undone and each is run again alone."""

    def __init__(self, tables: Tables) -> None:
        self._process = os.getpid()
        self._tables = tables
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = threading.RLock()  # garbage collection may call `stop` in the middle of anything
        self._is_closed = False
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # nobody can cancel it now
        self._busy = threading.Lock()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="agentkit-journal", daemon=True)

    def submit(self, work: Callable[[], T], *, writes: bool) -> Future[T]:
        """Have a job done. A future that is cancelled before its job begins cancels it.

        Raises:
            JournalUnavailableError: the worker was stopped.
        """
        job = _Job(work, writes)
        with self._closing:
            if self._is_closed:
                raise JournalUnavailableError("The journal is closed: make another one to go on")
            if self._thread.ident is None:
                self._thread.start()
                _workers.add(self)
            self._jobs.put(job)
        return job.future  # type: ignore[return-value]

    def stop(self) -> Future[None]:
        """End the thread when the jobs are done that it has; the future says when. Returns at once."""
        if self._process != os.getpid():  # a fork has no such thread, and the lock is as it happened to be
            return _ended()
        with self._closing:
            if self._thread.ident is None:
                self._ended = _ended()
            elif not self._is_closed:
                self._jobs.put(None)
            self._is_closed = True
        return self._ended

    def pause(self) -> None:
        """Disconnect, and do nothing until `go_on`: no connection may be open in a process that forks."""
        self._busy.acquire()
        self._tables.abandon()

    def go_on(self) -> None:
        """End a pause."""
        self._busy.release()

    def _work(self) -> None:
        is_last = False
        while not is_last:
            jobs, is_last = self._next()
            with self._busy:
                self._do([job for job in jobs if job.future.set_running_or_notify_cancel()])
            del jobs  # what they hold is not to be kept until the next
        with self._busy:
            self._do([_Job(self._tables.release_all, writes=True)])
            self._tables.abandon()
        self._ended.set_result(None)

    def _next(self) -> tuple[list[_Job], bool]:
        """The jobs that wait, none if only the time for the next renewal has come; and whether they are the last."""
        jobs: list[_Job] = []
        now = time.monotonic()
        every = self._tables.renew_every
        if every is None or self._renewed + every <= now:
            self._renewed = now
            if every is not None:
                jobs.append(_Job(self._tables.renew, writes=True))
        timeout = None if every is None else self._renewed + every - now
        try:
            while len(jobs) < _BATCH:
                job = self._jobs.get(block=not jobs, timeout=timeout)
                if job is None:
                    return jobs, True
                jobs.append(job)
        except Empty:
            pass
        return jobs, False

    def _do(self, jobs: Sequence[_Job], *, again: bool = True) -> None:
        if not jobs:
            return
        try:
            self._tables.begin(writes=any(job.writes for job in jobs))
        except Exception as error:  # none of the jobs is to blame: they would fail the same way
            self._fail(jobs, error)
            return
        try:
            settle = [job.attempt() for job in jobs]
            self._tables.commit()
        except Exception as error:
            if again:
                self._tables.abandon()
                for job in jobs:
                    self._do([job], again=False)
            else:
                self._fail(jobs, error)
            return
        for tell in settle:
            tell()

    def _fail(self, jobs: Sequence[_Job], error: Exception) -> None:
        self._tables.abandon()
        for job in jobs:
            raised = self._tables.translate(error)
            if raised is not error:
                raised.__cause__ = error
            job.future.set_exception(raised)


def _ended() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_forking = threading.Lock()
_paused: list[Worker] = []


def _before_fork() -> None:
    _forking.acquire()
    for worker in list(_workers):
        worker.pause()
        _paused.append(worker)


def _after_fork() -> None:
    while _paused:
        _paused.pop().go_on()
    _forking.release()


def _after_fork_in_child() -> None:
    _workers.clear()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


@atexit.register
def _finish() -> None:
    deadline = time.monotonic() + PATIENCE
    for ended in [worker.stop() for worker in list(_workers)]:
        with suppress(TimeoutError):
            ended.result(timeout=max(0.0, deadline - time.monotonic()))
