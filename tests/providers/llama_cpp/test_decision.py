"""Whether a tool is needed, on a model never trained on tools: the real SmolLM2, asked with tool_choice auto."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from agentkit import Agent, Message, ModelSettings, tool
from agentkit.messages import ModelResponse
from agentkit.providers.llama_cpp import LlamaCppProvider

BRIEF = ModelSettings(max_tokens=48)

# Neither these requests nor these tools are those by which the thresholds were set.
FOR_A_TOOL = [
    "Translate good morning into Italian.",
    "How do you say thank you in Japanese?",
    "Email Bob that the meeting is at noon.",
    "Send a mail to anna@example.com about the invoice.",
    "How many yen is a dollar?",
    "Convert euros to pounds.",
    "Find me a Thai recipe with shrimp.",
    "What can I cook with eggplant?",
    "Put 'see you soon' into German.",
    "Write to my boss that I am ill today.",
    "What's the rate from Swiss francs to euros?",
    "I'd like an Indian dish with lentils.",
]
FOR_NONE = [
    "Hello there",
    "What is the capital of Peru?",
    "Tell me a joke.",
    "Explain gravity in one sentence.",
    "Who painted the Mona Lisa?",
    "I am bored.",
    "How many days are in a week?",
    "Write two lines about autumn.",
    "What is the opposite of hot?",
    "Thanks, that was helpful.",
    "Why is the sky blue?",
    "Which is heavier, iron or wood?",
]


@tool
def translate(text: str, language: str) -> str:
    """Translate a text into another language."""
    return text


@tool
def send_email(to: str, subject: str) -> str:
    """Send an email to somebody."""
    return "sent"


@tool
def exchange_rate(source: str, target: str) -> float:
    """The exchange rate between two currencies."""
    return 1.5


@tool
def find_recipe(ingredient: str, cuisine: str) -> str:
    """Find a recipe with an ingredient, from some country's cuisine."""
    return "soup"


@tool
def stock_price(company: str) -> float:
    """The current price of a company's share."""
    return 17.5


@tool
def weather(city: str) -> str:
    """The weather in a city now."""
    return ""


TOOLS = [translate, send_email, exchange_rate, find_recipe]


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
    """The margins are thin on so small a model, and a processor's rounding moves some requests across the threshold; by
    chance 12 of the 24 would be right."""
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
    request = [Message("user", "What is the rate from euros to pounds?")]
    asyncio.run(provider.complete(request, tools=TOOLS, settings=BRIEF))
    before = provider.statistics.evaluated
    response = asyncio.run(provider.complete(request, tools=TOOLS, settings=BRIEF))
    again = provider.statistics.evaluated - before
    assert again < 3 * provider.count_text(request[0].text) + response.usage.output_tokens + 12


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
