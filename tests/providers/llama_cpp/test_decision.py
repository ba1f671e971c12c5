"""Whether a tool is needed, on a model never trained on tools: the real SmolLM2, asked with tool_choice auto."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from agentkit import Agent, Message, ModelSettings, tool
from agentkit.messages import ModelResponse
from agentkit.providers.llama_cpp import LlamaCppProvider

BRIEF = ModelSettings(max_tokens=48)

# Not the requests by which the threshold was set.
FOR_A_TOOL = [
    "Remind me to call mom at six.",
    "What is Apple trading at?",
    "Where are my PDF files in Documents?",
    "How do I get from Hamburg to Munich by train?",
    "Don't let me forget the dentist tomorrow at 9.",
    "Price of a Tesla share please",
    "List all the log files in /var/log.",
    "I want to walk from the station to the museum, which way?",
    "At 5 pm tell me to take out the trash.",
    "Is there a file called budget.xlsx in my downloads?",
    "How expensive is Microsoft stock today?",
    "Directions to Boston from New York by car",
]
FOR_NONE = [
    "Hi there",
    "What is 2 plus 2?",
    "Who is the president of the United States?",
    "Give me a recipe for pancakes.",
    "What does photosynthesis mean?",
    "I feel sad today.",
    "Write a haiku about snow.",
    "Which planet is the largest?",
    "Good morning! How are you?",
    "Summarize the plot of Romeo and Juliet.",
    "Is the earth flat?",
    "Recommend me a good book.",
]


@tool
def set_reminder(text: str, time: str) -> str:
    """Remind the user of something at a time."""
    return "done"


@tool
def stock_price(company: str) -> float:
    """The current price of a company's share."""
    return 17.5


@tool
def find_files(pattern: str, folder: str) -> list[str]:
    """Find files by name in a folder."""
    return []


@tool
def route(start: str, destination: str, mode: str) -> str:
    """The way from one place to another, by car, train or on foot."""
    return ""


@tool
def weather(city: str) -> str:
    """The weather in a city now."""
    return ""


TOOLS = [set_reminder, stock_price, find_files, route]


@pytest.fixture(scope="module")
def provider() -> Iterator[LlamaCppProvider]:
    made = LlamaCppProvider("smollm2", n_ctx=4096)
    yield made
    asyncio.run(made.close())


def answers(provider: LlamaCppProvider, requests: Sequence[str]) -> list[ModelResponse]:
    async def go() -> list[ModelResponse]:
        asked = (provider.complete(request, tools=TOOLS, settings=BRIEF) for request in requests)
        return list(await asyncio.gather(*asked))

    return asyncio.run(go())


def test_requests_that_need_a_tool_are_told_from_others(provider: LlamaCppProvider) -> None:
    """The margins are thin on so small a model, and a processor's rounding moves some requests across the threshold:
    21 of the 24 are right on one, 19 on another; by chance it would be 12."""
    called = [bool(response.calls or response.problems) for response in answers(provider, FOR_A_TOOL)]
    answered = [not response.calls and bool(response.text) for response in answers(provider, FOR_NONE)]
    assert sum(called) + sum(answered) >= 17
    assert min(sum(called), sum(answered)) >= 6


def test_an_agent_needs_no_tool_choice(provider: LlamaCppProvider) -> None:
    agent = Agent(provider, tools=[stock_price], settings=BRIEF)
    run = agent.run_sync("What is the current price of the Nokia share?")
    assert [call.arguments for call in run.messages[1].calls] == [{"company": "Nokia"}]
    assert "17.5" in run.output
    assert agent.run_sync("Write a haiku about snow.").steps == 1


def test_what_is_decided_costs_little_when_it_is_asked_again(provider: LlamaCppProvider) -> None:
    request = [Message("user", "What is Nokia trading at?")]
    asyncio.run(provider.complete(request, tools=TOOLS, settings=BRIEF))
    before = provider.statistics.evaluated
    response = asyncio.run(provider.complete(request, tools=TOOLS, settings=BRIEF))
    again = provider.statistics.evaluated - before
    assert again < 3 * provider.count_text("What is Nokia trading at?") + response.usage.output_tokens + 12


class TestSeveralCalls:
    def ask(self, provider: LlamaCppProvider, request: str) -> list[object]:
        settings = ModelSettings(max_tokens=150)
        response = asyncio.run(provider.complete(request, tools=[weather], tool_choice="required", settings=settings))
        assert response.problems == []
        return [call.arguments["city"] for call in response.calls]

    def test_one_for_each_thing_that_is_asked_for(self, provider: LlamaCppProvider) -> None:
        assert self.ask(provider, "Weather in Oslo, Paris and Rome?") == ["Oslo", "Paris", "Rome"]

    def test_none_is_made_twice_or_made_up(self, provider: LlamaCppProvider) -> None:
        assert self.ask(provider, "Weather in Oslo?") == ["Oslo"]
