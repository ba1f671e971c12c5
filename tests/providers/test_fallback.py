"""Fallback: which model is asked after which error, and when one is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import pytest

from agentkit import Agent, Message, ToolCall, tool
from agentkit.errors import (
    ConfigError,
    ContextOverflowError,
    FallbackError,
    ModelLoadError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderStatusError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    UnknownModelError,
    UnsupportedInputError,
)
from agentkit.events import ModelEvent, ModelFinished, TextDelta
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.providers.fallback import FallbackProvider, another_may_answer
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.retry import Retry
from agentkit.testing import ScriptedProvider, Step
from tests.servers import answer_text, close_at_once, reply, serve

DOWN = ProviderConnectionError("down")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Model(Provider):
    """Does what each step says; counts how often it is asked, and whether it was closed."""

    def __init__(self, *steps: str | ProviderError, name: str = "test:model") -> None:
        self.name = name
        self.steps = list(steps)
        self.asked = 0
        self.closed = False

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.asked += 1
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, ProviderError):
            raise step
        yield TextDelta(step)
        yield ModelFinished()

    async def close(self) -> None:
        self.closed = True


def ask(provider: Provider) -> str:
    return asyncio.run(provider.complete("?")).text


def test_second_model_answers_where_the_first_is_down(caplog: pytest.LogCaptureFixture) -> None:
    models = FallbackProvider(Model(DOWN, name="test:first"), Model("hi", name="test:second"))
    assert models.name == "fallback(test:first, test:second)"
    assert ask(models) == "hi"
    assert caplog.messages == ["test:first could not answer: down"]
    assert caplog.records[0].levelno == logging.WARNING


def test_first_model_that_answers_is_the_only_one_asked() -> None:
    second = Model("no")
    assert ask(FallbackProvider(Model("hi"), second)) == "hi"
    assert second.asked == 0


@pytest.mark.parametrize(
    ("error", "moves_on"),
    [
        (DOWN, True),
        (ProviderTimeoutError("silent"), True),
        (ProviderProtocolError("nonsense"), True),
        (ContextOverflowError("long", tokens=2, limit=1), True),
        (UnsupportedInputError("blind"), True),
        (ProviderUnavailableError("busy", retry_after=1), True),
        (FallbackError("all", [DOWN]), True),
        *[(ProviderStatusError("busy", status=status), True) for status in (408, 429, 500, 529)],
        *[(ProviderStatusError("wrong", status=status), False) for status in (400, 401, 403, 404)],
        (ModelLoadError("no GGUF"), False),
    ],
)
def test_which_errors_another_model_is_asked_after(error: ProviderError, moves_on: bool) -> None:
    assert another_may_answer(error) is moves_on
    models = FallbackProvider(Model(error), Model("hi"))
    if moves_on:
        assert ask(models) == "hi"
    else:
        with pytest.raises(ProviderError) as caught:
            ask(models)
        assert caught.value is error


def test_errors_to_move_on_after_can_be_chosen() -> None:
    wrong_key = ProviderStatusError("who?", status=401)
    assert ask(FallbackProvider(Model(wrong_key), Model("hi"), when=lambda error: True)) == "hi"


def test_every_model_failing_tells_each_error() -> None:
    busy = ProviderStatusError("busy", status=503)
    models = FallbackProvider(Model(DOWN, name="a:1"), Model(busy, name="b:2"))
    with pytest.raises(FallbackError, match="a:1: down; b:2: busy") as caught:
        ask(models)
    assert caught.value.errors == (DOWN, busy)
    assert caught.value.__cause__ is busy


def test_what_was_shown_is_not_taken_back() -> None:
    class BreaksOff(Model):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            yield TextDelta("h")
            raise DOWN

    second = Model("hi")
    with pytest.raises(ProviderConnectionError):
        ask(FallbackProvider(BreaksOff("?"), second))
    assert second.asked == 0


def test_each_server_makes_its_own_retries_first() -> None:
    async def no_wait(_: float) -> None:
        return

    retry = Retry(attempts=2, sleep=no_wait)
    with (
        serve(reply(b"busy", status=503), close_at_once) as first,
        serve(reply(b"busy", status=503), answer_text("hi")) as second,
    ):
        servers = [OpenAIProvider("m", server.base_url, retry=retry) for server in (first, second)]
        assert ask(FallbackProvider(*servers)) == "hi"


def test_a_run_whose_second_turn_another_model_takes() -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    first_steps: list[Step] = [ToolCall("add", {"a": 1, "b": 2}, "c1"), DOWN]
    first, second = ScriptedProvider(first_steps), ScriptedProvider(["It is 3."])
    result = Agent(FallbackProvider(first, second), tools=[add]).run_sync("1 + 2?")
    assert result.output == "It is 3."
    assert [message.role for message in second.requests[0].messages] == ["user", "assistant", "tool"]


class TestBreaker:
    def test_model_that_keeps_failing_is_left_alone_then_tried_by_one_request(self) -> None:
        clock = Clock()
        first, second = Model(DOWN), Model("hi")
        models = FallbackProvider(first, second, failures=2, cooldown=30, clock=clock)
        for _ in range(4):
            assert ask(models) == "hi"
        assert first.asked == 2
        clock.now += 30
        ask(models)  # tries it, and it fails
        ask(models)
        assert first.asked == 3
        clock.now += 30
        first.steps = ["back"]
        assert [ask(models), ask(models)] == ["back", "back"]
        first.steps = [DOWN, "back"]
        assert [ask(models), ask(models)] == ["hi", "back"]  # the count began anew

    def test_while_it_is_tried_others_do_not_wait_for_it(self) -> None:
        async def run() -> None:
            clock = Clock()
            first = Model(DOWN)
            models = FallbackProvider(first, Model("hi"), failures=1, cooldown=30, clock=clock)
            await models.complete("?")
            clock.now += 30
            first.steps = ["back"]
            trial = models.stream(ModelRequest([Message("user", "?")]))
            assert await anext(trial) == TextDelta("back")
            assert (await models.complete("?")).text == "hi"
            await trial.aclose()  # a trial without an outcome: the next comes a cooldown later
            assert (await models.complete("?")).text == "hi"
            clock.now += 30
            assert (await models.complete("?")).text == "back"

        asyncio.run(run())

    def test_only_failures_in_a_row_count(self) -> None:
        first = Model(DOWN, "a", DOWN, "b", DOWN, "c")
        models = FallbackProvider(first, Model("hi"), failures=2)
        assert [ask(models) for _ in range(6)] == ["hi", "a", "hi", "b", "hi", "c"]

    def test_what_is_the_requests_own_fault_does_not_count(self) -> None:
        first = Model(ContextOverflowError("long", tokens=2, limit=1))
        models = FallbackProvider(first, Model("hi"), failures=1)
        ask(models)
        ask(models)
        assert first.asked == 2

    def test_one_model_alone_fails_fast_and_with_its_own_errors(self) -> None:
        only = Model(DOWN, name="test:only")
        models = FallbackProvider(only, failures=2, cooldown=30, clock=Clock())
        for _ in range(2):
            with pytest.raises(ProviderConnectionError):
                ask(models)
        with pytest.raises(
            ProviderUnavailableError, match=r"test:only failed 2 times in a row.*30\.0 seconds"
        ) as caught:
            ask(models)
        assert caught.value.retry_after == 30.0
        assert only.asked == 2


def test_models_by_name_and_closing_them_all() -> None:
    models = FallbackProvider("openai:gpt-5", first := Model("a"), second := Model("b"))
    assert models.name.startswith("fallback(openai:gpt-5, ")
    asyncio.run(models.close())
    assert first.closed
    assert second.closed


@pytest.mark.parametrize(
    ("modes", "common"),
    [
        (["native", "native"], "native"),
        (["native", "tool"], "tool"),
        (["tool", "prompt", "native"], "prompt"),
        ([DOWN, "native"], "native"),
        ([DOWN], "prompt"),
    ],
)
def test_output_is_asked_for_in_a_way_that_every_model_understands(
    modes: list[OutputMode | ProviderError], common: OutputMode
) -> None:
    class Knows(Model):
        async def output_mode(self, has_tools: bool) -> OutputMode:
            mode = modes.pop(0)
            if isinstance(mode, ProviderError):
                raise mode
            return mode

    models = FallbackProvider(*(Knows("hi") for _ in modes))
    assert asyncio.run(models.output_mode(has_tools=True)) == common


def test_a_prompt_that_is_too_long_for_all_is_too_long() -> None:
    errors = [ContextOverflowError("long", tokens=9, limit=size) for size in (8, 4)]
    with pytest.raises(ContextOverflowError) as caught:
        asyncio.run(FallbackProvider(*map(Model, errors)).complete("hi"))
    assert caught.value is errors[0]


@pytest.mark.parametrize(
    ("known", "count", "size"),
    [
        ([(70, 4096), (90, 2048)], 90, 2048),
        ([(70, 4096), (None, None)], None, 4096),
        ([(None, None)], None, None),
        ([(DOWN, DOWN), (70, 4096)], 70, 4096),
        ([(DOWN, DOWN)], None, None),
    ],
)
def test_tokens_and_context_are_those_of_the_model_that_takes_least(
    known: list[tuple[int | ProviderError | None, int | ProviderError | None]], count: int | None, size: int | None
) -> None:
    class Knows(Model):
        def __init__(self, tokens: int | ProviderError | None, size: int | ProviderError | None) -> None:
            super().__init__("hi")
            self.tokens, self.size = tokens, size

        async def count_tokens(self, request: ModelRequest) -> int | None:
            return told(self.tokens)

        async def context_size(self) -> int | None:
            return told(self.size)

    def told(what: int | ProviderError | None) -> int | None:
        if isinstance(what, ProviderError):
            raise what
        return what

    models = FallbackProvider(*(Knows(*facts) for facts in known))
    assert asyncio.run(models.count_tokens(ModelRequest([Message("user", "hi")]))) == count
    assert asyncio.run(models.context_size()) == size


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="at least one model"):
        FallbackProvider()
    with pytest.raises(ConfigError, match="at least 1 and 0"):
        FallbackProvider(Model("a"), failures=0)
    with pytest.raises(ConfigError, match="at least 1 and 0"):
        FallbackProvider(Model("a"), cooldown=float("nan"))
    with pytest.raises(UnknownModelError):
        FallbackProvider("nobody:x")
