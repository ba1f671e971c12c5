"""The loop, through Agent: what happens in which order, and what ends a run."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from pydantic import BaseModel

from agentkit import Agent, Limits, Message, RunContext, RunResult, Tool, ToolCall, ToolError, ToolResult, tool
from agentkit.errors import ConfigError, ProviderConnectionError, UnknownToolError
from agentkit.events import (
    Event,
    ModelEvent,
    ModelFinished,
    RunFinished,
    StepFinished,
    TextDelta,
    ToolFinished,
    ToolStarted,
)
from agentkit.messages import FinishReason, ModelResponse, Problem, ReasoningPart, TextPart, Usage
from agentkit.providers.base import ModelRequest, Provider
from agentkit.testing import ScriptedProvider, Step


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def run(steps: Sequence[Step], tools: Sequence[object] = (add,), **options: object) -> RunResult:
    agent = Agent(ScriptedProvider(steps), tools=tools)  # type: ignore[arg-type]
    return asyncio.run(agent.run("go", **options))  # type: ignore[arg-type]


def results(result: RunResult) -> list[ToolResult]:
    return [found for message in result.messages for found in message.results]


CALL = ToolCall("add", {"a": 1, "b": 2}, "c1")


class TestTranscript:
    def test_a_call_its_result_and_the_answer(self) -> None:
        result = run([[TextPart("Let me see."), CALL], "It is 3."])
        assert result.messages == [
            Message("user", "go"),
            Message("assistant", [TextPart("Let me see."), CALL]),
            Message("tool", ToolResult("c1", "add", "3")),
            Message("assistant", "It is 3."),
        ]
        assert (result.output, result.steps, result.stop_reason) == ("It is 3.", 2, "answer")
        assert result.usage == Usage(2, 2)

    def test_run_run_sync_and_stream_are_the_same(self) -> None:
        script: list[Step] = [[ReasoningPart("hm"), CALL, ToolCall("nope", {}, "c2")], [CALL], "done"]

        async def streamed() -> RunResult:
            async for event in Agent(ScriptedProvider(script), tools=[add]).stream("go"):
                last = event
            assert isinstance(last, RunFinished)
            return last.result

        outcomes = [
            asyncio.run(Agent(ScriptedProvider(script), tools=[add]).run("go")),
            Agent(ScriptedProvider(script), tools=[add]).run_sync("go"),
            asyncio.run(streamed()),
        ]
        first = outcomes[0]
        for other in outcomes:
            assert (other.messages, other.usage, other.steps) == (first.messages, first.usage, first.steps)
            assert (other.stop_reason, other.output, other.problems) == ("answer", "done", [])

    def test_the_events_of_a_run_in_order(self) -> None:
        async def collect() -> list[Event]:
            agent = Agent(ScriptedProvider([[CALL], "It is 3."]), tools=[add])
            return [event async for event in agent.stream("go")]

        kinds = [type(event).__name__ for event in asyncio.run(collect())]
        assert [kind for kind in kinds if kind != "ToolCallDelta"] == [
            *("ToolCallStart", "ToolCallEnd", "StepFinished", "ToolStarted", "ToolFinished"),
            *("TextDelta", "TextDelta", "TextDelta", "StepFinished", "RunFinished"),
        ]

    def test_instructions_and_history_reach_the_model_and_only_history_the_result(self) -> None:
        provider = ScriptedProvider(["one", "two"])
        agent = Agent(provider, instructions="Be brief.")
        first = agent.run_sync("a")
        second = agent.run_sync("b", history=first.messages)
        texts = [(message.role, message.text) for message in provider.requests[1].messages]
        assert texts == [("system", "Be brief."), ("user", "a"), ("assistant", "one"), ("user", "b")]
        assert second.messages == [
            Message("user", "a"),
            Message("assistant", "one"),
            Message("user", "b"),
            Message("assistant", "two"),
        ]

    def test_no_tools_is_a_plain_answer(self) -> None:
        assert run(["hello"], tools=[]).output == "hello"

    def test_an_empty_answer_is_an_answer(self) -> None:
        result = run([""])
        assert (result.output, result.stop_reason) == ("", "answer")


class TestCalls:
    def test_calls_of_one_turn_run_at_the_same_time_and_keep_their_order(self) -> None:
        together = threading.Barrier(3)  # passes only when all three are running

        @tool
        def sync_one(n: int) -> int:
            together.wait(timeout=10)
            return n

        @tool
        async def async_one(n: int) -> int:
            await asyncio.to_thread(together.wait, 10)
            return n

        calls = [ToolCall(name, {"n": n}, str(n)) for n, name in enumerate(["sync_one", "async_one", "sync_one"])]
        result = run([calls, "ok"], tools=[sync_one, async_one])
        assert [found.content for found in results(result)] == ["0", "1", "2"]

    def test_every_failure_stays_with_its_call(self) -> None:
        @tool
        def breaks() -> None:
            raise KeyError("lost")

        @tool
        def explains() -> None:
            raise ToolError("The file is open elsewhere: close it first.")

        @tool
        async def leaves() -> None:
            raise asyncio.CancelledError

        @tool
        def exits() -> None:
            raise SystemExit(3)

        described = Tool.from_schema("described", "", {})
        unsound = Tool.from_schema("unsound", "", {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}})
        calls = [
            ToolCall("breaks", {}, "1"),
            ToolCall("explains", {}, "2"),
            ToolCall("leaves", {}, "3"),
            ToolCall("exits", {}, "4"),
            ToolCall("described", {}, "5"),
            ToolCall("ad", {"a": 1}, "6"),
            ToolCall("add", {"a": "x"}, "7"),
            ToolCall("add", {"a": 1, "b": 1}, "8"),
            ToolCall("unsound", {"a": 1}, "9"),
        ]
        found = results(run([calls, "ok"], tools=[breaks, explains, leaves, exits, described, add, unsound]))
        assert [result.call_id for result in found] == ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
        errors = [*["exception"] * 5, "unknown_tool", "invalid_arguments", None, "exception"]
        assert [result.error for result in found] == errors
        assert "KeyError: 'lost'" in found[0].content
        assert found[1].content == "The file is open elsewhere: close it first."
        assert "SystemExit: 3" in found[3].content
        assert "Did you mean 'add'?" in found[5].content
        assert "a: Input should be a valid integer" in found[6].content
        assert '"b"' in found[6].content  # the excerpt of the schema
        assert found[7].content == "2"

    def test_the_model_is_told_of_repairs_that_may_have_changed_its_meaning(self) -> None:
        silent = ToolCall("add", {"a": 1, "b": 2}, "1", ["trailing_comma"])
        told = ToolCall("add", {"a": 1, "b": 2}, "2", ["trailing_comma", "missing_closers"])
        contents = [found.content for found in results(run([[silent, told], "3"]))]
        assert contents[0] == "3"
        assert contents[1].startswith("3\n(Your call was not quite right: closing brackets were missing")
        assert contents[1].endswith('It was read as {"a": 1, "b": 2}.)')

    def test_two_calls_with_one_id_both_get_their_result(self) -> None:
        twice = [ToolCall("add", {"a": 1, "b": 1}, "x"), ToolCall("add", {"a": 2, "b": 2}, "x")]
        assert [found.content for found in results(run([twice, "ok"]))] == ["2", "4"]

    def test_return_values_become_text(self) -> None:
        class Place(BaseModel):
            name: str

        returned = {
            "text": "as it is",
            "number": 1.5,
            "nothing": None,
            "model": Place(name="Ö"),
            "list": [Place(name="a"), {"b": (1, 2)}],
            "infinite": float("inf"),
        }

        @tool
        def give(what: str) -> object:
            return returned[what]

        calls = [ToolCall("give", {"what": key}, key) for key in returned]
        contents = [found.content for found in results(run([calls, "ok"], tools=[give]))]
        assert contents == [
            "as it is",
            "1.5",
            "(no output)",
            '{"name":"Ö"}',
            '[{"name":"a"},{"b":[1,2]}]',
            "Infinity",
        ]

    def test_what_cannot_be_shown_says_so(self) -> None:
        loop: list[object] = []
        loop.append(loop)
        bad = {"object": object(), "circular": loop, "generator": (i for i in range(3)), "bytes": b"\xff\xfe"}

        @tool
        def give(what: str) -> object:
            return bad[what]

        for found in results(run([[ToolCall("give", {"what": key}, key) for key in bad], "ok"], tools=[give])):
            assert found.error == "unserializable"
            assert "'give' ran, but its result cannot be shown" in found.content

    def test_a_huge_result_is_cut_in_its_middle(self) -> None:
        @tool
        def big() -> str:
            return "start" + "x" * 50_000_000 + "end"

        (found,) = results(run([[ToolCall("big", {}, "1")], "ok"], tools=[big], limits=Limits(tool_output=1000)))
        assert len(found.content) < 1200
        assert found.content.startswith("start")
        assert found.content.endswith("end")
        assert "49999008 of 50000008 characters left out: the limit is 1000" in found.content

    def test_tools_get_the_context(self) -> None:
        seen: list[RunContext[list[str]]] = []

        @tool
        def look(ctx: RunContext[list[str]], a: int) -> str:
            seen.append(ctx)
            return ctx.deps[a]

        result = run([[ToolCall("look", {"a": 1}, "c")], "ok"], tools=[look], deps=["x", "y"])
        assert results(result)[0].content == "y"
        assert (seen[0].run_id, seen[0].step, seen[0].call.id) == (result.run_id, 1, "c")

    def test_a_tool_from_a_schema_may_take_the_context(self) -> None:
        def shout(ctx: RunContext[str], text: str) -> str:
            return ctx.deps + text

        made = Tool.from_schema("shout", "", {"type": "object", "properties": {"text": {"type": "string"}}}, shout)
        result = run([[ToolCall("shout", {"text": "a"}, "c")], "ok"], tools=[made], deps="!")
        assert results(result)[0].content == "!a"

    def test_positional_only_parameters_and_awaitables_from_sync_functions(self) -> None:
        @tool
        def later(a: int, b: int = 2, /) -> object:
            async def compute() -> int:
                return a * b

            return compute()

        assert results(run([[ToolCall("later", {"a": 4}, "c")], "ok"], tools=[later]))[0].content == "8"


class TestLimits:
    def test_steps(self) -> None:
        result = run([[CALL], [CALL]], limits=Limits(steps=2))
        assert (result.stop_reason, result.steps, len(results(result))) == ("steps", 2, 2)

    def test_a_tool_that_hangs_is_left(self) -> None:
        release = threading.Event()

        @tool
        def hangs() -> None:
            release.wait(30)

        @tool(timeout=0.05)
        async def hangs_async() -> None:
            await asyncio.sleep(30)

        start = time.monotonic()
        calls = [ToolCall("hangs", {}, "1"), ToolCall("hangs_async", {}, "2"), CALL]
        found = results(run([calls, "ok"], tools=[hangs, hangs_async, add], limits=Limits(tool_timeout=0.1)))
        release.set()
        assert time.monotonic() - start < 10
        assert [result.error for result in found] == ["timeout", "timeout", None]
        assert "'hangs' did not finish within 0.1 seconds" in found[0].content
        assert "a thread cannot be stopped" in found[0].content

    def test_a_tool_that_refuses_to_be_cancelled_is_left(self) -> None:
        async def stubborn() -> None:
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                try:
                    await asyncio.sleep(0.5)
                except asyncio.CancelledError:
                    continue

        start = time.monotonic()

        async def go() -> RunResult:
            provider = ScriptedProvider([[ToolCall("stubborn", {}, "1")], "ok"])
            result = await Agent(provider, tools=[stubborn], limits=Limits(tool_timeout=0.05)).run("go")
            assert time.monotonic() - start < 2.4
            return result

        assert results(asyncio.run(go()))[0].error == "timeout"

    def test_the_run_has_a_deadline_while_tools_run(self) -> None:
        @tool
        async def slow() -> None:
            await asyncio.sleep(30)

        result = run([[ToolCall("slow", {}, "1")]], tools=[slow], limits=Limits(deadline=0.1))
        assert result.stop_reason == "deadline"
        assert results(result)[0].error == "timeout"

    def test_the_run_has_a_deadline_while_the_model_writes(self) -> None:
        class Slow(Provider):
            name = "slow:test"
            closed = False

            async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
                try:
                    yield TextDelta("I was about to")
                    await asyncio.sleep(30)
                finally:
                    self.closed = True

        provider = Slow()
        result = Agent(provider, limits=Limits(deadline=0.1)).run_sync("go")
        assert (result.stop_reason, result.output) == ("deadline", "I was about to")
        assert result.messages == [Message("user", "go"), Message("assistant", "I was about to")]
        assert provider.closed

    def test_the_deadline_does_not_run_in_the_consumers_own_code_between_events(self) -> None:
        async def go() -> RunResult:
            async for event in Agent(ScriptedProvider(["a b"]), limits=Limits(deadline=0.2)).stream("go"):
                if isinstance(event, TextDelta):
                    await asyncio.sleep(0.3)  # raises here if the run's timeout leaked into the consumer
                if isinstance(event, RunFinished):
                    return event.result
            raise AssertionError

        assert asyncio.run(go()).stop_reason in ("answer", "deadline")

    @pytest.mark.parametrize("reason", ["length", "content_filter", "refusal"])
    def test_the_models_own_reasons(self, reason: FinishReason) -> None:
        result = run([ModelResponse(Message("assistant", "As far as"), finish_reason=reason)])
        assert (result.stop_reason, result.output) == (reason, "As far as")

    @pytest.mark.parametrize("field", ["steps", "deadline", "tool_timeout", "tool_output", "corrections"])
    def test_limits_must_be_above_zero(self, field: str) -> None:
        with pytest.raises(ValueError, match=f"Limits.{field} is 0"):
            Limits(**{field: 0})


class TestCorrections:
    PROBLEM = Problem("invalid_json", "The arguments for 'add' are no JSON: write them again.", "add", '{"a": ')

    def test_the_model_is_told_and_can_do_better(self) -> None:
        broken = ModelResponse(Message("assistant", "Adding."), [self.PROBLEM])
        result = run([broken, [CALL], "3"])
        assert result.messages[2] == Message("user", self.PROBLEM.message)
        assert (result.stop_reason, result.problems) == ("answer", [self.PROBLEM])

    def test_good_calls_beside_a_bad_one_are_run(self) -> None:
        result = run([ModelResponse(Message("assistant", [CALL]), [self.PROBLEM]), "3"])
        assert [message.role for message in result.messages] == ["user", "assistant", "tool", "user", "assistant"]

    def test_the_model_is_told_a_bounded_number_of_times(self) -> None:
        broken = ModelResponse(Message("assistant", "x"), [self.PROBLEM])
        result = run([broken, [ToolCall("nope", {}, "1")]], limits=Limits(corrections=2))
        assert result.stop_reason == "corrections"
        assert result.steps == 2

    def test_a_usable_call_starts_the_count_again(self) -> None:
        broken = ModelResponse(Message("assistant", "x"), [self.PROBLEM])
        result = run([broken, [CALL], broken, "ok"], limits=Limits(corrections=2))
        assert result.stop_reason == "answer"


class TestToolChoice:
    def choices(self, steps: Sequence[Step], choice: str) -> list[str]:
        provider = ScriptedProvider(steps)
        Agent(provider, tools=[add], tool_choice=choice).run_sync("go")
        return [request.tool_choice for request in provider.requests]

    def test_required_and_a_name_hold_until_the_first_result(self) -> None:
        assert self.choices([[CALL], "3"], "required") == ["required", "auto"]
        assert self.choices([[CALL], "3"], "add") == ["add", "auto"]

    def test_they_hold_on_when_nothing_was_run(self) -> None:
        wrong = [ToolCall("add", {"a": "x"}, "1")]
        assert self.choices([wrong, [CALL], "3"], "required") == ["required", "required", "auto"]

    def test_an_answer_where_a_call_was_required_is_none_yet(self) -> None:
        provider = ScriptedProvider(["It is 4.", [CALL], "It is 3."])
        result = Agent(provider, tools=[add], tool_choice="required").run_sync("go")
        assert result.messages[2] == Message("user", "Call one of the tools first, then answer.")
        assert [problem.kind for problem in result.problems] == ["missing_call"]
        assert (result.output, result.stop_reason) == ("It is 3.", "answer")
        stubborn = ScriptedProvider(["no", "no", "no"])
        result = Agent(stubborn, tools=[add], tool_choice="add").run_sync("go")
        assert (result.stop_reason, result.steps) == ("corrections", 3)
        assert result.messages[2].text == "Call the tool 'add' first, then answer."

    def test_none_and_auto_stay(self) -> None:
        assert self.choices([[CALL], "3"], "none") == ["none", "none"]
        assert self.choices([[CALL], "3"], "auto") == ["auto", "auto"]

    def test_a_run_can_have_its_own(self) -> None:
        provider = ScriptedProvider(["a"])
        Agent(provider, tools=[add]).run_sync("go", tool_choice="none")
        assert provider.requests[0].tool_choice == "none"

    def test_choices_that_cannot_be_honoured(self) -> None:
        with pytest.raises(ConfigError, match="no tools"):
            Agent(ScriptedProvider([]), tool_choice="required")
        with pytest.raises(UnknownToolError, match="Did you mean 'add'"):
            Agent(ScriptedProvider([]), tools=[add], tool_choice="ad")
        with pytest.raises(UnknownToolError):
            Agent(ScriptedProvider([]), tools=[add]).run_sync("go", tool_choice="sub")


class TestFailureAndCancellation:
    def test_a_provider_error_carries_the_transcript(self) -> None:
        with pytest.raises(ProviderConnectionError, match="refused") as caught:
            run([[CALL], ProviderConnectionError("refused")])
        assert [message.role for message in caught.value.messages] == ["user", "assistant", "tool"]

    def test_cancelling_a_run_cancels_its_tools(self) -> None:
        async def go() -> None:
            running, cleaned = asyncio.Event(), asyncio.Event()

            @tool
            async def waits() -> None:
                running.set()
                try:
                    await asyncio.sleep(30)
                finally:
                    cleaned.set()

            agent = Agent(ScriptedProvider([[ToolCall("waits", {}, "1")]]), tools=[waits])
            task = asyncio.create_task(agent.run("go"))
            await running.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert cleaned.is_set()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(go())

    def test_a_tool_that_fails_while_it_is_cancelled(self) -> None:
        unseen: list[object] = []

        async def go() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
            running = asyncio.Event()

            @tool
            async def breaks() -> None:
                running.set()
                try:
                    await asyncio.sleep(30)
                finally:
                    raise ValueError("in the middle of cleaning up")

            agent = Agent(ScriptedProvider([[ToolCall("breaks", {}, "1")]]), tools=[breaks])
            task = asyncio.create_task(agent.run("go"))
            await running.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(go())
        gc.collect()  # an error that nobody has looked at is reported when its task is gone
        assert unseen == []

    def test_leaving_a_stream_ends_the_run(self) -> None:
        async def go() -> None:
            cleaned = asyncio.Event()

            @tool
            async def waits() -> None:
                try:
                    await asyncio.sleep(30)
                finally:
                    cleaned.set()

            @tool
            async def quick() -> None: ...

            calls = [ToolCall("waits", {}, "1"), ToolCall("quick", {}, "2")]
            agent = Agent(ScriptedProvider([calls]), tools=[waits, quick])
            async with aclosing(agent.stream("go")) as events:
                async for event in events:
                    if isinstance(event, ToolFinished):
                        break
            assert cleaned.is_set()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(go())

    def test_a_provider_that_ends_without_finishing_is_an_error(self) -> None:
        class Half(Provider):
            name = "half:test"

            async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
                yield TextDelta("half")

        with pytest.raises(Exception, match="without ModelFinished"):
            Agent(Half()).run_sync("go")

    def test_a_finished_run_leaves_nothing_behind(self) -> None:
        agent = Agent(ScriptedProvider([[CALL], "3"]), tools=[add])
        agent.run_sync("go")
        gc.collect()
        for thread in threading.enumerate():
            if thread.name == "agentkit-tool":
                thread.join(timeout=10)
                assert not thread.is_alive()


def test_complete_is_one_call_of_the_model() -> None:
    provider = ScriptedProvider([[ReasoningPart("r"), TextPart("t"), CALL]])
    response = asyncio.run(provider.complete([{"role": "user", "content": "go"}], tools=[add], tool_choice="required"))
    assert (response.text, response.reasoning, response.calls, response.finish_reason) == (
        "t",
        "r",
        [CALL],
        "tool_calls",
    )
    assert provider.requests[0].messages == [Message("user", "go")]
    assert isinstance(StepFinished(response).response, ModelResponse)
    assert ToolStarted(CALL).call is CALL
    assert ModelFinished().usage == Usage()
