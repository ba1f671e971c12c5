"""Threads for synchronous tools: enough of them, used again, and gone when they should be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from agentkit._threads import Threads
from tests.waits import eventually

JOBS = 500


def run_and_wait(threads: Threads, job: Callable[[], None]) -> None:
    done = threading.Event()

    def whole() -> None:
        job()
        done.set()

    threads.run(whole)
    assert done.wait(timeout=10)


def test_as_many_jobs_run_at_once_as_there_are() -> None:
    threads = Threads()
    together = threading.Barrier(100)
    finished = [threading.Event() for _ in range(100)]

    def job(number: int) -> None:
        together.wait(timeout=10)
        finished[number].set()

    for number in range(100):
        threads.run(lambda number=number: job(number))  # type: ignore[misc]
    assert all(event.wait(timeout=10) for event in finished)


def test_jobs_one_after_another_share_threads() -> None:
    threads = Threads()
    used: list[threading.Thread] = []
    for _ in range(JOBS):
        run_and_wait(threads, lambda: used.append(threading.current_thread()))
    assert len(used) == JOBS
    assert len(set(used)) < JOBS / 2  # a job may come before the last one's thread has become idle


def test_threads_end_with_their_owner_and_a_hanging_one_after_its_job() -> None:
    threads = Threads()
    used: list[threading.Thread] = []
    begun, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        used.append(threading.current_thread())
        begun.set()
        go_on.wait(timeout=10)

    threads.run(hang)
    assert begun.wait(timeout=10)
    run_and_wait(threads, lambda: used.append(threading.current_thread()))
    del threads
    hanging, idle = used
    idle.join(timeout=10)
    assert not idle.is_alive()
    assert hanging.is_alive()
    go_on.set()
    hanging.join(timeout=10)
    assert not hanging.is_alive()


def test_what_a_job_held_is_not_kept_by_its_thread() -> None:
    class Held:
        def __init__(self) -> None:
            self.gone = threading.Event()

        def __del__(self) -> None:
            self.gone.set()

    threads, held = Threads(), Held()
    gone = held.gone
    threads.run(lambda held=held: None)  # type: ignore[misc]
    del held
    assert gone.wait(timeout=10)


def test_what_a_submitted_function_returns_and_raises_arrives_in_the_event_loop() -> None:
    def fails() -> None:
        raise KeyError("lost")

    def leaves() -> None:
        raise GeneratorExit

    async def go() -> None:
        threads = Threads()
        assert await threads.submit(lambda: threading.current_thread().name) == "agentkit-tool"
        with pytest.raises(KeyError, match="lost"):
            await threads.submit(fails)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await threads.submit(lambda: next(iter(())))
        with pytest.raises(RuntimeError, match="GeneratorExit"):
            await threads.submit(leaves)

    asyncio.run(go())


def test_a_submitted_function_may_outlive_the_event_loop() -> None:
    go_on = threading.Event()
    used: list[threading.Thread] = []

    def late() -> None:
        used.append(threading.current_thread())
        go_on.wait(timeout=10)

    async def go() -> None:
        future = Threads().submit(late)
        await eventually(lambda: used)
        future.cancel()

    asyncio.run(go())
    go_on.set()
    used[0].join(timeout=10)
    assert not used[0].is_alive()  # and pytest saw no exception in it
