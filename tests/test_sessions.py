"""Conversations by id: gone on with, forked, exported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from agentkit import Agent, Limits, ToolCall, tool
from agentkit.errors import ConfigError, ProviderConnectionError, RunBusyError, RunNotFoundError, UnfinishedRunError
from agentkit.events import ModelEvent
from agentkit.journal.export import export
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.replay import conversation
from agentkit.messages import ReasoningPart, TextPart
from agentkit.policy import Policy, Rule
from agentkit.providers.base import ModelRequest
from agentkit.testing import ScriptedProvider, Step


@tool(effect="read", untrusted=True)
def search(query: str) -> str:
    """Search."""
    return f"about {query}"


def talker(*steps: Step, journal: MemoryJournal | None = None, session: str = "s", **options: object) -> Agent[str]:
    return Agent(ScriptedProvider(steps), tools=[search], journal=journal, session=session, **options)  # type: ignore[arg-type]


def said(agent: Agent[str], request: int) -> list[str]:
    assert isinstance(agent.provider, ScriptedProvider)
    return [message.text for message in agent.provider.requests[request].messages]


class TestSession:
    async def test_the_next_run_goes_on(self) -> None:
        agent = talker("one", "two", "three")
        await agent.run("a")
        await agent.run("b")
        result = await agent.run("c")
        assert said(agent, 2) == ["a", "one", "b", "two", "c"]
        assert [message.text for message in result.messages] == ["a", "one", "b", "two", "c", "three"]

    async def test_each_id_is_a_conversation(self) -> None:
        agent = talker("one", "two", "three")
        await agent.run("a")
        await agent.run("b", session="other")
        await agent.run("c")
        assert said(agent, 1) == ["b"]
        assert said(agent, 2) == ["a", "one", "c"]

    async def test_a_run_puts_on_record_only_what_is_new(self) -> None:
        journal = MemoryJournal()
        agent = talker("one", "two", journal=journal)
        first = await agent.run("a")
        second = await agent.run("b")
        started = (await journal.entries(second.run_id))[0].record
        assert started.kind == "run_started"
        assert (started.continues, len(started.messages)) == (first.run_id, 1)

    async def test_taint_goes_on(self) -> None:
        @tool(effect="egress")
        def send() -> str:
            """Send."""
            return "sent"

        model = ScriptedProvider([ToolCall("search", {"query": "x"}), "Found.", ToolCall("send", {})])
        agent = Agent(model, tools=[search, send], session="s")
        await agent.run("Search.")
        assert (await agent.run("Send.")).stop_reason == "paused"

    async def test_not_while_its_last_run_is_going_on(self) -> None:
        agent = talker("one")
        async with aclosing(agent.stream("a")) as events:
            await anext(events)
            with pytest.raises(RunBusyError, match="'s'"):
                await agent.run("b")

    async def test_not_before_its_last_run_came_to_an_end(self) -> None:
        agent = talker(ProviderConnectionError("gone"), "one", "two")
        with pytest.raises(ProviderConnectionError):
            await agent.run("a")
        with pytest.raises(UnfinishedRunError) as caught:
            await agent.run("b")
        await agent.resume(caught.value.run_id)
        await agent.run("b")
        assert said(agent, 2) == ["a", "one", "b"]

    async def test_what_was_broken_off_is_not_said_twice(self) -> None:
        class Slow(ScriptedProvider):
            async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
                async for event in super().stream(request):
                    yield event
                    if len(self.requests) == 1:
                        await asyncio.Event().wait()

        agent = Agent(Slow(["one", "one", "two"]), session="s", limits=Limits(deadline=0.05))
        broken_off = await agent.run("a")
        assert broken_off.stop_reason == "deadline"
        assert await conversation(agent.journal, broken_off.run_id) == broken_off.messages
        await agent.resume(broken_off.run_id, limits=Limits())
        await agent.run("b", limits=Limits())
        assert said(agent, 2) == ["a", "one", "b"]

    async def test_or_was_deleted(self) -> None:
        agent = talker(ToolCall("search", {"query": "x"}), "two", policy=Policy([Rule("search", "ask")]))
        paused = await agent.run("a")
        await agent.journal.delete(paused.run_id)
        await agent.run("b")
        assert said(agent, 1) == ["b"]


class TestForgetting:
    async def test_the_oldest_session_is_forgotten_as_a_whole(self) -> None:
        journal = MemoryJournal(runs=3)
        agent = talker(*"abcde", journal=journal)
        for session in ["one", "one", "two"]:
            await agent.run("x", session=session)
        await agent.run("x", session="three")
        assert {info.session for info in await journal.runs()} == {"two", "three"}
        await agent.run("y", session="one")
        assert said(agent, 4) == ["y"]

    async def test_a_session_is_not_forgotten_for_its_own_next_run(self) -> None:
        agent = talker(*"abcde", journal=MemoryJournal(runs=3))
        for _ in range(5):
            result = await agent.run("x")
        assert len(result.messages) == 10


class TestFork:
    async def test_at_any_step(self) -> None:
        journal = MemoryJournal()
        agent = talker("zero", ToolCall("search", {"query": "x"}), "one", journal=journal)
        await agent.run("first")
        whole = await agent.run("second")
        for at_step, expected in [(0, 2), (1, 5), (2, 6), (None, 6)]:
            assert await conversation(journal, whole.run_id, at_step) == whole.messages[:expected]

        fork = talker("other", "on", journal=journal, session="fork")
        await fork.run("else", continues=whole.run_id, at_step=1)
        assert said(fork, 0) == ["first", "zero", "second", "", "", "else"]
        await fork.run("and on")
        assert said(fork, 1)[-3:] == ["else", "other", "and on"]
        assert [message.text for message in whole.messages][-1] == "one"

    async def test_of_nothing(self) -> None:
        with pytest.raises(RunNotFoundError, match="'nothing'"):
            await talker().run("a", continues="nothing")


class TestExport:
    async def run(self) -> tuple[MemoryJournal, str]:
        journal = MemoryJournal()
        steps: list[Step] = [
            [
                ReasoningPart("Hm."),
                TextPart("Looking."),
                ToolCall("search", {"query": "x"}, "1"),
                ToolCall("search", {"query": "é"}, "2"),
            ],
            "Found.",
            [ToolCall("search", {"query": "z"}, "3")],
            "Done.",
        ]
        agent = talker(*steps, journal=journal, instructions="Be brief.")
        await agent.run("Search.")
        return journal, (await agent.run("Once more.")).run_id

    async def test_openai(self) -> None:
        journal, run_id = await self.run()
        line = json.loads(json.dumps(await export(journal, run_id)))
        roles = [message["role"] for message in line["messages"]]
        assert roles == [
            "system",
            "user",
            "assistant",
            "tool",
            "tool",
            "assistant",
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        first = line["messages"][2]
        assert first["content"] == "Looking."
        assert [call["id"] for call in first["tool_calls"]] == ["1", "2"]
        assert json.loads(first["tool_calls"][1]["function"]["arguments"]) == {"query": "é"}
        assert line["messages"][3] == {"role": "tool", "tool_call_id": "1", "content": "about x"}
        assert [made["function"]["name"] for made in line["tools"]] == ["search"]
        assert "Hm." not in json.dumps(line)

    async def test_sharegpt(self) -> None:
        journal, run_id = await self.run()
        line = json.loads(json.dumps(await export(journal, run_id, "sharegpt")))
        speakers = [turn["from"] for turn in line["conversations"]]
        assert speakers == ["human", "function_call", "observation", "gpt"] * 2
        calls = json.loads(line["conversations"][1]["value"])
        assert calls[1] == {"name": "search", "arguments": {"query": "é"}}
        assert json.loads(line["conversations"][2]["value"]) == ["about x", "about é"]
        assert json.loads(line["conversations"][5]["value"]) == {"name": "search", "arguments": {"query": "z"}}
        assert line["system"] == "Be brief."
        assert json.loads(line["tools"])[0]["name"] == "search"

    async def test_another_form(self) -> None:
        journal, run_id = await self.run()
        with pytest.raises(ConfigError, match=r"'alpaca'.*openai, sharegpt"):
            await export(journal, run_id, "alpaca")  # type: ignore[arg-type]
