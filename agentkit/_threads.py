"""Threads for the synchronous tools of a run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """Runs each job in a thread that has nothing else to do: an idle one, or a new one. They end with this object; one
    whose job hangs ends after it.

    Not asyncio's pool, nor another of the standard library: those have few threads, and a job that hangs would keep the
    interpreter from ending.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, which must not raise. Returns at once."""
        if not self._idle.acquire(blocking=False):
            self._count += 1
            threading.Thread(target=_work, args=(self._jobs, self._idle), name="agentkit-tool", daemon=True).start()
        self._jobs.put(job)

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function with the caller's context variables; the future belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            settle: Callable[[], None]
            try:
                settle = partial(future.set_result, context.run(work))
            except BaseException as error:
                # A future cannot carry a StopIteration, and what would end this thread must not end the caller.
                can_pass = isinstance(error, Exception) and not isinstance(error, StopIteration)
                raised = error if can_pass else RuntimeError(f"{type(error).__name__}: {error}")
                settle = partial(future.set_exception, raised)
            with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
                loop.call_soon_threadsafe(lambda: None if future.done() else settle())

        self.run(job)
        return future

    def __del__(self) -> None:
        for _ in range(self._count):
            self._jobs.put(None)


def _work(jobs: SimpleQueue[Callable[[], None] | None], idle: threading.Semaphore) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # what it holds is not to be kept until the next one
        idle.release()
