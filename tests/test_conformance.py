"""The conformance suite: a provider that keeps its promises passes, and one that breaks any of them does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import ClassVar

import pytest

from agentkit.errors import ContextOverflowError, ProviderConnectionError, UnsupportedInputError
from agentkit.events import (
    ModelEvent,
    ModelFinished,
    ProblemFound,
    ReasoningDelta,
    ReasoningEnd,
    Restarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.limits import ModelSettings
from agentkit.messages import (
    FinishReason,
    ImagePart,
    Message,
    ModelResponse,
    Part,
    Problem,
    ReasoningPart,
    TextPart,
    ToolCall,
    Usage,
)
from agentkit.providers.base import ModelRequest, OutputMode, Provider
from agentkit.testing import ScriptedProvider
from agentkit.testing._turn import checked_turn
from agentkit.testing.conformance import ProviderConformance

STORY = "The river came down from the hills, and all who lived there knew it well. " * 20
CONTEXT = 2000  # tokens; a word is one


class Model(Provider):
    """A model in a few rules, that streams as ScriptedProvider does."""

    name = "rules:1"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        script = ScriptedProvider([self.answer(request)])
        async for event in script.stream(request):
            await asyncio.sleep(0)
            yield event

    async def output_mode(self, has_tools: bool) -> OutputMode:
        return "native"

    def answer(self, request: ModelRequest) -> ModelResponse:
        asked, settings = request.messages[-1], request.settings
        if any(isinstance(part, ImagePart) for message in request.messages for part in message.content):
            raise UnsupportedInputError(f"{self.name} cannot see")
        prompt = sum(len(repr(message.content).split()) for message in request.messages)
        if prompt > CONTEXT:
            raise ContextOverflowError("too long", tokens=prompt, limit=CONTEXT)
        parts: list[Part] = [ReasoningPart("Well.", {"signature": "s"})]
        problems: list[Problem] = []
        reason: FinishReason = "stop"
        written = 5
        if request.tool_choice not in ("auto", "none"):
            parts += self.calls(request, asked.text)
            if request.tools[0].name == "write_story":
                parts, problems, reason = [], [Problem("truncated", "Shorter, please.")], "length"
        elif request.output_schema:
            parts.append(TextPart('{"name": "Ann", "age": 7}'))
        else:
            words = re.findall(r"\S+\s*", STORY)
            words, reason = (
                words[: settings.max_tokens],
                "length" if len(words) > (settings.max_tokens or 999) else reason,
            )
            text, written = "".join(words), len(words)
            for stop in settings.stop:
                text, found, _ = text.partition(stop)
                reason = "stop" if found else reason
            parts.append(TextPart(text))
        return ModelResponse(Message("assistant", parts), problems, Usage(prompt, written), reason)

    def calls(self, request: ModelRequest, text: str) -> Sequence[ToolCall]:
        name = request.tool_choice if request.tool_choice != "required" else request.tools[0].name
        number = id(request)
        return [ToolCall(name, {"city": city}, f"{number}-{city}") for city in re.findall("Oslo|Paris", text)]


class Rules(ProviderConformance):
    """The suite for the model above, and for those that break a rule."""

    parallel_calls = True
    reasoning = True
    context: ClassVar[int | None] = CONTEXT
    timeout = 10.0
    model: ClassVar[type[Model]] = Model

    def make(self) -> Provider:
        return self.model()

    def make_failing(self) -> Provider | None:
        return ScriptedProvider([ProviderConnectionError("nobody there")])


class TestRules(Rules):
    """It passes."""


class TestWithoutTools(Rules):
    """Everything that a provider may lack is left out."""

    tools = False
    forced_calls = False
    parallel_calls = False
    repeatable = False
    reasoning = False
    context = None

    def make_failing(self) -> None:
        return None


START, DELTA = ToolCallStart("f", "c1"), ToolCallDelta("c1", "{}")
END, FINISHED = ToolCallEnd(ToolCall("f", {}, "c1")), ModelFinished("stop", Usage(1, 1))


def test_a_turn_of_every_kind_of_event() -> None:
    response = checked_turn(
        [
            TextDelta("void"), START, Restarted("broke off"),
            ReasoningDelta("hm"), ReasoningEnd({"x": 1}), TextDelta("a"), TextDelta("b"),
            START, DELTA, END, ToolCallStart("g", "c2"), ProblemFound(Problem("truncated", "Again.")), FINISHED,
        ]
    )  # fmt: skip
    assert (response.text, response.reasoning, response.finish_reason) == ("ab", "hm", "tool_calls")


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([], "the stream was empty"),
        ([TextDelta("a")], "must be ModelFinished"),
        ([FINISHED, TextDelta("a")], "must be ModelFinished"),
        ([FINISHED, FINISHED], "more than once"),
        ([ToolCallStart("f", ""), FINISHED], "has no id"),
        ([ToolCallStart("", "c1"), FINISHED], "names no tool"),
        ([START, END, START, END, FINISHED], "two calls of a turn"),
        ([DELTA, START, END, FINISHED], "before its ToolCallStart"),
        ([END, FINISHED], "before its ToolCallStart"),
        ([START, END, DELTA, FINISHED], "after its ToolCallEnd"),
        ([START, END, END, FINISHED], "ended twice"),
        ([START, FINISHED], "must end with"),
        ([START, ToolCallEnd(ToolCall("f", [], "c1")), FINISHED], "must be an object"),  # type: ignore[arg-type]
        ([ModelFinished("eos", Usage(1, 1))], "no finish reason"),  # type: ignore[arg-type]
        ([ModelFinished("tool_calls", Usage(1, 1))], "no call and no problem"),
        ([ProblemFound(Problem("x", "")), FINISHED], "must tell the model"),
        ([ModelFinished("stop", Usage(0, 1))], "no input tokens"),
        ([ModelFinished("stop", Usage(1, 1, 2))], "part of the input"),
        ([ModelFinished("stop", Usage(1, 1, 0, 2))], "part of the output"),
    ],
)
def test_events_that_no_provider_may_stream(events: list[ModelEvent], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        checked_turn(events)


@pytest.mark.parametrize("event", [TextDelta("\ud83d"), ReasoningDelta("\ud83d")])
def test_half_a_character_is_no_text(event: ModelEvent) -> None:
    with pytest.raises(UnicodeEncodeError):
        checked_turn([event, FINISHED])


class Deaf(Model):
    """Settings are ignored."""

    def answer(self, request: ModelRequest) -> ModelResponse:
        return super().answer(ModelRequest(request.messages, request.tools, request.tool_choice))


class Eager(Model):
    """Calls whatever is offered, whether it may or not."""

    def answer(self, request: ModelRequest) -> ModelResponse:
        choice = "required" if request.tools else "none"
        return super().answer(ModelRequest(request.messages, request.tools, choice, ModelSettings(max_tokens=20)))


class Shy(Model):
    """Never calls."""

    def calls(self, request: ModelRequest, text: str) -> Sequence[ToolCall]:
        return []


class Mixed(Model):
    """Answers whoever asked last."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.asked = request
        await asyncio.sleep(0)
        async for event in super().stream(self.asked):
            yield event


