"""The loop: ask the model, run its calls, show it the results, until it answers or a limit ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from agentkit.context import Run
from agentkit.errors import AgentKitError, ContextOverflowError, ProviderError
from agentkit.events import Event, ModelFinished, OutputT_co, RunFinished, RunResult, StepFinished
from agentkit.execution import execute
from agentkit.hooks import OutOfTime, StopRun
from agentkit.providers.base import ResponseBuilder

__all__ = ["drained", "run_loop"]

T = TypeVar("T")


async def run_loop(run: Run[OutputT_co]) -> AsyncGenerator[Event[OutputT_co], None]:
    """Every run, whole or streamed, begun or resumed, is this generator. The last event is `RunFinished`.

    Raises:
        OutputError: the run ended without an answer of the type that was asked for.
        ProviderError: the model could not answer.
        JournalError: the run could not be put on record.

    An error's ``messages`` hold the transcript so far, and its ``run_id`` the run.
    """
    try:
        turn = ResponseBuilder()
        while run.stop_reason is None:
            try:
                if not run.is_open:
                    await run.open()
                elif run.turn is None:
                    turn = ResponseBuilder()
                    async with aclosing(_ask(run, turn)) as asking:
                        async for event in asking:
                            yield event
                    if run.stop_reason is None:
                        yield StepFinished(await run.add_response(turn.response()))
                else:
                    async with aclosing(execute(run)) as executing:
                        async for outcome in executing:
                            yield outcome
                    await run.finish_step()
            except StopRun as stopped:
                run.stop(stopped, turn.partial())
        await run.end()
        yield RunFinished(run.result())
    except AgentKitError as error:
        error.messages = run.transcript()
        error.run_id = run.run_id
        raise
    finally:
        run.close()


async def drained(events: AsyncGenerator[Event[OutputT_co], None]) -> RunResult[OutputT_co]:
    """What a run came to, for those who do not look at its events."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, RunFinished):
                return event.result
    raise ProviderError("the run ended without a result")  # the loop's last event is always RunFinished


async def _ask(run: Run[OutputT_co], turn: ResponseBuilder) -> AsyncGenerator[Event[OutputT_co], None]:
    """The model's turn as it comes, put together in ``turn``. A prompt that is refused as too long is made shorter.

    Raises:
        ContextOverflowError: it cannot be.
    """
    while True:
        try:
            async with aclosing(run.setup.provider.stream(await run.request())) as stream:
                async for event in until(run.deadline, stream):
                    turn.add(event)
                    if not isinstance(event, ModelFinished):
                        yield event
                    if partial := run.partial_output(event):
                        yield partial
                    if turn.size > run.limits.output_size:
                        run.break_off(turn.partial(), "output_size")
                        break
            return
        except ContextOverflowError as error:
            if turn.size or not await run.shorten(error):
                raise


async def until(deadline: float, stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Pass a stream on until a moment of the event loop's time.

    The clock runs only while the stream is waited for, never in the consumer's own code between two items.

    Raises:
        OutOfTime: the deadline passed.
    """
    while True:
        try:
            async with asyncio.timeout_at(deadline) as scope:
                item = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if not scope.expired():
                raise
            raise OutOfTime from None
        yield item
