"""Limits of a provider: how many turns at once, and how much in a minute."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Limits, Message, ModelSettings, ToolCall, ToolResult, Usage, tool
from agentkit.errors import ConfigError, ProviderConnectionError, ProviderUnavailableError
from agentkit.events import ModelEvent, ModelFinished, TextDelta
from agentkit.messages import ImagePart
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.providers.limited import LimitedProvider
from agentkit.testing import ScriptedProvider


class Clock:
    """Time passes only while somebody sleeps: as much as was asked for, and at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        wake = self.now + seconds
        await asyncio.sleep(0)  # whoever came earlier wakes earlier
        self.now = max(self.now, wake)


class Model(Provider):
    """Notes when it is asked; answers at once, or when it is let."""

    name = "test:model"

    def __init__(self, clock: Clock, usage: Usage | None = None) -> None:
        self.clock = clock
        self.usage = usage or Usage()
        self.begun: list[float] = []
        self.asked: list[str] = []
        self.running = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.begun.append(self.clock())
        self.asked.append(request.messages[-1].text)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            yield TextDelta("hi")
            yield ModelFinished(usage=self.usage)
        finally:
            self.running -= 1


def limited(model: Model, **limits: int) -> LimitedProvider:
    return LimitedProvider(model, **limits, clock=model.clock, sleep=model.clock.sleep)  # type: ignore[arg-type]


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def begun(turns: int, *, usage: Usage | None = None, prompt: str = "?", **limits: int) -> list[float]:
    """When so many turns, one after another, are begun."""
    model = Model(Clock(), usage)

    async def run() -> None:
        provider = limited(model, **limits)
        for _ in range(turns):
            await provider.complete(prompt)

    asyncio.run(run())
    return model.begun


class TestConcurrency:
    def test_no_more_turns_at_once_and_first_come_first_served(self) -> None:
        async def run() -> None:
            model = Model(Clock())
            model.gate.clear()
            provider = limited(model, concurrency=2)
            turns = [asyncio.ensure_future(provider.complete(str(number))) for number in range(6)]
            await settled()
            assert model.asked == ["0", "1"]
            model.gate.set()
            await asyncio.gather(*turns)
            assert model.asked == list("012345")
            assert model.most == 2

        asyncio.run(run())

    def test_waiting_turn_that_is_cancelled_leaves_its_place_to_the_next(self) -> None:
        async def run() -> None:
            model = Model(Clock())
            model.gate.clear()
            provider = limited(model, concurrency=1)
            first, second, third = (asyncio.ensure_future(provider.complete(name)) for name in "abc")
            await settled()
            second.cancel()
            model.gate.set()
            await asyncio.gather(first, third)
            assert model.asked == ["a", "c"]
            assert (await provider.complete("d")).text == "hi"

        asyncio.run(run())

    def test_turn_that_is_cancelled_just_as_it_gets_its_place_passes_it_on(self) -> None:
        async def run() -> None:
            model = Model(Clock())
            provider = limited(model, concurrency=1)
            holder = provider.stream(ModelRequest([Message("user", "a")]))
            await anext(holder)
            waiting = asyncio.ensure_future(provider.complete("b"))
            await settled()
            await holder.aclose()  # the place is given, and its taker not yet awake
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await asyncio.wait_for(provider.complete("c"), 5)).text == "hi"

        asyncio.run(run())

    def test_failed_turn_gives_its_place_back(self) -> None:
        provider = LimitedProvider(ScriptedProvider([ProviderConnectionError("down"), "hi"]), concurrency=1)

        async def run() -> str:
            with pytest.raises(ProviderConnectionError):
                await provider.complete("?")
            return (await provider.complete("?")).text

        assert asyncio.run(run()) == "hi"

    def test_it_holds_over_event_loops_in_several_threads(self) -> None:
        clock = Clock()
        lock = threading.Lock()
        running: list[int] = []
        most: list[int] = []

        class Counting(Model):
            async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
                with lock:
                    running.append(1)
                    most.append(len(running))
                await asyncio.sleep(0)
                with lock:
                    running.pop()
                yield ModelFinished()

        provider = limited(Counting(clock), concurrency=2)

        async def many() -> None:
            await asyncio.gather(*(provider.complete("?") for _ in range(20)))

        threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(most) == 80
        assert max(most) <= 2


