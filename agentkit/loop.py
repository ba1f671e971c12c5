"""The loop: ask the model, run its calls, show it the results, until it answers or a limit ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from agentkit.context import Run
from agentkit.errors import AgentKitError
from agentkit.events import Event, ModelFinished, OutputT_co, RunFinished, StepFinished, ToolFinished, ToolStarted
from agentkit.execution import execute
from agentkit.providers.base import ResponseBuilder

__all__ = ["run_loop"]

T = TypeVar("T")


async def run_loop(run: Run[OutputT_co]) -> AsyncGenerator[Event[OutputT_co], None]:
    """Every run, whole or streamed, is this generator. The last event is `RunFinished`.

    Raises:
        OutputError: the run ended without an answer of the type that was asked for.
        ProviderError: the model could not answer; the error's ``messages`` hold the transcript so far.
    """
    try:
        while run.stop_reason is None:
            turn = ResponseBuilder()
            try:
                async with aclosing(run.provider.stream(await run.request())) as stream:
                    async for event in until(run.deadline, stream):
                        turn.add(event)
                        if not isinstance(event, ModelFinished):
                            yield event
                        if partial := run.partial_output(event):
                            yield partial
            except TimeoutError:
                run.break_off(turn.partial())
                break
            response = turn.response()
            run.add_response(response)
            yield StepFinished(response)

            async with aclosing(_execute(run)) as executing:
                async for outcome in executing:
                    if isinstance(outcome, ToolFinished):
                        run.add_result(outcome.call, outcome.result)
                    yield outcome
            await run.finish_step(response)
        yield RunFinished(run.result())
    except AgentKitError as error:
        error.messages = run.transcript()
        raise


def _execute(run: Run[object]) -> AsyncGenerator[ToolStarted | ToolFinished, None]:
    return execute(
        run.pending_calls(),
        run.tools,
        run.tool_context,
        timeout=run.limits.tool_timeout,
        deadline=run.deadline,
        output_limit=run.limits.tool_output,
        threads=run.threads,
    )


async def until(deadline: float, stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Pass a stream on until a moment of the event loop's time.

    The clock runs only while the stream is waited for, never in the consumer's own code between two items.

    Raises:
        TimeoutError: the deadline passed.
    """
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                item = await anext(stream)
        except StopAsyncIteration:
            return
        yield item
