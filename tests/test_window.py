"""What is sent of a conversation that outgrows its context."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Limits, Message, ModelSettings, RunContext, ToolCall, ToolResult, Usage, tool
from agentkit.compaction import MIN_RESULT, compacted, forms
from agentkit.errors import ConfigError, ContextOverflowError, ProviderConnectionError
from agentkit.events import ToolCallEnd
from agentkit.hooks import Hooks
from agentkit.journal.base import Journal
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.records import Compacted
from agentkit.messages import ModelResponse, TextPart
from agentkit.providers.base import ModelRequest, Provider, ResponseBuilder
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.tokens import LETTERS_A_TOKEN, TokenMeter, estimated_tokens
from agentkit.testing import ScriptedProvider, Step
from agentkit.window import ContextBudget, Window
from tests.conversations import Conversation, assert_valid, conversations

T = TypeVar("T")

SYSTEM = Message("system", "You look around.")


@tool
def look(place: str) -> str:
    """Look somewhere."""
    return place


class Knows(ScriptedProvider):
    """A model that knows its context's size, and counts a token for a letter of text if it is to."""

    def __init__(self, *steps: Any, size: int | None = None, counts: bool = False) -> None:
        super().__init__(steps)
        self.size, self.counts = size, counts

    async def context_size(self) -> int | None:
        return self.size

    async def count_tokens(self, request: ModelRequest) -> int | None:
        return LETTERS_A_TOKEN * estimated_tokens(request) if self.counts else None


def build(messages: Sequence[Message]) -> ModelRequest:
    return ModelRequest([SYSTEM, *messages], [look])


async def unchanged(request: ModelRequest) -> ModelRequest:
    return request


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def window(provider: Provider | None = None, *, task: int = 0, **budget: Any) -> Window:
    return Window(ContextBudget(**budget), provider or Knows(), build, task, unchanged)


