"""One event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

__all__ = ["run_sync"]

T = TypeVar("T")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result; Ctrl-C cancels it and waits until it has cleaned up.

    It works where a loop is already running (a notebook), and providers keep their connections between two calls.
    The caller's context variables are seen inside.
    """
    loop = _background_loop()
    outcome: Future[T] = Future()
    started: Future[asyncio.Task[T]] = Future()

    def start() -> None:
        task = loop.create_task(coroutine)
        task.add_done_callback(lambda task: _settle(outcome, task))
        started.set_result(task)

    loop.call_soon_threadsafe(start, context=contextvars.copy_context())
    try:
        return outcome.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(started.result().cancel)
        outcome.exception()
        raise


def _settle(outcome: Future[T], task: asyncio.Task[T]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


@cache
def _background_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run_forever, args=(loop,), name="agentkit-loop", daemon=True).start()
    return loop


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        with suppress(SystemExit, KeyboardInterrupt):  # raised in a task, whose caller gets it; it stops a loop as well
            loop.run_forever()
