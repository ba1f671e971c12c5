"""What every provider promises, as tests that run on yours.

    from agentkit.testing.conformance import ProviderConformance

    class TestMine(ProviderConformance):
        parallel_calls = True

        def make(self) -> Provider:
            return MyProvider("some-model")

pytest finds the tests in the class. They ask some sixty short questions of a real model and look at the form of what
comes back, never at its words, so a model of any skill will do. pytest must be installed; nothing else of agentkit
imports it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import ClassVar, Final, TypeVar

import pytest

from agentkit.errors import ContextOverflowError, ProviderError, UnsupportedInputError
from agentkit.limits import ModelSettings
from agentkit.messages import (
    ImagePart,
    JsonObject,
    Message,
    ModelResponse,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from agentkit.providers.base import ModelRequest, Provider
from agentkit.testing._turn import checked_turn
from agentkit.tool import AnyTool, Tool

__all__ = ["ProviderConformance"]

pytest.register_assert_rewrite(__name__)

_T = TypeVar("_T")

_STORY: Final = "Tell me a long story about a river."
_WEATHER: Final = "How is the weather in Oslo?"
_LONG: Final = "The river went on. " * 100
_SURROGATE: Final = "half a pair: \ud83d"
_UNICODE: Final = "žluťoučký, 漢字, עברית, 🦙, e\u0301, \u200b, \r\n, \t, <|im_end|>, </tool_call>, {{ x }}"
_RED: Final = ImagePart(  # 8 × 8 pixels
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000080000000808020000004b6d29dc000000114944415478da63f8cfc08015310c2d"
        "090028ff3fc1ce77c84f0000000049454e44ae426082"
    )
)


def _object(**properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _city_tool(name: str, description: str) -> AnyTool:
    city: JsonObject = {"type": "string", "description": "The city's name.", "maxLength": 30}
    return Tool.from_schema(name, description, _object(city=city))


_TOOL: Final = _city_tool("weather", "The weather in a city now.")
_OTHER_TOOL: Final = _city_tool("population", "How many people live in a city.")
_PERSON: Final = _object(
    name={"type": "string", "maxLength": 20}, age={"type": "integer", "minimum": 0, "maximum": 150}
)


class ProviderConformance:
    """Subclass it as ``Test…``, write `make`, and say what your provider can.

    Attributes:
        tools: the model can be offered tools.
        forced_calls: ``required`` and a tool's name are held to. Where they are only a wish, the turn may be text.
        parallel_calls: the model makes two calls in one turn when it is asked two things.
        images: the model sees.
        reasoning: the model reasons before it answers.
        stop: ``ModelSettings.stop`` is held to.
        repeatable: at temperature 0 one request has one answer.
        context: tokens of the context, where more raise ContextOverflowError; None: not tested.
        timeout: seconds that one test's model may take.
    """

    tools: ClassVar[bool] = True
    forced_calls: ClassVar[bool] = True
    parallel_calls: ClassVar[bool] = False
    images: ClassVar[bool] = False
    reasoning: ClassVar[bool] = False
    stop: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True
    context: ClassVar[int | None] = None
    timeout: ClassVar[float] = 100.0

    def make(self) -> Provider:
        """A provider that works. Called for each test, and closed at its end."""
        raise NotImplementedError("write make(): it returns the provider to be tested")

    def make_failing(self) -> Provider | None:
        """A provider whose model cannot answer: a wrong key, an unknown model, nobody at the address."""
        return None

    # ── the stream ───────────────────────────────────────────────────────────────────────────────────────────────────

    def test_it_has_a_name(self) -> None:
        """`name` is the model as a user would write it."""
        assert self._use(_named)

    def test_text_streams(self) -> None:
        """Text comes as TextDelta, and ModelFinished comes last and once, with the tokens counted."""
        response = self._turn(_request(_STORY))
        assert response.text or response.reasoning
        assert response.usage.output_tokens > 0

    def test_complete_is_the_stream_put_together(self) -> None:
        """`complete` gives what the events of `stream` make."""

        async def both(provider: Provider) -> tuple[ModelResponse, ModelResponse]:
            request = _request(_STORY)
            await _stream(provider, request)  # now the prompt is in whatever cache there is
            streamed = await _stream(provider, request)
            return streamed, await provider.complete(request.messages, settings=request.settings)

        streamed, completed = self._use(both)
        if self.repeatable:
            assert completed.message == streamed.message
        assert completed.finish_reason == streamed.finish_reason

    def test_a_longer_prompt_counts_more_tokens(self) -> None:
        """`input_tokens` are those of the whole prompt, those from a cache among them."""

        async def both(provider: Provider) -> list[ModelResponse]:
            return [await _stream(provider, _request(text)) for text in (_LONG + _STORY, _STORY)]

        long, short = self._use(both)
        assert long.usage.input_tokens > short.usage.input_tokens + 200

    def test_reasoning_is_apart_from_the_text_and_can_be_sent_back(self) -> None:
        """Reasoning comes as ReasoningDelta, or as a ReasoningEnd with a state; the next request takes both back."""
        if not self.reasoning:
            pytest.skip("reasoning = False")

        async def two_turns(provider: Provider) -> ModelResponse:
            asked = Message("user", "What is 17 * 23?")
            settings = ModelSettings(max_tokens=1000)
            first = await _stream(provider, ModelRequest([asked], settings=settings))
            await _stream(provider, ModelRequest([asked, first.message, Message("user", "And plus 1?")]))
            return first

        first = self._use(two_turns)
        thoughts = [part for part in first.message.content if isinstance(part, ReasoningPart)]
        assert any(thought.text or thought.state for thought in thoughts)

    # ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_max_tokens_cuts_off(self) -> None:
        """A turn that reaches `max_tokens` ends with finish reason ``length``."""
        response = self._turn(_request(_STORY, settings=ModelSettings(max_tokens=16, temperature=0)))
        assert response.finish_reason == "length"
        assert 0 < response.usage.output_tokens <= 16

    def test_stop_strings_are_not_in_the_text(self) -> None:
        """A stop string ends the turn and is left out. A provider that has none raises UnsupportedInputError."""
        request = _request(_STORY, settings=ModelSettings(max_tokens=200, temperature=0, stop=("e",)))
        if not self.stop:
            with pytest.raises(UnsupportedInputError):
                self._turn(request)
            return
        response = self._turn(request)
        assert "e" not in response.text
        assert response.finish_reason == "stop"

    def test_temperature_0_repeats_itself(self) -> None:
        """The likeliest token each time, where the provider can."""
        if not self.repeatable:
            pytest.skip("repeatable = False")

        async def twice(provider: Provider) -> list[ModelResponse]:
            await _stream(provider, _request(_STORY))  # now the prompt is in whatever cache there is
            return [await _stream(provider, _request(_STORY)) for _ in range(2)]

        first, second = self._use(twice)
        assert first.text == second.text

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("choice", ["auto", "required", "population"])
    def test_calls_are_whole(self, choice: str) -> None:
        """A call comes as ToolCallStart, ToolCallDelta, ToolCallEnd, with an id that is the only one in its turn and
        an object as arguments. What could not be read is a problem, not a call."""
        self._needs_tools()
        response = self._turn(_request(_WEATHER, tools=[_TOOL, _OTHER_TOOL], tool_choice=choice))
        if choice == "auto" or not self.forced_calls:
            assert response.calls or response.problems or response.text or response.reasoning
            return
        assert response.calls or response.problems
        allowed = {"population"} if choice == "population" else {"weather", "population"}
        assert {call.name for call in response.calls} <= allowed

    def test_tool_choice_none(self) -> None:
        """No call, whatever is offered."""
        self._needs_tools()
        response = self._turn(_request(_WEATHER, tools=[_TOOL], tool_choice="none"))
        assert response.calls == []

    def test_several_calls_in_one_turn(self) -> None:
        """Each has an id of its own and arguments of its own."""
        self._needs_tools()
        if not self.parallel_calls:
            pytest.skip("parallel_calls = False")
        response = self._turn(
            _request("How is the weather in Oslo and in Paris?", tools=[_TOOL], tool_choice="required")
        )
        assert len(response.calls) >= 2
        assert response.calls[0].arguments != response.calls[1].arguments

    def test_calls_that_are_cut_off_are_not_run(self) -> None:
        """The token limit in the middle of a call leaves a problem, or a call that is whole: never half of one."""
        self._needs_tools()
        settings = ModelSettings(max_tokens=16, temperature=0)
        text = _object(text={"type": "string", "minLength": 1000})
        write = Tool.from_schema("write_story", "Write a story of 1,000 words.", text)
        response = self._turn(_request(_STORY, tools=[write], tool_choice="required", settings=settings))
        for call in response.calls:
            write.validate(call.arguments)

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_a_turn_and_its_results_go_on(self) -> None:
        """What the model said, with its calls and whatever came with them, is valid history for the next request."""
        self._needs_tools()

        async def two_turns(provider: Provider) -> None:
            asked = Message("user", _WEATHER)
            choice = "required" if self.forced_calls else "auto"
            first = await _stream(provider, _request(_WEATHER, tools=[_TOOL], tool_choice=choice))
            results = [ToolResult(call.id, call.name, "7 degrees, rain") for call in first.calls]
            next_message = Message("tool", results) if results else Message("user", "Go on.")
            await _stream(provider, _request([asked, first.message, next_message], tools=[_TOOL]))

        self._use(two_turns)

    @pytest.mark.parametrize("offered", [True, False], ids=["tools offered", "no tools offered"])
    def test_calls_results_and_errors_in_the_history(self, offered: bool) -> None:
        """Several calls in a turn, text beside them, failed ones, results without text; whether or not the tools are
        still offered."""
        self._needs_tools()
        calls = [ToolCall("weather", {"city": city}, f"call{n:05}") for n, city in enumerate(("Oslo", "Paris", "Rome"))]
        results = [
            ToolResult(calls[0].id, "weather", "7 degrees"),
            ToolResult(calls[1].id, "weather", "'weather' failed: no network", "exception"),
            ToolResult(calls[2].id, "weather", ""),
        ]
        history = [
            Message("system", "You are a helpful assistant."),
            Message("user", "How is the weather in Oslo, Paris and Rome?"),
            Message("assistant", [TextPart("Let me look."), *calls]),
            Message("tool", results),
            Message("assistant", "7 degrees in Oslo."),
            Message("user", "Thank you. Say goodbye."),
        ]
        self._turn(_request(history, tools=[_TOOL] if offered else []))

    def test_calls_without_ids_in_the_history(self) -> None:
        """Calls of models that give none, or of hand-written examples."""
        self._needs_tools()
        history = [
            Message("user", _WEATHER),
            Message("assistant", ToolCall("weather", {"city": "Oslo"})),
            Message("tool", ToolResult("", "weather", "7 degrees")),
        ]
        self._turn(_request(history, tools=[_TOOL]))

    @pytest.mark.parametrize(
        "text", ["", " \n", _UNICODE, _SURROGATE, _LONG], ids=["empty", "blank", "unicode", "lone surrogate", "long"]
    )
    def test_any_text_in_the_history(self, text: str) -> None:
        """Whatever people and models wrote."""
        history = [Message("user", TextPart(_STORY)), Message("assistant", TextPart(text)), Message("user", "Go on.")]
        self._turn(_request(history))
        self._turn(_request([Message("user", [TextPart("Read this: "), TextPart(text)])]))

    @pytest.mark.parametrize(
        "text", ["", _UNICODE, _SURROGATE, _LONG], ids=["empty", "unicode", "lone surrogate", "long"]
    )
    def test_any_text_in_calls_and_results(self, text: str) -> None:
        """Whatever tools were given and answered."""
        self._needs_tools()
        history = [
            Message("user", _WEATHER),
            Message("assistant", ToolCall("weather", {"city": text}, "call00001")),
            Message("tool", ToolResult("call00001", "weather", text)),
        ]
        self._turn(_request(history, tools=[_TOOL]))

    def test_reasoning_of_another_provider_is_left_out(self) -> None:
        """A conversation may change its model: others' states are not sent."""
        thoughts = [ReasoningPart("Hm.", {"made_by_another": "x"}), ReasoningPart("", {"made_by_another": "y"})]
        history = [
            Message("user", "Hello"),
            Message("assistant", [*thoughts, TextPart("Good day.")]),
            Message("user", "Say goodbye."),
        ]
        self._turn(_request(history))

    def test_an_image(self) -> None:
        """A model that sees takes it; any other raises UnsupportedInputError, which says which model."""
        request = _request([Message("user", [TextPart("What colour is this?"), _RED])])
        if self.images:
            assert self._turn(request).usage.input_tokens > 0
            return
        with pytest.raises(UnsupportedInputError):
            self._turn(request)

    def test_an_image_from_a_tool(self) -> None:
        """A model that does not see is told of it in words: the run goes on."""
        self._needs_tools()
        history = [
            Message("user", _WEATHER),
            Message("assistant", ToolCall("weather", {"city": "Oslo"}, "call00001")),
            Message("tool", ToolResult("call00001", "weather", "as shown", images=(_RED,))),
        ]
        self._turn(_request(history, tools=[_TOOL]))

    # ── answers of a type ────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("offered", [False, True], ids=["no tools", "tools offered"])
    def test_an_answer_to_a_schema(self, offered: bool) -> None:
        """Where `output_mode` is ``native``, the turn is calls or one JSON value that fits. Elsewhere it may be refused
        with UnsupportedInputError."""
        tools = [_TOOL] if offered and self.tools else []
        request = _request("Make up a person.", tools=tools, output_schema=_PERSON)
        mode = self._use(lambda provider: provider.output_mode(bool(tools)))
        if mode != "native":
            try:
                self._turn(request)
            except UnsupportedInputError:
                pytest.skip(f"output_mode is {mode!r}")
            return
        response = self._turn(request)
        if not response.calls:
            Tool.from_schema("answer", "", _PERSON).validate(json.loads(response.text))

    def test_a_schema_does_not_keep_the_model_from_calling(self) -> None:
        """Tools and an answer's schema in one request: the tools can still be called."""
        self._needs_tools()
        if not self.forced_calls or self._use(lambda provider: provider.output_mode(True)) != "native":
            pytest.skip("no native answers beside tools, or no forced calls")
        response = self._turn(_request(_WEATHER, tools=[_TOOL], tool_choice="required", output_schema=_PERSON))
        assert response.calls or response.problems

    # ── leaving, and being many ──────────────────────────────────────────────────────────────────────────────────────

    def test_closing_the_stream_early_stops_the_model(self) -> None:
        """`aclose` returns at once, and the provider can be asked again, also when nothing was read."""

        async def leave(provider: Provider) -> ModelResponse:
            long = _request(_STORY, settings=ModelSettings(max_tokens=1000))
            for read in (0, 1, 2):
                async with aclosing(provider.stream(long)) as events:
                    for _ in range(read):
                        await anext(events)
            return await _stream(provider, _request(_STORY))

        assert self._use(leave).usage.output_tokens > 0

    def test_cancelling_the_reader_stops_the_model(self) -> None:
        """Cancellation passes through, and the provider can be asked again."""

        async def cancel(provider: Provider) -> ModelResponse:
            begun = asyncio.Event()

            async def read() -> None:
                async with aclosing(
                    provider.stream(_request(_STORY, settings=ModelSettings(max_tokens=1000)))
                ) as events:
                    await anext(events)
                    begun.set()
                    async for _ in events:
                        await asyncio.sleep(0)

            reader = asyncio.create_task(read())
            waiter = asyncio.create_task(begun.wait())
            await asyncio.wait({reader, waiter}, return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            return await _stream(provider, _request(_STORY))

        assert self._use(cancel).usage.output_tokens > 0

    def test_event_loops_one_after_another(self) -> None:
        """`run_sync` makes a loop of its own each time: a provider is not bound to its first one."""
        provider = self.make()
        for _ in range(2):
            assert self._run(_stream(provider, _request(_STORY))).usage.output_tokens > 0
        self._run(provider.close())

    def test_answers_at_the_same_time_are_not_mixed(self) -> None:
        """Concurrent turns each have their own prompt, and call their own tool."""
        words = (0, 40, 80, 120)

        async def together(provider: Provider) -> list[ModelResponse]:
            return await asyncio.gather(
                *(
                    _stream(
                        provider,
                        _request(
                            "river " * count + _WEATHER,
                            tools=[_city_tool(f"weather_{count}", "The weather.")] if self.tools else [],
                            tool_choice="required" if self.tools else "auto",
                        ),
                    )
                    for count in words
                )
            )

        responses = self._use(together)
        tokens = [response.usage.input_tokens for response in responses]
        assert tokens == sorted(set(tokens)), "the longer prompt must count more tokens"
        for count, response in zip(words, responses, strict=True):
            assert {call.name for call in response.calls} <= {f"weather_{count}"}

    # ── errors and the end ───────────────────────────────────────────────────────────────────────────────────────────

    def test_failures_are_typed(self) -> None:
        """A model that cannot answer raises a ProviderError with a message; no SDK's own exception."""
        failing = self.make_failing()
        if failing is None:
            pytest.skip("make_failing() returns None")

        async def ask() -> None:
            try:
                with pytest.raises(ProviderError) as caught:
                    await _stream(failing, _request("Hello"))
                assert str(caught.value)
            finally:
                await failing.close()

        self._run(ask())

    def test_a_prompt_that_is_too_long(self) -> None:
        """ContextOverflowError; nothing is cut silently."""
        if self.context is None:
            pytest.skip("context = None")
        with pytest.raises(ContextOverflowError):
            self._turn(_request("word " * 2 * self.context))

    def test_closing_twice(self) -> None:
        """`close` may be called again, and before anything was asked."""

        async def close_twice(provider: Provider) -> None:
            await provider.close()
            await provider.close()

        self._use(close_twice)

    # ── how the tests ask ────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self, request: ModelRequest) -> ModelResponse:
        return self._use(lambda provider: _stream(provider, request))

    def _use(self, ask: Callable[[Provider], Awaitable[_T]]) -> _T:
        provider = self.make()

        async def ask_and_close() -> _T:
            try:
                return await ask(provider)
            finally:
                await provider.close()

        return self._run(ask_and_close())

    def _run(self, work: Awaitable[_T]) -> _T:
        async def bounded() -> _T:
            async with asyncio.timeout(self.timeout):
                return await work

        return asyncio.run(bounded())

    def _needs_tools(self) -> None:
        if not self.tools:
            pytest.skip("tools = False")


async def _named(provider: Provider) -> str:
    return provider.name


async def _stream(provider: Provider, request: ModelRequest) -> ModelResponse:
    async with aclosing(provider.stream(request)) as events:
        return checked_turn([event async for event in events])


def _request(
    asked: str | Sequence[Message],
    *,
    tools: Sequence[AnyTool] = (),
    tool_choice: str = "auto",
    settings: ModelSettings | None = None,
    output_schema: JsonObject | None = None,
) -> ModelRequest:
    messages = [Message("user", asked)] if isinstance(asked, str) else asked
    settings = settings or ModelSettings(max_tokens=80 if tools or output_schema else 24, temperature=0)
    return ModelRequest(messages, tools, tool_choice, settings, output_schema)
