"""Hooks: look, change, say no."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agentkit import Agent, Limits, Message, RunContext, ToolCall, ToolResult, tool
from agentkit.errors import JournalUnavailableError
from agentkit.hooks import Hooks, StopRun
from agentkit.journal.memory import MemoryJournal
from agentkit.messages import ModelResponse
from agentkit.policy import Policy, Rule
from agentkit.providers.base import ModelRequest
from agentkit.testing import ScriptedProvider
from tests.faults import FragileJournal

done: list[int] = []


@tool
def double(number: int) -> int:
    """Twice a number."""
    done.append(number)
    return 2 * number


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


class Everywhere(Hooks):
    """Changes what it sees at every place, and notes the place."""

    def __init__(self) -> None:
        self.places: list[str] = []

    async def before_model(self, context: RunContext[Any], request: ModelRequest) -> ModelRequest:
        self.places.append(f"before_model {context.step}")
        return replace(request, messages=[*request.messages[:-1], Message("user", request.messages[-1].text + "!")])

    async def after_model(self, context: RunContext[Any], response: ModelResponse) -> ModelResponse:
        self.places.append("after_model")
        return replace(response, message=Message("assistant", response.text.upper())) if response.text else response

    async def before_tool(self, context: RunContext[Any], call: ToolCall) -> ToolCall:
        self.places.append(f"before_tool {context.call.name}")
        return replace(call, arguments={"number": 21})

    async def after_tool(self, context: RunContext[Any], call: ToolCall, result: ToolResult) -> ToolResult:
        self.places.append(f"after_tool {result.content}")
        return replace(result, content="forty-two")

    async def on_message(self, context: RunContext[Any], message: Message) -> Message:
        self.places.append(f"on_message {message.role}")
        return replace_text(message) if message.role == "user" else message


def replace_text(message: Message) -> Message:
    return Message(message.role, f"{message.text} (said kindly)")


async def test_each_place() -> None:
    hooks = Everywhere()
    model = ScriptedProvider([ToolCall("double", {"number": 1}), "done"])
    journal = MemoryJournal()
    agent = Agent(model, tools=[double], hooks=[hooks], journal=journal)
    result = await agent.run("Double 1.")
    assert hooks.places == [
        "on_message user",
        "before_model 0",
        "after_model",
        "before_tool double",
        "after_tool 42",
        "on_message tool",
        "before_model 1",
        "after_model",
    ]
    assert done == [21]
    assert model.requests[0].messages[-1].text == "Double 1. (said kindly)!"
    assert result.messages[0].text == "Double 1. (said kindly)"
    assert result.messages[2].results[0].content == "forty-two"
    assert result.output == "DONE"
    assert await agent.resume(result.run_id) == result  # what they returned is on record


async def test_several_in_order() -> None:
    class Adds(Hooks):
        def __init__(self, letter: str) -> None:
            self.letter = letter

        async def on_message(self, context: RunContext[Any], message: Message) -> Message:
            return Message(message.role, message.text + self.letter)

    result = await Agent(ScriptedProvider(["hi"]), hooks=[Adds("a"), Adds("b")]).run("x")
    assert result.messages[0].text == "xab"


class Refuses(Hooks):
    def __init__(self, place: str) -> None:
        self.place = place

    def _look(self, place: str) -> None:
        if place == self.place:
            raise StopRun(f"not {place}")

    async def before_model(self, context: RunContext[Any], request: ModelRequest) -> ModelRequest:
        self._look("before_model")
        return request

    async def after_model(self, context: RunContext[Any], response: ModelResponse) -> ModelResponse:
        self._look("after_model")
        return response

    async def before_tool(self, context: RunContext[Any], call: ToolCall) -> ToolCall:
        self._look("before_tool")
        return call

    async def after_tool(self, context: RunContext[Any], call: ToolCall, result: ToolResult) -> ToolResult:
        self._look("after_tool")
        return result

    async def on_message(self, context: RunContext[Any], message: Message) -> Message:
        self._look(f"on_message {message.role}")
        return message


@pytest.mark.parametrize(
    ("place", "asked", "ran"),
    [
        ("on_message user", 0, 0),
        ("before_model", 0, 0),
        ("after_model", 1, 0),
        ("before_tool", 1, 0),
        ("after_tool", 1, 1),
        ("on_message tool", 1, 1),
    ],
)
async def test_a_guardrail_ends_the_run(place: str, asked: int, ran: int) -> None:
    model = ScriptedProvider([ToolCall("double", {"number": 1})][:asked])
    agent = Agent(model, tools=[double], hooks=[Refuses(place)], journal=MemoryJournal())
    result = await agent.run("Double 1.")
    assert result.stop_reason == "guardrail"
    assert [(problem.kind, problem.message) for problem in result.problems] == [("guardrail", f"not {place}")]
    assert len(done) == ran
    assert result.usage.total_tokens == 2 * asked
    calls = [call.id for message in result.messages for call in message.calls]
    assert calls == [made.call_id for message in result.messages for made in message.results]
    assert await agent.resume(result.run_id) == result


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_task_that_was_refused_is_not_done_when_the_run_is_resumed(is_late: bool) -> None:
    """Not if its process died just then, nor if there was no time to ask the hook."""

    class Refuses(Hooks):
        async def on_message(self, context: RunContext[Any], message: Message) -> Message:
            if is_late:
                await asyncio.Event().wait()
            raise StopRun("not this")

    journal = FragileJournal()
    agent = Agent(ScriptedProvider([]), hooks=[Refuses()], journal=journal, limits=Limits(deadline=0.05))
    journal.fails = "before run_ended"
    with pytest.raises(JournalUnavailableError):
        await agent.run("Do evil.", run_id="r")
    for _ in range(2):
        result = await agent.resume("r", limits=Limits(deadline=60))
        assert (result.stop_reason, result.output) == ("guardrail", "")
        assert result.problems[0].message == (
            "a hook did not answer before the run's deadline" if is_late else "not this"
        )


async def test_what_a_guardrail_refuses_is_nowhere() -> None:
    agent = Agent(ScriptedProvider(["the secret"]), hooks=[Refuses("after_model")], journal=MemoryJournal())
    result = await agent.run("What is it?")
    assert result.output == ""
    assert [message.text for message in result.messages] == ["What is it?"]
    assert "secret" not in str(await agent.journal.entries(result.run_id))


async def test_a_call_is_answered_without_being_run() -> None:
    class Knows(Hooks):
        async def before_tool(self, context: RunContext[Any], call: ToolCall) -> ToolResult:
            return ToolResult("", "", "I know: 2")

    model = ScriptedProvider([ToolCall("double", {"number": 1}, "c"), "2"])
    result = await Agent(model, tools=[double], hooks=[Knows()]).run("Double 1.")
    assert result.messages[2].results == [ToolResult("c", "double", "I know: 2")]
    assert done == []


async def test_arguments_that_are_changed_in_place_are_what_is_decided_on_and_run() -> None:
    class Changes(Hooks):
        async def before_tool(self, context: RunContext[Any], call: ToolCall) -> ToolCall:
            call.arguments["number"] = 21
            return call

    model = ScriptedProvider([ToolCall("double", {"number": 1}), "42"])
    policy = Policy([Rule("double", "allow", arguments={"number": "21"}), Rule("*", "deny")])
    await Agent(model, tools=[double], hooks=[Changes()], policy=policy).run("Double 1.")
    assert done == [21]


async def test_arguments_that_do_not_fit_are_not_run() -> None:
    class Breaks(Hooks):
        async def before_tool(self, context: RunContext[Any], call: ToolCall) -> ToolCall:
            return replace(call, arguments={"number": "many"})

    model = ScriptedProvider([ToolCall("double", {"number": 1}), "hm"])
    result = await Agent(model, tools=[double], hooks=[Breaks()]).run("Double 1.")
    assert result.messages[2].results[0].error == "invalid_arguments"
    assert done == []


async def test_a_hook_that_does_not_return_is_left_at_the_deadline() -> None:
    class Hangs(Hooks):
        async def before_model(self, context: RunContext[Any], request: ModelRequest) -> ModelRequest:
            await asyncio.Event().wait()
            return request

    result = await Agent(ScriptedProvider([]), hooks=[Hangs()], limits=Limits(deadline=0.05)).run("x")
    assert result.stop_reason == "deadline"


async def test_a_faulty_hook_is_the_callers_error() -> None:
    class Faulty(Hooks):
        async def after_model(self, context: RunContext[Any], response: ModelResponse) -> ModelResponse:
            raise LookupError("oh")

    with pytest.raises(LookupError):
        await Agent(ScriptedProvider(["hi"]), hooks=[Faulty()]).run("x")
