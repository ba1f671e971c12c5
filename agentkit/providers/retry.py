"""When a request to a model is tried again, and how long is waited before."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from agentkit.errors import (
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from agentkit.events import ModelEvent, Restarted

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["Retry", "is_transient", "retry_after"]

_FIRST_WAIT: Final = 0.5  # seconds; doubled each time


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and how patiently, a request is tried again.

    Only what may pass by itself is tried again (see `is_transient`), and only before the model's first event: what was
    shown is not taken back, unless ``restart`` allows it. A server that asks to wait (``Retry-After``) is obeyed;
    otherwise the waits are drawn from 0.25 to 0.5 seconds, then 0.5 to 1, and so on. A wait that would end after the
    request's ``deadline`` is not begun: the error is raised at once.

    Args:
        attempts: in all, the first one included; 3. With 1 nothing is tried again.
        max_wait: seconds, of one wait; 30. A server that asks for longer is not waited for: its error is raised at
            once, with ``retry_after`` on it.
        restart: also try again when an answer breaks off in its middle; no. The event `Restarted` then tells whoever
            reads the stream that what came before it is void.
        sleep: waits some seconds; tests put their own here.
    """

    attempts: int = 3
    max_wait: float = 30.0
    restart: bool = False
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry.attempts is {self.attempts!r}: it must be at least 1")
        if not self.max_wait >= 0:
            raise ValueError(f"Retry.max_wait is {self.max_wait!r}: it must be 0 seconds or more")

    async def stream(
        self, attempt: Callable[[], AsyncGenerator[ModelEvent, None]], deadline: float | None = None
    ) -> AsyncGenerator[ModelEvent, None]:
        """The events of the first attempt that has any; with ``restart`` those of each, up to one that is whole.

        Args:
            attempt: makes the request; called anew each time.
            deadline: in the event loop's time; none by default.

        Raises:
            ProviderError: the last attempt's.
        """
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_before_delay

        left = math.inf if deadline is None else deadline - asyncio.get_running_loop().time()
        shown = False
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.attempts) | stop_before_delay(left),
            wait=self._wait,
            retry=retry_if_exception(lambda error: self._may_pass(error) and (self.restart or not shown)),
            sleep=self.sleep,
            reraise=True,
        )
        reason = ""
        async for trial in retrying:
            if shown:
                shown = False
                yield Restarted(reason)
            with trial:
                try:
                    async with aclosing(attempt()) as events:
                        async for event in events:
                            shown = True
                            yield event
                except ProviderError as error:
                    reason = str(error)
                    raise
                if not shown:
                    raise ProviderProtocolError("the provider's stream ended without an event")

    def _may_pass(self, error: BaseException) -> bool:
        return is_transient(error) and (_asked_wait(error) or 0.0) <= self.max_wait

    def _wait(self, state: RetryCallState) -> float:
        asked = _asked_wait(state.outcome.exception() if state.outcome else None)
        if asked is not None:
            return asked
        longest = min(self.max_wait, _FIRST_WAIT * 2.0 ** (state.attempt_number - 1))
        return longest * random.uniform(0.5, 1.0)


def _asked_wait(error: BaseException | None) -> float | None:
    return error.retry_after if isinstance(error, ProviderStatusError) else None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later.

    True for a connection that failed or broke off and for the statuses 408, 409, 429 and 5xx; not for a server that
    was silent until the time limit.
    """
    if isinstance(error, ProviderStatusError):
        return error.status in (408, 409, 429) or error.status >= 500
    return isinstance(error, ProviderConnectionError) and not isinstance(error, ProviderTimeoutError)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait, from ``retry-after-ms`` or ``Retry-After`` (RFC 9110, 10.2.3: seconds
    or a date); None if it does not ask, or not in a way that can be read. ``headers`` ignores case."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    return _until(value) if _seconds(value) is None else _seconds(value)


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _until(value: str | None) -> float | None:
    try:
        date = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