class Moody(Model):
    """Never says the same twice."""

    times = 0

    def answer(self, request: ModelRequest) -> ModelResponse:
        self.times += 1
        return ModelResponse(Message("assistant", str(self.times)), usage=Usage(1, 1))


class Bound(Model):
    """Works in the first event loop only."""

    loop: asyncio.AbstractEventLoop | None = None

    def answer(self, request: ModelRequest) -> ModelResponse:
        running = asyncio.get_running_loop()
        self.loop = self.loop or running
        assert self.loop is running
        return super().answer(request)


class Blocked(Model):
    """Serves one stream; the next waits until it was read to its end."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        await self.turn.acquire()
        async for event in super().stream(request):
            yield event
        self.turn.release()


class Picky(Model):
    """Fails on what is unusual in a history."""

    def answer(self, request: ModelRequest) -> ModelResponse:
        for message in request.messages:
            assert all(part.text.strip() for part in message.content if isinstance(part, TextPart))
            assert all(call.id for call in message.calls)
            assert not any(result.images or result.error for result in message.results)
            assert "made_by_another" not in repr(message)
            assert "signature" not in repr(message)
            for text in (message.text, *(result.content for result in message.results)):
                text.encode()
        return super().answer(request)


class Hasty(Model):
    """Takes half a call for a whole one."""

    def answer(self, request: ModelRequest) -> ModelResponse:
        call = ToolCall(request.tools[0].name, {"text": "Once upon"}, "c1")
        return ModelResponse(Message("assistant", call), usage=Usage(1, 1), finish_reason="length")


class Clipping(Model):
    """Cuts prompts that are too long, and sees images that it cannot see."""

    def answer(self, request: ModelRequest) -> ModelResponse:
        return super().answer(ModelRequest([Message("user", request.messages[-1].text[:100])]))


class Once(Model):
    """Can be closed once."""

    closed = False

    async def close(self) -> None:
        assert not self.closed
        self.closed = True


class Rude(Model):
    """Raises what it likes, and answers in a type of its own."""

    def answer(self, request: ModelRequest) -> ModelResponse:
        if not request.output_schema:
            raise OSError("no route to host")
        return ModelResponse(Message("assistant", '{"name": "Ann"}'), usage=Usage(1, 1))


S = ProviderConformance


@pytest.mark.parametrize(
    ("model", "test"),
    [
        (Deaf, S.test_max_tokens_cuts_off),
        (Deaf, S.test_stop_strings_are_not_in_the_text),
        (Eager, S.test_tool_choice_none),
        (Shy, lambda suite: S.test_calls_are_whole(suite, "required")),
        (Eager, lambda suite: S.test_calls_are_whole(suite, "population")),
        (Shy, S.test_several_calls_in_one_turn),
        (Shy, S.test_a_schema_does_not_keep_the_model_from_calling),
        (Mixed, S.test_answers_at_the_same_time_are_not_mixed),
        (Moody, S.test_complete_is_the_stream_put_together),
        (Moody, S.test_temperature_0_repeats_itself),
        (Moody, S.test_a_longer_prompt_counts_more_tokens),
        (Moody, S.test_reasoning_is_apart_from_the_text_and_can_be_sent_back),
        (Bound, S.test_event_loops_one_after_another),
        (Blocked, S.test_closing_the_stream_early_stops_the_model),
        (Blocked, S.test_cancelling_the_reader_stops_the_model),
        (Picky, lambda suite: S.test_any_text_in_the_history(suite, "")),
        (Picky, lambda suite: S.test_any_text_in_the_history(suite, " \n")),
        (Picky, lambda suite: S.test_any_text_in_the_history(suite, "\ud83d")),
        (Picky, lambda suite: S.test_any_text_in_calls_and_results(suite, "\ud83d")),
        (Picky, S.test_a_turn_and_its_results_go_on),
        (Picky, S.test_calls_without_ids_in_the_history),
        (Picky, lambda suite: S.test_calls_results_and_errors_in_the_history(suite, False)),
        (Picky, S.test_an_image_from_a_tool),
        (Picky, S.test_reasoning_of_another_provider_is_left_out),
        (Hasty, S.test_calls_that_are_cut_off_are_not_run),
        (Clipping, S.test_a_prompt_that_is_too_long),
        (Clipping, S.test_an_image),
        (Once, S.test_closing_twice),
        (Rude, lambda suite: S.test_an_answer_to_a_schema(suite, False)),
        (Rude, S.test_an_image),
    ],
)
def test_a_broken_promise_is_found(model: type[Model], test: Callable[[ProviderConformance], None]) -> None:
    class Broken(Rules):
        timeout = 0.5

    Broken.model = model
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        test(Broken())
    assert not isinstance(caught.value, pytest.skip.Exception)


def test_a_failure_that_is_not_typed_is_found() -> None:
    class Untyped(Rules):
        def make_failing(self) -> Provider:
            return ScriptedProvider([OSError("no route to host")])

    with pytest.raises(OSError, match="no route"):
        Untyped().test_failures_are_typed()