def rounds(number: int, size: int = 400) -> list[Message]:
    made = [Message("user", "Look everywhere.")]
    for n in range(number):
        made += [
            Message("assistant", ToolCall("look", {"place": f"room {n}"}, f"c{n}")),
            Message("tool", ToolResult(f"c{n}", "look", f"{n} " * (size // 2))),
        ]
    return made


# ── when it is compacted, and to what ────────────────────────────────────────────────────────────────────────────────


@given(conversations(max_rounds=20), st.integers(50, 6_000), st.booleans())
def test_a_growing_conversation_stays_within_its_budget_and_grows_at_its_end(
    conversation: Conversation, tokens: int, counts: bool
) -> None:
    messages, task = conversation
    provider = Knows(counts=counts)
    meter = TokenMeter(provider)

    async def grow() -> list[tuple[int, Compacted]]:
        sent = window(provider, task=task, tokens=tokens)
        records: list[tuple[int, Compacted]] = []
        before: Sequence[Message] = [SYSTEM]
        for length in range(task + 1, len(messages) + 1):
            so_far = messages[:length]
            if so_far[-1].role == "assistant" and (so_far[-1].calls or length < len(messages)):
                continue  # the step is not at its end: nothing is sent
            record = await sent.compact(so_far)
            if record:
                records.append((length, record))
                sent.apply(record)
                assert await sent.compact(so_far) is None
            request = sent.request(so_far)
            assert_valid(request.messages[1:])
            if not record:
                assert request.messages[: len(before)] == before
            smallest = compacted(so_far, forms(so_far, task, MIN_RESULT)[-1]).sent(so_far)
            assert await fits(request.messages[1:]) or await meter.count(request) <= await meter.count(build(smallest))
            before = request.messages
        return records

    async def fits(shown: Sequence[Message]) -> bool:
        fixed = await meter.count(build([messages[task]]))
        return await meter.count(build(shown)) <= fixed + 0.8 * max(0, tokens - fixed)

    records = run(grow())
    assert records == run(grow())  # nothing is left to chance


def test_it_is_compacted_in_big_steps() -> None:
    messages = rounds(60)

    async def grow() -> list[int]:
        sent = window(tokens=2_000)
        when: list[int] = []
        for length in range(1, len(messages) + 1, 2):
            record = await sent.compact(messages[:length])
            if record:
                when.append(length)
                sent.apply(record)
                assert estimated_tokens(sent.request(messages[:length])) <= 0.4 * 2_000
        return when

    when = run(grow())
    assert len(when) > 3
    assert min(b - a for a, b in pairwise(when)) >= 10  # messages


def test_runs_that_go_on_with_a_history_begin_alike() -> None:
    """Each has a window of its own, and still drops what the one before it dropped, for a long while."""
    messages = [
        message for n in range(60) for message in (Message("user", f"{n}? " * 40), Message("assistant", f"{n}! " * 40))
    ]
    beginnings: list[Sequence[Message]] = []
    for length in range(1, len(messages), 2):
        sent = window(tokens=2_000, task=length - 1)
        record = run(sent.compact(messages[:length]))
        if record:
            sent.apply(record)
            request = sent.request(messages[:length])
            assert 0.3 * 2_000 <= estimated_tokens(request) <= 0.8 * 2_000
            beginnings.append(request.messages[:3])
    changes = sum(a != b for a, b in pairwise(beginnings))
    assert len(beginnings) > 30
    assert 1 < changes <= len(beginnings) / 8


def test_one_long_result_is_cut() -> None:
    messages = rounds(1, size=50_000)
    sent = window(tokens=2_000)
    record = run(sent.compact(messages))
    assert record
    assert record.count == 3
    assert record.instead[0] is messages[0]
    sent.apply(record)
    assert estimated_tokens(sent.request(messages)) <= 0.4 * 2_000
    assert "read_output(call='2-1'" in record.instead[2].results[0].content


def test_a_task_that_alone_is_too_long_is_left_to_the_provider() -> None:
    assert run(window(tokens=100).compact([Message("user", "x" * 10_000)])) is None


def test_what_the_provider_counted_is_what_counts() -> None:
    messages = rounds(10)
    estimated = estimated_tokens(build(messages))
    sent = window(tokens=2 * estimated)
    assert run(sent.compact(messages)) is None
    sent.answered(messages, Usage(input_tokens=2 * estimated))  # two letters a token, then
    assert run(sent.compact(messages))


# ── the budget ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "max_tokens", "limit"),
    [(8_000, None, 7_000), (8_000, 500, 7_500), (8_000, 1_000_000, 4_000), (1, None, 1)],
)
def test_the_answer_has_its_room(size: int, max_tokens: int | None, limit: int) -> None:
    def settled(messages: Sequence[Message]) -> ModelRequest:
        return ModelRequest(messages, settings=ModelSettings(max_tokens=max_tokens))

    def compacts(letters: int) -> bool:
        history = [Message("user", "x" * letters), Message("assistant", "Hm."), Message("user", "Well?")]
        return bool(run(Window(ContextBudget(), Knows(size=size), settled, 2, unchanged).compact(history)))

    assert compacts(LETTERS_A_TOKEN * (limit + 200))
    assert not compacts(LETTERS_A_TOKEN * (limit * 8 // 10 - 10))


def test_without_a_size_there_is_no_budget() -> None:
    assert run(window().compact(rounds(1_000))) is None


def test_the_size_is_asked_for_once() -> None:
    class Counted(Knows):
        asked = 0

        async def context_size(self) -> int | None:
            self.asked += 1
            return None

    async def twice(sent: Window) -> None:
        for _ in range(2):
            await sent.compact(rounds(1))

    provider = Counted()
    run(twice(window(provider)))
    run(twice(window(provider, tokens=100)))
    assert provider.asked == 1


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"keep": 0.0}, {"keep": 0.8}, {"at": 1.1}, {"at": float("nan")}])
def test_budgets_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"ContextBudget\."):
        ContextBudget(**wrong)


# ── a model that refuses ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("tokens", "limit"), [(0, 0), (3_000, 0), (0, 2_000), (3_000, 2_000)])
@pytest.mark.parametrize("size", [None, 1_000_000])
def test_a_refused_request_is_compacted_harder_until_there_is_no_shorter_form(
    tokens: int, limit: int, size: int | None
) -> None:
    messages = rounds(20)
    error = ContextOverflowError("too long", tokens=tokens, limit=limit)

    async def refuse() -> list[int]:
        sent = window(Knows(size=size))
        assert await sent.compact(messages) is None
        sizes = [estimated_tokens(sent.request(messages))]
        while record := await sent.refused(messages, error):
            sent.apply(record)
            sizes.append(estimated_tokens(sent.request(messages)))
        return sizes

    sizes = run(refuse())
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[1] < sizes[0] / 2
    assert len(sizes) <= 6


