"""Runs that are paused, fail or are interrupted, and go on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from agentkit import Agent, Hooks, Limits, OutputError, RunContext, ToolCall, ToolResult, tool
from agentkit.errors import (
    CallNotDone,
    ConfigError,
    JournalUnavailableError,
    ProviderConnectionError,
    ResumeError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
)
from agentkit.events import ToolStarted
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.records import CallDecided
from agentkit.policy import Decision, PendingCall, Policy, Rule
from agentkit.testing import ScriptedProvider, Step
from tests.faults import FragileJournal
from tests.waits import wait_for

ASK = Policy([Rule("send", "ask")])


def at_most_two(numbers: list[int]) -> None:
    if len(numbers) > 2:
        raise ValueError("two at most")


class Post:
    """A service with a side effect."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.keys: list[str] = []

    @tool(effect="egress")
    def send(self, context: RunContext[None], to: str) -> str:
        """Send a letter."""
        self.sent.append(to)
        self.keys.append(context.idempotency_key)
        return f"sent to {to}"


def asking(steps: Sequence[Step], journal: MemoryJournal, post: Post, policy: Policy = ASK) -> Agent[str]:
    return Agent(ScriptedProvider(steps), tools=[post.send], policy=policy, journal=journal)


class TestPaused:
    async def test_a_call_that_is_asked_for_pauses_the_run(self) -> None:
        post, journal = Post(), MemoryJournal()
        result = await asking([ToolCall("send", {"to": "Ada"})], journal, post).run("Write to Ada.")
        assert result.stop_reason == "paused"
        (pending,) = result.pending
        assert (pending.tool, pending.arguments, pending.effect) == ("send", {"to": "Ada"}, "egress")
        assert [message.role for message in result.messages] == ["user"]
        assert post.sent == []

        result = await asking(["Done."], journal, post).resume(result.run_id, {pending.key: True})
        assert (result.output, result.steps, result.pending) == ("Done.", 2, [])
        assert post.sent == ["Ada"]
        assert result.messages[2].results[0].content == "sent to Ada"

    async def test_denied(self) -> None:
        post, journal = Post(), MemoryJournal()
        paused = await asking([ToolCall("send", {"to": "Ada"})], journal, post).run("Write to Ada.")
        decisions = {paused.pending[0].key: Decision(False, "not today")}
        result = await asking(["Then not."], journal, post).resume(paused.run_id, decisions)
        assert result.output == "Then not."
        assert result.messages[2].results[0].error == "denied"
        assert "not today" in result.messages[2].results[0].content
        assert post.sent == []

    async def test_other_arguments(self) -> None:
        post, journal = Post(), MemoryJournal()
        paused = await asking([ToolCall("send", {"to": "Ada"})], journal, post).run("Write to Ada.")
        decisions = {paused.pending[0].key: Decision(True, arguments={"to": "Bob"})}
        result = await asking(["Done."], journal, post).resume(paused.run_id, decisions)
        assert post.sent == ["Bob"]
        assert "Bob" in result.messages[2].results[0].content

    async def test_other_arguments_that_do_not_fit(self) -> None:
        post, journal = Post(), MemoryJournal()
        paused = await asking([ToolCall("send", {"to": "Ada"})], journal, post).run("Write to Ada.")
        decisions = {paused.pending[0].key: Decision(True, arguments={"to": 7})}
        result = await asking(["Oh."], journal, post).resume(paused.run_id, decisions)
        assert result.messages[2].results[0].error == "invalid_arguments"
        assert post.sent == []

    async def test_a_result_that_a_person_knows(self) -> None:
        post, journal = Post(), MemoryJournal()
        paused = await asking([ToolCall("send", {"to": "Ada"})], journal, post).run("Write to Ada.")
        decisions = {paused.pending[0].key: Decision(False, result="I told her myself.")}
        result = await asking(["Good."], journal, post).resume(paused.run_id, decisions)
        assert result.messages[2].results[0].content == "I told her myself."
        assert post.sent == []

    async def test_calls_that_need_no_decision_are_run_once(self) -> None:
        looked: list[str] = []

        @tool(effect="read")
        def look(at: str) -> str:
            """Look."""
            looked.append(at)
            return at

        post, journal = Post(), MemoryJournal()
        turn = [ToolCall("look", {"at": "a"}), ToolCall("send", {"to": "Ada"}), ToolCall("send", {"to": "Bob"})]
        model = ScriptedProvider([turn, "Done."])
        agent = Agent(model, tools=[look, post.send], policy=ASK, journal=journal)
        paused = await agent.run("Go.")
        assert [call.arguments for call in paused.pending] == [{"to": "Ada"}, {"to": "Bob"}]
        paused = await agent.resume(paused.run_id, {paused.pending[0].key: True})
        assert paused.stop_reason == "paused"
        assert (looked, post.sent) == (["a"], ["Ada"])
        result = await agent.resume(paused.run_id, {paused.pending[0].key: True})
        assert (looked, post.sent) == (["a"], ["Ada", "Bob"])
        assert [made.content for made in result.messages[2].results] == ["a", "sent to Ada", "sent to Bob"]

    async def test_without_a_decision_it_goes_on_waiting(self) -> None:
        journal = MemoryJournal()
        agent = asking([ToolCall("send", {"to": "Ada"})], journal, Post())
        paused = await agent.run("Write to Ada.")
        assert (await agent.resume(paused.run_id)).pending == paused.pending

    async def test_a_decision_that_is_none(self) -> None:
        post, journal = Post(), MemoryJournal()
        agent = asking([ToolCall("send", {"to": "Ada"})], journal, post)
        paused = await agent.run("Write to Ada.")
        with pytest.raises(ConfigError, match="'no'"):
            await agent.resume(paused.run_id, {paused.pending[0].key: "no"})  # type: ignore[dict-item]
        assert post.sent == []

    async def test_a_decision_on_no_call(self) -> None:
        journal = MemoryJournal()
        agent = asking([ToolCall("send", {"to": "Ada"})], journal, Post())
        paused = await agent.run("Write to Ada.")
        with pytest.raises(ResumeError, match=f"'nothing'.*{paused.pending[0].key}"):
            await agent.resume(paused.run_id, {"nothing": True})
        assert (await agent.resume(paused.run_id)).stop_reason == "paused"

    async def test_a_decision_on_record_is_not_asked_for_again(self) -> None:
        post, journal = Post(), FragileJournal()
        paused = await asking([ToolCall("send", {"to": "Ada"})], journal, post).run("Write to Ada.")
        journal.fails = "behind run_resumed"
        with pytest.raises(JournalUnavailableError):
            await asking([], journal, post).resume(paused.run_id, {paused.pending[0].key: True})
        assert post.sent == []
        result = await asking(["Done."], journal, post).resume(paused.run_id)
        assert (result.output, post.sent) == ("Done.", ["Ada"])

    async def test_a_decision_is_on_one_attempt_only(self) -> None:
        """Who gives it twice, since the first time their process died, does not mean: do it twice."""
        post, journal = Post(), FragileJournal()
        paused = await asking([ToolCall("send", {"to": "Ada"})], journal, post).run("Write to Ada.")
        decisions = {paused.pending[0].key: True}
        for attempts in (1, 2):
            journal.fails = "before call_finished"
            with pytest.raises(JournalUnavailableError):
                await asking([], journal, post).resume(paused.run_id, decisions)
            paused = await asking([], journal, post).resume(paused.run_id, decisions)
            assert paused.stop_reason == "paused"
            assert paused.pending[0].is_interrupted
            assert paused.pending[0].idempotency_key == post.keys[0]
            assert post.sent == ["Ada"] * attempts
            with pytest.raises(ResumeError):
                await asking([], journal, post).resume(paused.run_id, decisions)
            decisions = {paused.pending[0].key: True}  # this does mean it

    async def test_a_typed_answer(self) -> None:
        post, journal = Post(), MemoryJournal()
        model = ScriptedProvider([ToolCall("send", {"to": "Ada"}), "[1]"])
        agent = Agent(model, tools=[post.send], policy=ASK, journal=journal, output=list[int])
        with pytest.raises(OutputError) as caught:
            await agent.run("Go.")
        paused = caught.value.result
        result = await agent.resume(paused.run_id, {paused.pending[0].key: True})
        assert result.output == [1]
        assert (await agent.resume(paused.run_id)).output == [1]

    async def test_a_handler_decides_at_once(self) -> None:
        asked: list[PendingCall] = []

        async def on_ask(call: PendingCall) -> bool:
            asked.append(call)
            return call.arguments["to"] == "Ada"

        post, journal = Post(), MemoryJournal()
        turn = [ToolCall("send", {"to": "Ada"}), ToolCall("send", {"to": "Eve"})]
        policy = Policy([Rule("send", "ask")], on_ask=on_ask)
        result = await asking([turn, "Done."], journal, post, policy).run("Write.")
        assert post.sent == ["Ada"]
        assert len(asked) == 2
        audit = [e.record for e in await journal.entries(result.run_id) if isinstance(e.record, CallDecided)]
        assert {(line.action, line.by) for line in audit} == {("allow", "the handler"), ("deny", "the handler")}


