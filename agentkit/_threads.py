"""Threads for the synchronous tools of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["Threads"]


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

    def __del__(self) -> None:
        for _ in range(self._count):
            self._jobs.put(None)


def _work(jobs: SimpleQueue[Callable[[], None] | None], idle: threading.Semaphore) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # what it holds is not to be kept until the next one
        idle.release()