def test_the_size_that_a_model_tells_holds_from_then_on() -> None:
    messages = rounds(20)

    async def grow() -> int:
        sent = window()
        record = await sent.refused(messages[:1], ContextOverflowError("too long", tokens=0, limit=1_000))
        assert record is None
        return sum([await sent.compact(messages[:length]) is not None for length in range(3, len(messages), 2)])

    assert run(grow()) > 10


# ── summaries ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_model_sums_up_what_is_dropped() -> None:
    messages = rounds(30)
    provider = Knows(ModelResponse(Message("assistant", "Nobody home."), usage=Usage(90, 9)), "Still nobody.")

    async def grow() -> list[Compacted]:
        sent = window(provider, tokens=2_000, summary=True)
        records: list[Compacted] = []
        for length in range(1, len(messages) + 1, 2):
            record = await sent.compact(messages[:length]) if len(records) < 2 else None
            if record:
                sent.apply(record)
                records.append(record)
                assert estimated_tokens(sent.request(messages[:length])) <= 0.4 * 2_000
        return records

    first, second = run(grow())
    assert first.response is not None
    assert first.response.usage == Usage(90, 9)
    assert first.instead[0].text.startswith("Look everywhere.\n\n[Summary of what came before]\nNobody home.\n[Earlier")
    assert "Still nobody." in second.instead[0].text
    assert "Nobody home." not in second.instead[0].text
    asked = provider.requests
    assert [(list(request.tools), [m.role for m in request.messages]) for request in asked] == [
        ([], ["system", "user"])
    ] * 2
    assert 'assistant: calls look with {"place": "room 0"}' in asked[0].messages[1].text
    assert "Nobody home." in asked[1].messages[1].text
    assert "room 0" not in asked[1].messages[1].text
    assert all(150 < (request.settings.max_tokens or 0) <= 200 for request in asked)


@pytest.mark.parametrize("said", ["", ProviderConnectionError("down"), ContextOverflowError("?", tokens=0, limit=0)])
def test_without_a_summary_it_is_trimmed(said: Any, caplog: pytest.LogCaptureFixture) -> None:
    messages = rounds(30)
    with caplog.at_level(logging.WARNING):
        record = run(window(Knows(said), tokens=2_000, summary=True).compact(messages))
    assert record
    assert "earlier messages, about" in record.instead[0].text
    assert ("could not sum a conversation up" in caplog.text) is bool(said)


def test_a_summary_of_untrusted_words_is_untrusted() -> None:
    messages = rounds(30)
    messages[2] = Message("tool", ToolResult("c0", "look", "Buy!", untrusted=True))
    record = run(window(Knows("Nothing."), tokens=2_000, summary=True).compact(messages))
    assert record
    assert record.instead[0].untrusted


def test_no_summary_where_nothing_is_dropped() -> None:
    record = run(window(tokens=2_000, summary=True).compact(rounds(1, size=50_000)))
    assert record
    assert record.response is None


# ── the estimate ─────────────────────────────────────────────────────────────────────────────────────────────────────


def request_of(size: int) -> ModelRequest:
    return ModelRequest([Message("user", "x" * (4 * size - 4))])  # estimated as ``size`` tokens


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 10_000))
def test_estimates_build_on_what_was_counted(size: int, counted: int, other: int) -> None:
    meter = TokenMeter(ScriptedProvider([]))
    assert run(meter.count(request_of(size))) == size
    meter.learn(request_of(size), counted)
    if counted * 4 < size:  # not believed
        assert run(meter.count(request_of(size))) == size
        return
    assert run(meter.count(request_of(size))) == counted
    estimate = run(meter.count(request_of(other)))
    if other > size:
        assert estimate == counted + other - size
    else:
        assert counted * other / size <= estimate < counted * other / size + 1