class TestInterrupted:
    async def interrupted(self, agent: Agent[str]) -> None:
        """The consumer goes away while the first call runs."""
        async with aclosing(agent.stream("Go.", run_id="r")) as events:
            async for event in events:
                if isinstance(event, ToolStarted):
                    return

    async def test_a_call_of_unknown_outcome_is_never_simply_made_again(self) -> None:
        done: list[str] = []

        @tool(effect="write")
        async def pay() -> str:
            """Pay."""
            done.append("pay")
            return "paid"

        agent = Agent(
            ScriptedProvider([ToolCall("pay", {}), "Done."]), tools=[pay], policy=Policy(on_ask=lambda _: True)
        )
        await self.interrupted(agent)
        assert done == ["pay"]
        paused = await agent.resume("r")
        (pending,) = paused.pending
        assert pending.is_interrupted
        assert done == ["pay"]
        result = await agent.resume("r", {pending.key: Decision(False, "The bank has it.")})
        assert done == ["pay"]
        (told,) = result.messages[2].results
        assert told.error == "unknown_outcome"
        assert "The bank has it." in told.content

    async def test_a_person_has_it_made_again(self) -> None:
        keys: list[str] = []

        @tool
        async def pay(context: RunContext[None]) -> str:
            """Pay."""
            keys.append(context.idempotency_key)
            return "paid"

        agent = Agent(ScriptedProvider([ToolCall("pay", {}), "Done."]), tools=[pay])
        await self.interrupted(agent)
        paused = await agent.resume("r")
        result = await agent.resume("r", {paused.pending[0].key: True})
        assert result.messages[2].results[0].content == "paid"
        assert len(keys) == 2
        assert keys[0] == keys[1]

    async def test_the_model_is_told_where_the_policy_says_so(self) -> None:
        @tool
        async def pay() -> str:
            """Pay."""
            return "paid"

        agent = Agent(ScriptedProvider([ToolCall("pay", {}), "Hm."]), tools=[pay], policy=Policy(unknown="tell"))
        await self.interrupted(agent)
        result = await agent.resume("r")
        assert result.messages[2].results[0].error == "unknown_outcome"

    @pytest.mark.parametrize("how", ["effect", "idempotent"])
    async def test_what_only_reads_or_may_be_repeated_is_made_again(self, how: str) -> None:
        done: list[str] = []

        async def look() -> str:
            """Look."""
            done.append("look")
            return "seen"

        made = tool(effect="read")(look) if how == "effect" else tool(effect="write", idempotent=True)(look)
        agent = Agent(ScriptedProvider([ToolCall("look", {}), "Done."]), tools=[made])
        await self.interrupted(agent)
        assert (await agent.resume("r")).output == "Done."
        assert done == ["look", "look"]

    @pytest.mark.parametrize("is_done", [True, False])
    async def test_reconcile_finds_out(self, is_done: bool) -> None:
        done: list[str] = []

        def find(amount: int) -> str:
            if not is_done:
                raise CallNotDone
            return f"found {amount}"

        @tool(effect="write", reconcile=find)
        async def pay(amount: int) -> str:
            """Pay."""
            done.append("pay")
            return "paid"

        agent = Agent(ScriptedProvider([ToolCall("pay", {"amount": 3}), "Done."]), tools=[pay])
        await self.interrupted(agent)
        result = await agent.resume("r")
        assert result.messages[2].results[0].content == ("found 3" if is_done else "paid")
        assert len(done) == (1 if is_done else 2)

    async def test_reconcile_is_not_asked_about_a_call_that_is_still_being_made(self) -> None:
        done: list[str] = []
        journal = FragileJournal()

        def find() -> str:
            if not done:
                raise CallNotDone
            return "paid"

        @tool(effect="write", reconcile=find)
        def pay() -> str:
            """Pay, when the run has failed."""
            wait_for(lambda: not journal.fails)
            done.append("paid")
            return "paid"

        @tool(effect="read")
        async def look() -> str:
            """Look."""
            return "seen"

        model = ScriptedProvider([[ToolCall("pay", {}), ToolCall("look", {})], "Done."])
        agent = Agent(model, tools=[pay, look], journal=journal)
        journal.fails = "before call_finished"
        with pytest.raises(JournalUnavailableError):
            await agent.run("Go.", run_id="r")
        assert (await agent.resume("r")).output == "Done."
        assert done == ["paid"]

    async def test_what_reconcile_finds_passes_the_hooks(self) -> None:
        class Redacts(Hooks):
            async def after_tool(self, context: RunContext[Any], call: ToolCall, result: ToolResult) -> ToolResult:
                return replace(result, content=result.content.replace("secret", "…"))

        def find() -> str:
            return "the secret was paid"

        @tool(effect="write", reconcile=find)
        async def pay() -> str:
            """Pay."""
            return "the secret was paid"

        agent = Agent(ScriptedProvider([ToolCall("pay", {}), "Done."]), tools=[pay], hooks=[Redacts()])
        await self.interrupted(agent)
        assert (await agent.resume("r")).messages[2].results[0].content == "the … was paid"

    async def test_a_call_counts_once_however_often_it_is_interrupted(self) -> None:
        @tool(effect="read")
        async def look() -> str:
            """Look."""
            return "seen"

        @tool
        async def pay() -> str:
            """Pay."""
            return "paid"

        model = ScriptedProvider([ToolCall("look", {}), ToolCall("pay", {}), "Done."])
        journal = FragileJournal()
        agent = Agent(model, tools=[look, pay], limits=Limits(tool_calls=2), journal=journal)
        await self.interrupted(agent)
        for fails in ("before call_finished", "behind model_answered", "before call_finished"):
            journal.fails = fails
            with pytest.raises(JournalUnavailableError):
                await agent.resume("r")
        paused = await agent.resume("r")
        result = await agent.resume("r", {paused.pending[0].key: True})
        assert (result.output, result.messages[4].results[0].content) == ("Done.", "paid")

    async def test_a_reconcile_that_fails_is_no_answer(self) -> None:
        def find() -> str:
            raise ConnectionError("the bank is closed")

        @tool(effect="write", reconcile=find)
        async def pay() -> str:
            """Pay."""
            return "paid"

        agent = Agent(ScriptedProvider([ToolCall("pay", {})]), tools=[pay])
        await self.interrupted(agent)
        paused = await agent.resume("r")
        assert "the bank is closed" in paused.pending[0].why

    async def test_a_tool_that_is_gone(self) -> None:
        @tool
        async def pay() -> str:
            """Pay."""
            return "paid"

        journal = MemoryJournal()
        await self.interrupted(Agent(ScriptedProvider([ToolCall("pay", {})]), tools=[pay], journal=journal))
        result = await Agent(ScriptedProvider(["Hm."]), journal=journal).resume("r")
        assert result.messages[2].results[0].error == "unknown_outcome"


