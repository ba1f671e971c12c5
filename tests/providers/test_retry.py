"""Retries: what is tried again, how often, and after how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agentkit import Agent, Limits
from agentkit.errors import (
    ContextOverflowError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderStatusError,
)
from agentkit.events import (
    Event,
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    Restarted,
    RunFinished,
    StepFinished,
    TextDelta,
    ToolCallEnd,
)
from agentkit.messages import Message, ModelResponse, Problem, ToolCall
from agentkit.providers.base import ResponseBuilder
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.retry import ProviderTimeoutError, Retry, is_transient, retry_after
from tests.servers import answer_text, chunk, reply, serve, sse_then_close

Attempt = ProviderError | list[ModelEvent | ProviderError]


class Attempts:
    """Model streams from a script: each is an error, or events that may end in one."""

    def __init__(self, *script: Attempt) -> None:
        self.script = list(script)
        self.made = 0
        self.waits: list[float] = []

    async def __call__(self) -> AsyncGenerator[ModelEvent, None]:
        attempt = self.script[self.made]
        self.made += 1
        for item in [attempt] if isinstance(attempt, ProviderError) else attempt:
            if isinstance(item, ProviderError):
                raise item
            yield item

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def run(self, left: float | None = None, **settings: float) -> list[ModelEvent]:
        """With so many seconds ``left`` before the deadline."""
        return asyncio.run(self._run(Retry(**settings, sleep=self.sleep), left))  # type: ignore[arg-type]

    async def _run(self, retry: Retry, left: float | None) -> list[ModelEvent]:
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        return [event async for event in retry.stream(self, deadline)]


DOWN = ProviderConnectionError("down")
ANSWER: list[ModelEvent | ProviderError] = [TextDelta("hi"), ModelFinished()]


def busy(status: int = 503, wait: float | None = None) -> ProviderStatusError:
    return ProviderStatusError("busy", status=status, retry_after=wait)


def test_first_attempt_that_answers_is_the_answer() -> None:
    attempts = Attempts(DOWN, busy(), ANSWER)
    assert attempts.run() == ANSWER
    assert attempts.made == 3


def test_waits_double_with_jitter() -> None:
    attempts = Attempts(DOWN, DOWN, DOWN, ANSWER)
    attempts.run(attempts=4)
    first, second, third = attempts.waits
    assert 0.25 <= first <= 0.5 <= second <= 1.0 <= third <= 2.0


def test_max_wait_bounds_the_backoff() -> None:
    attempts = Attempts(DOWN, DOWN, ANSWER)
    attempts.run(max_wait=0.1)
    assert all(wait <= 0.1 for wait in attempts.waits)


def test_last_error_is_raised_as_it_is() -> None:
    last = busy(500)
    attempts = Attempts(DOWN, DOWN, last, ANSWER)
    with pytest.raises(ProviderStatusError) as caught:
        attempts.run()
    assert caught.value is last
    assert attempts.made == 3


def test_one_attempt_means_no_retry() -> None:
    attempts = Attempts(DOWN, ANSWER)
    with pytest.raises(ProviderConnectionError):
        attempts.run(attempts=1)
    assert (attempts.made, attempts.waits) == (1, [])


def test_server_that_asks_to_wait_is_obeyed() -> None:
    attempts = Attempts(busy(429, wait=7.0), ANSWER)
    assert attempts.run() == ANSWER
    assert attempts.waits == [7.0]


def test_server_that_asks_for_too_long_is_not_waited_for() -> None:
    attempts = Attempts(busy(429, wait=31.0), ANSWER)
    with pytest.raises(ProviderStatusError) as caught:
        attempts.run()
    assert caught.value.retry_after == 31.0
    assert (attempts.made, attempts.waits) == (1, [])


def test_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    attempts = Attempts(DOWN, busy(429, wait=20.0), ANSWER)
    with pytest.raises(ProviderStatusError) as caught:
        attempts.run(left=15.0)
    assert caught.value.retry_after == 20.0
    assert attempts.made == 2
    assert len(attempts.waits) == 1


def test_wait_that_ends_before_the_deadline_is_waited() -> None:
    assert Attempts(busy(429, wait=20.0), ANSWER).run(left=25.0) == ANSWER


def test_nothing_is_tried_again_after_the_first_event() -> None:
    attempts = Attempts([TextDelta("hi"), DOWN], ANSWER)
    seen: list[ModelEvent] = []

    async def run() -> None:
        async for event in Retry(sleep=attempts.sleep).stream(attempts):
            seen.append(event)  # noqa: PERF401 - kept when the stream raises

    with pytest.raises(ProviderConnectionError):
        asyncio.run(run())
    assert seen == [TextDelta("hi")]
    assert attempts.made == 1


def test_answer_that_breaks_off_begins_anew_where_that_was_asked_for() -> None:
    attempts = Attempts([TextDelta("h"), DOWN], DOWN, ANSWER)
    assert attempts.run(restart=True) == [TextDelta("h"), Restarted("down"), *ANSWER]
    assert len(attempts.waits) == 2


def test_restarts_count_as_attempts() -> None:
    attempts = Attempts([TextDelta("h"), DOWN], [TextDelta("h"), DOWN], ANSWER)
    with pytest.raises(ProviderConnectionError):
        attempts.run(restart=True, attempts=2)
    assert attempts.made == 2


def test_what_cannot_pass_does_not_begin_anew() -> None:
    attempts = Attempts([TextDelta("h"), ProviderProtocolError("nonsense")], ANSWER)
    with pytest.raises(ProviderProtocolError):
        attempts.run(restart=True)
    assert attempts.made == 1


def test_what_a_void_beginning_said_is_not_in_the_response() -> None:
    builder = ResponseBuilder()
    void = [ReasoningDelta("hm"), TextDelta("h"), ToolCallEnd(ToolCall("f", {})), ProblemFound(Problem("k", "m"))]
    for event in [*void, Restarted("down"), TextDelta("hi"), ModelFinished()]:
        builder.add(event)
    assert builder.response() == ModelResponse(Message("assistant", "hi"))


def test_run_in_which_an_answer_broke_off_and_began_anew() -> None:
    broken = sse_then_close(chunk(content="The answer is fo"))
    with serve(broken, answer_text("It is 42.")) as server:

        async def run() -> list[Event]:
            retry = Retry(restart=True, max_wait=0)
            agent = Agent(OpenAIProvider("test", server.base_url, retry=retry))
            return [event async for event in agent.stream("?")]

        events = asyncio.run(run())
    kinds = [type(event) for event in events]
    assert kinds == [TextDelta, Restarted, TextDelta, StepFinished, RunFinished]
    assert isinstance(last := events[-1], RunFinished)
    assert last.result.messages == [Message("user", "?"), Message("assistant", "It is 42.")]


def test_run_whose_deadline_is_too_near_for_a_retry_raises_the_servers_error() -> None:
    with serve(reply(b"slow down", status=429, retry_after="20")) as server:
        agent = Agent(OpenAIProvider("test", server.base_url), limits=Limits(deadline=10))
        with pytest.raises(ProviderStatusError, match="slow down") as caught:
            agent.run_sync("?")
    assert caught.value.messages == (Message("user", "?"),)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (DOWN, True),
        *[(busy(status), True) for status in (408, 409, 429, 500, 502, 503, 529)],
        *[(busy(status), False) for status in (400, 401, 403, 404, 422)],
        (ProviderTimeoutError("silent"), False),
        (ProviderProtocolError("nonsense"), False),
        (ContextOverflowError("too long", tokens=2, limit=1), False),
        (ValueError("ours"), False),
    ],
)
def test_what_may_pass_by_itself(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


def test_stream_without_events_is_a_protocol_error() -> None:
    with pytest.raises(ProviderProtocolError):
        Attempts([]).run()


def test_closing_closes_the_attempt() -> None:
    closed: list[bool] = []

    async def attempt() -> AsyncGenerator[ModelEvent, None]:
        try:
            yield TextDelta("hi")
            yield ModelFinished()
        finally:
            closed.append(True)

    async def run() -> None:
        stream = Retry().stream(attempt)
        await anext(stream)
        await stream.aclose()
        assert closed

    asyncio.run(run())


def test_cancelling_ends_the_waiting() -> None:
    async def run() -> None:
        waiting = asyncio.Event()

        async def sleep(_: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        stream = Retry(sleep=sleep).stream(Attempts(DOWN, ANSWER))
        task = asyncio.ensure_future(anext(stream))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    seconds = retry_after({"retry-after": date})
    assert seconds is not None
    assert 590 < seconds <= 600


@pytest.mark.parametrize(
    "make", [lambda: Retry(attempts=0), lambda: Retry(max_wait=-1), lambda: Retry(max_wait=float("nan"))]
)
def test_settings_that_make_no_sense(make: Callable[[], Retry]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()
