"""How much may be asked of a model: turns at the same time, requests and tokens a minute."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from agentkit.errors import ConfigError, ProviderUnavailableError
from agentkit.events import ModelEvent, ModelFinished
from agentkit.providers import resolve_model
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.providers.tokens import estimated_tokens

__all__ = ["LimitedProvider"]

_MINUTE: Final = 60.0  # seconds


class LimitedProvider(Provider):
    """A model that is not asked more than it may be; who has to wait is served in the order of coming.

    The limits hold in any 60 seconds, and for all event loops and threads that use this provider. A turn whose place in
    the minute would come after its run's deadline is refused at once, so that another model can be asked; one that
    waits for others to finish is cut by the deadline itself. The provider's own retries are not counted.

    Tokens are estimated before the turn (see `estimated_tokens`, plus ``max_tokens`` if set) and put right
    when the provider has counted them. A turn that alone exceeds the limit has a minute to itself.

    Args:
        model: a model string or a provider.
        concurrency: turns at the same time.
        requests_per_minute: turns begun.
        tokens_per_minute: input and output together.
        clock: seconds that never run backwards; tests put their own here.
        sleep: waits some seconds; tests put their own here.

    Raises:
        ConfigError: a limit below 1, or a model that is not there.
    """

    def __init__(
        self,
        model: str | Provider,
        *,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        limits = {
            "concurrency": concurrency,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
        }
        for name, limit in limits.items():
            if limit is not None and limit < 1:
                raise ConfigError(f"LimitedProvider: {name} is {limit!r}: it must be at least 1")
        self._provider = resolve_model(model) if isinstance(model, str) else model
        self.name = self._provider.name
        self._places = _Places(math.inf if concurrency is None else concurrency)
        self._minute = _Minute(requests_per_minute or math.inf, tokens_per_minute or math.inf, clock)
        self._counts_tokens = tokens_per_minute is not None
        self._limits = ", ".join(f"{name}={limit}" for name, limit in limits.items() if limit is not None)
        self._sleep = sleep

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """One turn of the model, when its time has come.

        Raises:
            ProviderUnavailableError: that would be after the request's deadline; the model was not asked.
            ProviderError: the model could not answer.
        """
        await self._places.take()
        try:
            turn = await self._wait(request)
            async with aclosing(self._provider.stream(request)) as events:
                async for event in events:
                    if isinstance(event, ModelFinished) and event.usage.total_tokens:
                        turn.tokens = event.usage.total_tokens
                    yield event
        finally:
            self._places.give_back()

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """The model's; asking for it is not limited."""
        return await self._provider.output_mode(has_tools)

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The model's."""
        return await self._provider.count_tokens(request)

    async def context_size(self) -> int | None:
        """The model's; asking for it is not limited."""
        return await self._provider.context_size()

    async def close(self) -> None:
        """Close the model's provider."""
        await self._provider.close()

    def _estimate(self, request: ModelRequest) -> int:
        return estimated_tokens(request) + (request.settings.max_tokens or 0)

    async def _wait(self, request: ModelRequest) -> _Turn:
        turn, wait = self._minute.reserve(self._estimate(request) if self._counts_tokens else 0)
        try:
            if request.deadline is not None and wait > request.deadline - asyncio.get_running_loop().time():
                raise ProviderUnavailableError(
                    f"{self.name} is limited ({self._limits}): the next turn could begin in {wait:.1f} seconds, which "
                    "is after the run's deadline",
                    retry_after=wait,
                )
            if wait:
                await self._sleep(wait)
        except BaseException:
            self._minute.cancel(turn)
            raise
        return turn


class _Places:
    """A semaphore, fair, and for many event loops: asyncio's own belongs to one."""

    def __init__(self, number: float) -> None:
        self._free = number
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    async def take(self) -> None:
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            place: Future[None] = Future()
            self._waiting.append(place)
        try:
            await asyncio.wrap_future(place)
        except BaseException:
            if not place.cancel():  # it was given at the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        with self._lock:
            while self._waiting:
                place = self._waiting.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            self._free += 1


@dataclass(slots=True, eq=False)
class _Turn:
    begin: float
    tokens: float


class _Minute:
    """The turns of the last minute, and those that have their place in the time to come."""

    def __init__(self, requests: float, tokens: float, clock: Callable[[], float]) -> None:
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._turns: deque[_Turn] = deque()
        self._lock = threading.Lock()

    def reserve(self, tokens: float) -> tuple[_Turn, float]:
        """A turn, begun as early as the limits allow but not before those that came earlier; and the seconds until
        then."""
        now = self._clock()
        if self._requests == self._tokens == math.inf:
            return _Turn(now, tokens), 0.0
        with self._lock:
            while self._turns and self._turns[0].begin <= now - _MINUTE:
                self._turns.popleft()
            begin = max(now, self._turns[-1].begin) if self._turns else now
            requests, used = len(self._turns), sum(turn.tokens for turn in self._turns)
            for turn in self._turns:
                if requests < self._requests and used + tokens <= self._tokens:
                    break
                begin = max(begin, turn.begin + _MINUTE)
                requests -= 1
                used -= turn.tokens
            self._turns.append(_Turn(begin, tokens))
            return self._turns[-1], begin - now

    def cancel(self, turn: _Turn) -> None:
        with self._lock:
            if turn in self._turns:
                self._turns.remove(turn)
