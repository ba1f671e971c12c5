"""Several models behind one face: where one cannot answer, the next is asked."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Final

from agentkit.errors import (
    ConfigError,
    ContextOverflowError,
    FallbackError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailableError,
    UnsupportedInputError,
)
from agentkit.events import ModelEvent
from agentkit.providers import resolve_model
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.providers.retry import is_transient

__all__ = ["FallbackProvider", "another_may_answer"]

_log: Final = logging.getLogger(__name__)

_MODES: Final[Sequence[OutputMode]] = ("native", "tool", "prompt")  # each works with more models than the one before


def another_may_answer(error: ProviderError) -> bool:
    """Whether another model may succeed where this error came from.

    True where the server is down, silent, overloaded or talks nonsense, where the prompt is too long, where the model
    cannot take such input, and where the model was not asked at all. False for what is a mistake in the set-up: a
    wrong key, an unknown model, a file that does not load.
    """
    return _is_outage(error) or isinstance(
        error, ContextOverflowError | UnsupportedInputError | ProviderUnavailableError | FallbackError
    )


def _is_outage(error: ProviderError) -> bool:
    return is_transient(error) or isinstance(error, ProviderConnectionError | ProviderProtocolError)


class FallbackProvider(Provider):
    """Asks the first model; where that fails before its first event, the second, and so on.

    Each model makes its own retries first. An answer that breaks off in its middle is not begun again by another
    model: what was shown is not taken back. Each turn begins with the first model again, except that one which is down
    is left alone for a while (a circuit breaker): after ``failures`` turns in a row in which its server was down,
    silent, overloaded or talked nonsense, it is skipped for ``cooldown`` seconds, then asked by one request in each
    such time until one succeeds. A model that failed is logged as a warning. With one model this is the circuit
    breaker alone, and errors are raised as they are.

    Args:
        models: model strings or providers, in the order in which they are asked.
        failures: 5.
        cooldown: seconds; 30.
        when: which errors the next model is asked after; see `another_may_answer`.
        clock: seconds that never run backwards; tests put their own here.

    Raises:
        ConfigError: no models, or one that is not there.
    """

    def __init__(
        self,
        *models: str | Provider,
        failures: int = 5,
        cooldown: float = 30.0,
        when: Callable[[ProviderError], bool] = another_may_answer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not models:
            raise ConfigError("FallbackProvider needs at least one model")
        if failures < 1 or not cooldown >= 0:
            raise ConfigError(
                f"FallbackProvider: failures is {failures!r} and cooldown {cooldown!r}: they must be at least 1 and 0"
            )
        providers = [resolve_model(model) if isinstance(model, str) else model for model in models]
        self._models = [(provider, _Breaker(provider.name, failures, cooldown, clock)) for provider in providers]
        self._when = when
        self.name = f"fallback({', '.join(provider.name for provider in providers)})"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """One turn of the first model that answers.

        Raises:
            FallbackError: none did; it holds the error of each.
            ContextOverflowError: the prompt is too long for every one of them: the first one's word.
            ProviderError: a model failed in a way in which the next is not asked, or in the middle of its answer.
        """
        errors: list[ProviderError] = []
        for provider, breaker in self._models:
            shown = False
            try:
                breaker.check()
                async with aclosing(provider.stream(request)) as events:
                    async for event in events:
                        shown = True
                        yield event
            except ProviderError as error:
                if _is_outage(error):
                    breaker.failed()
                if shown or len(self._models) == 1 or not self._when(error):
                    raise
                errors.append(error)
                if not isinstance(error, ProviderUnavailableError):
                    _log.warning("%s could not answer: %s", provider.name, error)
            else:
                breaker.succeeded()
                return
        if all(isinstance(error, ContextOverflowError) for error in errors):
            raise errors[0]
        failed = zip(self._models, errors, strict=True)
        each = "; ".join(f"{provider.name}: {error}" for (provider, _), error in failed)
        raise FallbackError(f"No model could answer. {each}", errors) from errors[-1]

    async def output_mode(self, has_tools: bool) -> OutputMode:
        """What every model understands: the request is the same for all. One that cannot say so now is left out."""
        modes: list[OutputMode] = []
        for provider, _ in self._models:
            with suppress(ProviderError):
                modes.append(await provider.output_mode(has_tools))
        return max(modes, key=_MODES.index, default="prompt")

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The most that any of them counts; None if one of them cannot count."""
        counts: list[int] = []
        for provider, _ in self._models:
            with suppress(ProviderError):
                count = await provider.count_tokens(request)
                if count is None:
                    return None
                counts.append(count)
        return max(counts, default=None)

    async def context_size(self) -> int | None:
        """The smallest that is known: the request is the same for all."""
        sizes: list[int] = []
        for provider, _ in self._models:
            with suppress(ProviderError):
                sizes.append(await provider.context_size() or 0)
        return min(filter(None, sizes), default=None)

    async def close(self) -> None:
        """Close all of them."""
        async with AsyncExitStack() as stack:
            for provider, _ in self._models:
                stack.push_async_callback(provider.close)


class _Breaker:
    """Whether a model may be asked, from how it has fared."""

    def __init__(self, name: str, failures: int, cooldown: float, clock: Callable[[], float]) -> None:
        self._name = name
        self._most = failures
        self._cooldown = cooldown
        self._clock = clock
        self._failures = 0  # in a row
        self._closed_until = 0.0  # counts from ``_most`` failures on

    def check(self) -> None:
        """Whoever passes while the model is down tries it for all others, and these wait a further cooldown. So a trial
        that is cancelled blocks nothing for longer."""
        if self._failures < self._most:
            return
        left = self._closed_until - self._clock()
        if left > 0:
            raise ProviderUnavailableError(
                f"{self._name} failed {self._failures} times in a row: it is left alone for another {left:.1f} seconds",
                retry_after=left,
            )
        self._closed_until = self._clock() + self._cooldown

    def failed(self) -> None:
        self._failures += 1
        self._closed_until = self._clock() + self._cooldown

    def succeeded(self) -> None:
        self._failures = 0