class TestRate:
    def test_requests_in_any_minute(self) -> None:
        assert begun(7, requests_per_minute=3) == [0, 0, 0, 60, 60, 60, 120]

    def test_waiting_turns_are_served_in_their_order(self) -> None:
        async def run() -> None:
            model = Model(Clock())
            provider = limited(model, requests_per_minute=2)
            await asyncio.gather(*(provider.complete(str(number)) for number in range(6)))
            assert model.asked == list("012345")
            assert model.begun == [0, 0, 60, 60, 120, 120]

        asyncio.run(run())

    def test_turn_does_not_overtake_one_that_waits_even_if_there_is_room_by_now(self) -> None:
        async def run() -> None:
            waits: list[float] = []

            async def forever(seconds: float) -> None:
                waits.append(seconds)
                await asyncio.Event().wait()

            model = Model(Clock(), Usage(10))
            provider = LimitedProvider(model, tokens_per_minute=100, clock=model.clock, sleep=forever)
            first = provider.stream(ModelRequest([Message("user", "x" * 4 * 80)]))
            await anext(first)
            second = asyncio.ensure_future(provider.complete("x" * 4 * 50))
            await settled()
            assert [event async for event in first] == [ModelFinished(usage=Usage(10))]  # far less than estimated
            third = asyncio.ensure_future(provider.complete("x"))
            await settled()
            assert waits == [60, 60]
            second.cancel()
            third.cancel()

        asyncio.run(run())

    def test_turn_waits_no_longer_than_until_enough_has_left_the_minute(self) -> None:
        async def run() -> None:
            model = Model(Clock(), Usage(40))
            provider = limited(model, tokens_per_minute=100)
            for _ in range(3):
                await provider.complete("x" * 4 * 39)
                model.clock.now += 10
            assert model.begun == [0, 10, 60]

        asyncio.run(run())

    def test_tokens_are_those_that_the_provider_counted(self) -> None:
        assert begun(4, usage=Usage(40, 10), tokens_per_minute=100) == [0, 0, 60, 60]

    def test_tokens_are_estimated_before_the_provider_has_counted(self) -> None:
        assert begun(3, prompt="word " * 39, tokens_per_minute=100) == [0, 0, 60]

    def test_estimate_counts_all_that_is_sent(self) -> None:
        @tool
        def look(place: str) -> str:
            """Look somewhere."""
            return place

        model = Model(Clock())
        messages = [
            Message("user", ImagePart(b"x" * 10_000)),
            Message("assistant", ToolCall("look", {"place": "x" * 400}, "1")),
            Message("tool", ToolResult("1", "look", "y" * 400)),
        ]

        async def run(tokens: int) -> list[float]:
            provider = limited(model, tokens_per_minute=tokens)
            for _ in range(2):
                await provider.complete(messages, tools=[look], settings=ModelSettings(max_tokens=1000))
            return model.begun

        assert asyncio.run(run(4600)) == [0, 0]  # 2 × (1,000, as much for the image, 100 for the others, and the tool)
        model.begun.clear()
        assert asyncio.run(run(4300)) == [0, 60]

    def test_turn_beyond_the_limit_has_a_minute_to_itself(self) -> None:
        assert begun(3, prompt="x" * 4000, tokens_per_minute=100) == [0, 60, 120]

    def test_turn_that_is_cancelled_while_it_waits_takes_nothing(self) -> None:
        async def run() -> None:
            clock = Clock()
            model = Model(clock)

            async def forever(_: float) -> None:
                await asyncio.Event().wait()

            provider = LimitedProvider(model, requests_per_minute=1, clock=clock, sleep=forever)
            await provider.complete("a")
            waiting = asyncio.ensure_future(provider.complete("b"))
            await settled()
            waiting.cancel()
            await settled()
            clock.now = 60.0
            await asyncio.wait_for(provider.complete("c"), 5)
            assert model.asked == ["a", "c"]

        asyncio.run(run())

    def test_turn_whose_time_comes_after_the_deadline_is_refused_at_once(self) -> None:
        provider = LimitedProvider(ScriptedProvider(["one"], name="test:m"), requests_per_minute=1)
        agent = Agent(provider, limits=Limits(deadline=30))
        assert agent.run_sync("a").output == "one"
        with pytest.raises(ProviderUnavailableError, match=r"test:m is limited \(requests_per_minute=1\)") as caught:
            agent.run_sync("b")
        assert 50 < caught.value.retry_after <= 60
        assert caught.value.messages == (Message("user", "b"),)

    @given(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), max_size=30), st.integers(1, 5), st.integers(1, 100)
    )
    def test_no_sixty_seconds_ever_hold_more(self, arrivals: list[tuple[int, int]], requests: int, tokens: int) -> None:
        """Turns that come after such pauses, each with so many tokens."""
        clock = Clock()
        model = Model(clock)
        sizes: list[int] = []

        async def run() -> None:
            provider = limited(model, requests_per_minute=requests, tokens_per_minute=tokens)
            for pause, size in arrivals:
                clock.now += pause
                sizes.append(min(size, tokens))
                model.usage = Usage(sizes[-1])
                await provider.complete("x" * 4 * sizes[-1])

        asyncio.run(run())
        assert model.begun == sorted(model.begun)
        for end in model.begun:
            window = [size for begin, size in zip(model.begun, sizes, strict=True) if end - 60 < begin <= end]
            assert len(window) <= requests
            assert sum(window) <= tokens


def test_all_but_the_limits_is_the_models() -> None:
    closed: list[bool] = []

    class Closing(Model):
        async def close(self) -> None:
            closed.append(True)

        async def output_mode(self, has_tools: bool) -> OutputMode:
            return "tool" if has_tools else "native"

        async def count_tokens(self, request: ModelRequest) -> int | None:
            return len(request.messages)

        async def context_size(self) -> int | None:
            return 2048

    provider = limited(Closing(Clock(), Usage(1, 2)))
    assert provider.name == "test:model"
    response = asyncio.run(provider.complete("?"))
    assert (response.text, response.usage) == ("hi", Usage(1, 2))
    assert [asyncio.run(provider.output_mode(has_tools)) for has_tools in (True, False)] == ["tool", "native"]
    assert asyncio.run(provider.count_tokens(ModelRequest([Message("user", "?")] * 3))) == 3
    assert asyncio.run(provider.context_size()) == 2048
    asyncio.run(provider.close())
    assert closed


@pytest.mark.parametrize("limit", ["concurrency", "requests_per_minute", "tokens_per_minute"])
def test_limits_that_make_no_sense(limit: str) -> None:
    with pytest.raises(ConfigError, match=f"{limit} is 0"):
        LimitedProvider(ScriptedProvider([]), **{limit: 0})  # type: ignore[arg-type]