class TestFailed:
    async def test_a_run_whose_model_failed_goes_on(self) -> None:
        done: list[str] = []

        @tool
        def count() -> int:
            """Count."""
            done.append("count")
            return len(done)

        model = ScriptedProvider([ToolCall("count", {}), ProviderConnectionError("gone"), "It is 1."])
        agent = Agent(model, tools=[count])
        with pytest.raises(ProviderConnectionError) as caught:
            await agent.run("Count.")
        result = await agent.resume(caught.value.run_id)
        assert result.output == "It is 1."
        assert done == ["count"]
        assert result.usage.total_tokens == 4

    async def test_a_limit_that_is_raised(self) -> None:
        numbers = iter(range(10))

        @tool
        def count() -> int:
            """Count."""
            return next(numbers)

        model = ScriptedProvider([*[ToolCall("count", {})] * 3, "Done."])
        agent = Agent(model, tools=[count], limits=Limits(steps=2), journal=MemoryJournal())
        result = await agent.run("Count.")
        assert (result.stop_reason, result.steps) == ("steps", 2)
        assert (await agent.resume(result.run_id)).stop_reason == "steps"
        result = await agent.resume(result.run_id, limits=Limits(steps=9))
        assert (result.output, result.steps) == ("Done.", 4)

    async def test_without_a_journal_a_run_that_ended_is_forgotten(self) -> None:
        agent = Agent(ScriptedProvider(["Hello."]))
        result = await agent.run("Hi.")
        with pytest.raises(RunNotFoundError, match="without a journal"):
            await agent.resume(result.run_id)

    async def test_an_ended_run_only_says_so(self) -> None:
        model = ScriptedProvider(["Hello.", "[1, 2, 3]", "[1, 2]"])
        agent = Agent(model, output=list[int], validators=[at_most_two], journal=MemoryJournal())
        result = await agent.run("Hi.")
        assert [problem.kind for problem in result.problems] == ["invalid_output"] * 2
        assert await agent.resume(result.run_id) == result

    async def test_an_agent_that_answers_with_another_type(self) -> None:
        journal = MemoryJournal()
        await Agent(ScriptedProvider(["[1]"]), output=list[int], journal=journal).run("Hi.", run_id="r")
        with pytest.raises(OutputError) as caught:
            await Agent(ScriptedProvider([]), output=dict[str, int], journal=journal).resume("r")
        assert caught.value.result.output == "[1]"

    async def test_ids(self) -> None:
        agent = Agent(ScriptedProvider(["Hello."]), journal=MemoryJournal())
        await agent.run("Hi.", run_id="mine")
        with pytest.raises(RunExistsError, match="'mine'"):
            await agent.run("Hi.", run_id="mine")
        with pytest.raises(RunNotFoundError, match="'yours'"):
            await agent.resume("yours")

    async def test_a_run_that_is_going_on(self) -> None:
        agent = Agent(ScriptedProvider(["Hello."]))
        async with aclosing(agent.stream("Hi.", run_id="r")) as events:
            await anext(events)
            with pytest.raises(RunBusyError, match="'r'"):
                await agent.resume("r")


async def test_a_method_reconciles_a_methods_calls() -> None:
    class Bank:
        paid = 0

        def find(self, amount: int) -> str:
            """What came of a payment."""
            return f"paid {self.paid}"

        @tool(effect="write", reconcile=find)
        async def pay(self, amount: int) -> str:
            """Pay."""
            self.paid += amount
            return "paid"

    agent = Agent(ScriptedProvider([ToolCall("pay", {"amount": 3}), "Done."]), tools=[Bank().pay])
    async with aclosing(agent.stream("Go.", run_id="r")) as events:
        async for event in events:
            if isinstance(event, ToolStarted):
                break
    assert (await agent.resume("r")).messages[2].results[0].content == "paid 3"
