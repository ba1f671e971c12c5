"""What ends a run, and what was done until then."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from agentkit import Agent, Limits, Message, Tool, ToolCall, Usage, tool
from agentkit.limits import StopReason
from agentkit.messages import ModelResponse
from agentkit.testing import ScriptedProvider, Step


def counter() -> Tool[[], int]:
    """A tool that never says the same twice."""
    numbers = count(1)

    @tool
    def number() -> int:
        """The next number."""
        return next(numbers)

    return number


CALL = ToolCall("number", {})


def spending(usage: Usage, *calls: ToolCall) -> ModelResponse:
    return ModelResponse(Message("assistant", calls), usage=usage)


class TestBudget:
    @pytest.mark.parametrize(
        ("limits", "reason"),
        [
            (Limits(input_tokens=200), "input_tokens"),
            (Limits(output_tokens=20), "output_tokens"),
            (Limits(cost=0.5), "cost"),
        ],
    )
    async def test_what_is_used_up_ends_the_run(self, limits: Limits, reason: StopReason) -> None:
        usage = Usage(input_tokens=100, output_tokens=10, cost=0.25)
        agent = Agent(ScriptedProvider([spending(usage, CALL)] * 2), tools=[counter()], limits=limits)
        result = await agent.run("Go on.")
        assert (result.stop_reason, result.steps) == (reason, 2)
        assert result.messages[-1].results[0].content == "2"  # the last turn's calls were run
        assert result.usage == usage + usage

    async def test_an_answer_is_taken_whatever_it_cost(self) -> None:
        answer = ModelResponse(Message("assistant", "Yes."), usage=Usage(1000, 1000))
        result = await Agent(ScriptedProvider([answer]), limits=Limits(input_tokens=10)).run("Well?")
        assert (result.stop_reason, result.output) == ("answer", "Yes.")

    async def test_calls(self) -> None:
        agent = Agent(ScriptedProvider([[CALL, CALL], [CALL, CALL]]), tools=[counter()], limits=Limits(tool_calls=3))
        result = await agent.run("Go on.")
        assert result.stop_reason == "tool_calls"
        told = [made for message in result.messages for made in message.results]
        assert [made.error for made in told] == [None, None, None, "not_run"]
        assert "limit of 3 tool calls" in told[-1].content

    async def test_as_many_calls_as_are_allowed_may_be_answered(self) -> None:
        agent = Agent(ScriptedProvider([[CALL] * 3, "Three."]), tools=[counter()], limits=Limits(tool_calls=3))
        assert (await agent.run("Go on.")).stop_reason == "answer"

    @pytest.mark.parametrize("most", [1, {"number": 1, "other": 9}])
    async def test_calls_of_each_tool(self, most: int | dict[str, int]) -> None:
        model = ScriptedProvider([CALL, CALL, "One."])
        result = await Agent(model, tools=[counter()], limits=Limits(calls_per_tool=most)).run("Go on.")
        assert result.stop_reason == "answer"
        assert "limit of 1 calls of this tool" in result.messages[4].results[0].content

    async def test_a_turn_that_does_not_end(self) -> None:
        agent = Agent(ScriptedProvider(["word " * 1000]), limits=Limits(output_size=100))
        result = await agent.run("Talk.")
        assert result.stop_reason == "output_size"
        assert 100 < len(result.output) < 120
        assert result.messages[-1].text == result.output

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda: Limits(steps=0),
            lambda: Limits(cost=-1.0),
            lambda: Limits(calls_per_tool=0),
            lambda: Limits(calls_per_tool={"a": 0}),
        ],
    )
    def test_a_limit_is_above_0(self, wrong: Callable[[], Limits]) -> None:
        with pytest.raises(ValueError, match="must be above 0"):
            wrong()


class TestRepeats:
    @staticmethod
    def same() -> Tool[[str], str]:
        @tool
        def look(at: str) -> str:
            """Look."""
            return f"{at} is there"

        return look

    async def test_the_same_call_with_the_same_result_is_told_and_then_ends_the_run(self) -> None:
        agent = Agent(ScriptedProvider([ToolCall("look", {"at": "a"})] * 4), tools=[self.same()])
        result = await agent.run("Look.")
        assert (result.stop_reason, result.steps) == ("repeats", 4)
        told = [message.results[0].content for message in result.messages if message.results]
        assert told[0] == "a is there"
        assert all("this very call before" in words for words in told[1:])

    async def test_in_turns(self) -> None:
        """Two calls that take turns are a loop too."""
        steps: list[Step] = [ToolCall("look", {"at": at}) for at in "abababab"][:5]
        result = await Agent(ScriptedProvider(steps), tools=[self.same()]).run("Look.")
        assert result.stop_reason == "repeats"

    async def test_something_new_between_them_is_progress(self) -> None:
        steps: list[Step] = [*(ToolCall("look", {"at": at}) for at in "aabaacaadaa"), "Done."]
        assert (await Agent(ScriptedProvider(steps), tools=[self.same()]).run("Look.")).stop_reason == "answer"

    async def test_another_result_is_progress(self) -> None:
        agent = Agent(ScriptedProvider([*[CALL] * 6, "Six."]), tools=[counter()])
        assert (await agent.run("Go on.")).stop_reason == "answer"

    async def test_how_often(self) -> None:
        model = ScriptedProvider([*[ToolCall("look", {"at": "a"})] * 6, "Done."])
        assert (await Agent(model, tools=[self.same()], limits=Limits(repeats=6)).run("Look.")).stop_reason == "answer"