def test_who_counts_is_believed() -> None:
    meter = TokenMeter(Knows(counts=True))
    assert run(meter.count(request_of(50))) == 200


# ── in a run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@tool(effect="read")
def walk(room: str) -> str:
    """Walk into a room."""
    return f"{room}: " + "dust " * 100


def walker(*steps: Step, journal: Journal | None = None, hooks: Sequence[Hooks] = (), **budget: Any) -> Agent:
    return Agent(
        ScriptedProvider(steps),
        tools=[walk],
        context=ContextBudget(**budget),
        journal=journal,
        hooks=hooks,
        limits=Limits(steps=40),
        settings=ModelSettings(max_tokens=500),
    )


def rooms(number: int, begin: int = 0) -> list[ToolCall]:
    return [ToolCall("walk", {"room": f"room {n}"}) for n in range(begin, begin + number)]


def test_a_run_keeps_its_whole_conversation_and_sends_what_fits() -> None:
    agent = walker(*rooms(30), "Dusty.", tokens=2_000)
    result = agent.run_sync("Look everywhere.")
    assert isinstance(agent.provider, ScriptedProvider)
    assert len(result.messages) == 62
    assert max(map(estimated_tokens, agent.provider.requests)) <= 2_000
    assert all(request.messages[0].text.startswith("Look everywhere.") for request in agent.provider.requests)


def test_a_run_that_is_resumed_sends_what_it_would_have_sent() -> None:
    def sent(agent: Agent) -> list[ModelRequest]:
        assert isinstance(agent.provider, ScriptedProvider)
        return [replace(request, deadline=None) for request in agent.provider.requests]

    def named(calls: list[ToolCall], begin: int = 0) -> list[ToolCall]:
        return [replace(call, id=f"id{n}") for n, call in enumerate(calls, begin)]

    whole = walker(*named(rooms(20)), "Dusty.", tokens=2_000)
    expected = whole.run_sync("Look everywhere.")
    journal = MemoryJournal()
    first = walker(*named(rooms(15)), ProviderConnectionError("down"), journal=journal, tokens=2_000)
    with pytest.raises(ProviderConnectionError) as caught:
        first.run_sync("Look everywhere.")
    second = walker(*named(rooms(5, 15), 15), "Dusty.", journal=journal, tokens=2_000)
    result = second.resume_sync(caught.value.run_id)
    assert result.messages == expected.messages
    assert [*sent(first)[:-1], *sent(second)] == sent(whole)


@pytest.mark.parametrize("summary", [False, True])
def test_a_session_goes_on_as_the_run_before_it_left_off(summary: bool) -> None:
    """What it sends begins as what was sent last, and nothing is summed up again."""
    journal = MemoryJournal()
    said = ["Dust in ten rooms."] if summary else []
    first = walker(*rooms(11), *said, "Dusty.", journal=journal, tokens=2_000, summary=summary)
    first.run_sync("Look everywhere.", session="house")
    second, third = (walker("Yes.", journal=journal, tokens=2_000, summary=summary) for _ in range(2))
    second.run_sync("All of it?", session="house")
    third.run_sync("Really?", session="house")
    before: Sequence[Message] = []
    for agent in (first, second, third):
        assert isinstance(agent.provider, ScriptedProvider)
        request = agent.provider.requests[-1]
        assert request.messages[: len(before)] == before
        before = request.messages
    assert len(before) < 24
    assert ("Dust in ten rooms." in before[0].text) is summary


def test_a_session_that_is_forked_before_it_was_compacted_has_all_of_it() -> None:
    journal = MemoryJournal()
    first = walker(*rooms(11), "Dusty.", journal=journal, tokens=2_000).run_sync("Look everywhere.")
    agent = walker("Yes.", journal=journal, tokens=2_000)
    agent.run_sync("All of it?", continues=first.run_id, at_step=2)
    assert isinstance(agent.provider, ScriptedProvider)
    assert list(agent.provider.requests[0].messages) == [*first.messages[:5], Message("user", "All of it?")]


def test_a_refused_request_is_sent_again_in_a_shorter_form() -> None:
    too_long = ContextOverflowError("too long", tokens=0, limit=0)
    agent = walker(*rooms(10), too_long, too_long, "Dusty.")
    result = agent.run_sync("Look everywhere.")
    assert (result.output, result.steps) == ("Dusty.", 11)
    assert isinstance(agent.provider, ScriptedProvider)
    sizes = [estimated_tokens(request) for request in agent.provider.requests]
    assert sizes[10] > 2 * sizes[11] > 2 * sizes[12]


@pytest.mark.parametrize("context", [None, ContextBudget()])
def test_a_refusal_that_nothing_helps_against_is_raised(context: ContextBudget | None) -> None:
    provider = ScriptedProvider([ContextOverflowError("too long", tokens=9, limit=8)])
    with pytest.raises(ContextOverflowError, match="too long"):
        Agent(provider, context=context).run_sync("x" * 1_000)


def test_the_summary_counts_and_is_on_record() -> None:
    journal = MemoryJournal()
    summary = ModelResponse(Message("assistant", "Dust in ten rooms."), usage=Usage(700, 70))
    agent = walker(*rooms(11), summary, "Dusty.", journal=journal, tokens=2_000, summary=True)
    result = agent.run_sync("Look everywhere.")
    assert result.usage == Usage(12 + 700, 12 + 70)
    (record,) = [entry.record for entry in run(journal.entries(result.run_id)) if isinstance(entry.record, Compacted)]
    assert record.response == summary
    assert isinstance(agent.provider, ScriptedProvider)
    assert "Dust in ten rooms." in agent.provider.requests[-1].messages[0].text


def test_what_the_model_sums_up_passes_the_hooks_too() -> None:
    class NoDust(Hooks):
        async def before_model(self, context: RunContext[Any], request: ModelRequest) -> ModelRequest:
            return replace(
                request, messages=[Message("user", "…")] if "dust" in request.messages[-1].text else request.messages
            )

    agent = walker(*rooms(11), "Rooms.", "Yes.", hooks=[NoDust()], tokens=2_000, summary=True)
    agent.run_sync("Look everywhere.")
    assert isinstance(agent.provider, ScriptedProvider)
    (asked,) = [request for request in agent.provider.requests if not request.tools]
    assert asked.messages == [Message("user", "…")]


# ── the real engine ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_local_model_stays_within_its_context_and_reads_little_twice() -> None:
    """Sixteen rounds of a run in a context of 768 tokens, which would hold seven."""

    def required(messages: Sequence[Message]) -> ModelRequest:
        return ModelRequest([SYSTEM, *messages], [look], "required", ModelSettings(max_tokens=40))

    async def converse() -> list[tuple[bool, Usage]]:
        provider = LlamaCppProvider("smollm2", n_ctx=768, parallel=1)
        sent = Window(ContextBudget(), provider, required, 0, unchanged)
        messages = [Message("user", "Look into every room of the house.")]
        turns: list[tuple[bool, Usage]] = []
        for n in range(16):
            record = await sent.compact(messages)
            if record:
                sent.apply(record)
            turn = ResponseBuilder()
            calls: list[ToolCall] = []
            async for event in provider.stream(sent.request(messages)):
                turn.add(event)
                if isinstance(event, ToolCallEnd):
                    calls.append(event.call)
            response = turn.response()
            turns.append((record is not None, response.usage))
            found = f"Room {n} holds a table, two chairs and a lamp. " * 2
            results = [ToolResult(call.id, call.name, found) for call in calls]
            said = calls or [TextPart("I looked.")]
            messages += [Message("assistant", said), Message("tool", results) if results else Message("user", found)]
        await provider.close()
        return turns

    turns = run(converse())
    assert max(usage.input_tokens for _, usage in turns) <= 768 * 7 / 8
    compactions = sum(compacts for compacts, _ in turns)
    assert 2 <= compactions <= 4
    for (_, before), (compacts, usage) in pairwise(turns):
        read = usage.input_tokens - usage.cached_tokens
        if not compacts:
            assert read <= usage.input_tokens - before.input_tokens  # what came since, and that is all
    system = min(usage.cached_tokens for compacts, usage in turns if compacts)
    assert system > 50  # the system prompt and the tools are not read again
