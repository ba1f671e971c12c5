"""The providers of both OpenAI APIs against llama.cpp's own server, with the real SmolLM2 under a template that shows
tools."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from agentkit import Agent, ModelSettings, ToolCall, ToolResult, tool
from agentkit.errors import ContextOverflowError, OutputError, UnsupportedInputError
from agentkit.events import TextDelta
from agentkit.messages import ImagePart, Message, ModelResponse, ReasoningPart, TextPart
from agentkit.providers.base import ModelRequest
from agentkit.providers.litellm import LiteLLMProvider
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.openai_responses import OpenAIResponsesProvider
from agentkit.providers.profiles import LLAMA_CPP, OPENAI
from agentkit.providers.retry import Retry
from agentkit.testing.http import RecordedTransport


@pytest.fixture(params=[OpenAIProvider, OpenAIResponsesProvider])
def provider(request: pytest.FixtureRequest, base_url: str) -> OpenAIProvider | OpenAIResponsesProvider:
    made: OpenAIProvider | OpenAIResponsesProvider = request.param("smollm2", base_url)
    return made


def test_text_streams_and_is_counted(provider: OpenAIProvider | OpenAIResponsesProvider) -> None:
    async def collect() -> list[object]:
        settings = ModelSettings(max_tokens=12, temperature=0)
        return [
            event
            async for event in provider.stream(ModelRequest([Message("user", "Say hello.")], (), "auto", settings))
        ]

    *texts, last = asyncio.run(collect())
    assert len([event for event in texts if isinstance(event, TextDelta)]) > 3
    assert last.finish_reason in ("stop", "length")  # type: ignore[attr-defined]
    assert 0 < last.usage.output_tokens <= 12  # type: ignore[attr-defined]


def test_a_history_with_calls_and_results_is_understood(provider: OpenAIProvider | OpenAIResponsesProvider) -> None:
    @tool
    def weather(city: str) -> str:
        """The weather in a city now."""
        return "7 degrees, rain"

    conversation = [
        Message("user", "How is the weather in Oslo?"),
        Message(
            "assistant",
            [ReasoningPart("Hm."), TextPart("Let me look."), ToolCall("weather", {"city": "Oslo"}, "call00001")],
        ),
        Message("tool", ToolResult("call00001", "weather", "7 degrees, rain")),
    ]
    settings = ModelSettings(temperature=0, max_tokens=40)
    response = asyncio.run(provider.complete(conversation, tools=[weather], settings=settings))
    assert response.problems == []
    assert response.text or response.calls
    assert response.usage.input_tokens > 150  # the tool's description was rendered


def test_what_came_over_the_wire_is_played_without_the_server(base_url: str, tmp_path: Path) -> None:
    def answer() -> ModelResponse:
        provider = OpenAIProvider("smollm2", base_url, transport=RecordedTransport(tmp_path / "wire.jsonl"))
        return asyncio.run(provider.complete("Say hello.", settings=ModelSettings(max_tokens=12, temperature=0)))

    recorded, size = answer(), (tmp_path / "wire.jsonl").stat().st_size
    assert answer() == recorded
    assert (tmp_path / "wire.jsonl").stat().st_size == size  # the server was not asked again


def test_a_prompt_that_is_too_long(provider: OpenAIProvider | OpenAIResponsesProvider) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        asyncio.run(provider.complete("word " * 3000))
    assert caught.value.tokens > 3000
    assert caught.value.limit == 2048


def test_the_token_limit_is_noticed(provider: OpenAIProvider | OpenAIResponsesProvider) -> None:
    response = asyncio.run(provider.complete("Tell me a story.", settings=ModelSettings(max_tokens=3)))
    assert (response.finish_reason, response.usage.output_tokens) == ("length", 3)


def test_the_server_says_what_it_can_do(base_url: str) -> None:
    assert asyncio.run(OpenAIProvider("smollm2", base_url).profile()) == replace(LLAMA_CPP, sees=False, context=2048)


def test_an_image_is_refused_before_it_is_sent(provider: OpenAIProvider | OpenAIResponsesProvider) -> None:
    with pytest.raises(UnsupportedInputError, match="does not see"):
        asyncio.run(provider.complete(Message("user", ImagePart(b"\x89PNG"))))


def test_an_image_that_a_tool_shows_is_told_in_words(provider: OpenAIProvider | OpenAIResponsesProvider) -> None:
    conversation = [
        Message("user", "Draw a cat."),
        Message("assistant", [ToolCall("draw", {}, "call00001")]),
        Message("tool", ToolResult("call00001", "draw", "done", images=(ImagePart(b"\x89PNG"),))),
    ]
    assert asyncio.run(provider.complete(conversation, settings=ModelSettings(max_tokens=3))).text


def test_an_answer_is_held_to_a_schema(base_url: str) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"name": {"enum": ["Anna", "Bert"], "type": "string"}, "old": {"type": "boolean"}},
        "required": ["name", "old"],
    }
    provider = OpenAIProvider("smollm2", base_url)
    settings = ModelSettings(max_tokens=60)
    response = asyncio.run(provider.complete("Who is 7?", output_schema=schema, settings=settings))
    assert json.loads(response.text).keys() == {"name", "old"}


def test_a_schema_would_keep_the_model_from_calling(base_url: str) -> None:
    """What the profile says of this server is still so: the answer is held to the schema, whatever the tools are."""

    @tool
    def weather(city: str) -> str:
        """The weather in a city now."""
        return "7 degrees, rain"

    schema: dict[str, object] = {"type": "object", "properties": {"a": {"enum": ["b"], "type": "string"}}}
    provider = OpenAIProvider("smollm2", base_url, profile=OPENAI)
    settings = ModelSettings(max_tokens=60)
    response = asyncio.run(
        provider.complete("How is the weather in Oslo?", tools=[weather], output_schema=schema, settings=settings)
    )
    assert response.calls == []
    assert response.text.lstrip().startswith("{")


def test_litellm_against_the_same_server(base_url: str) -> None:
    @tool
    def weather(city: str) -> str:
        """The weather in a city now."""
        return "7 degrees, rain"

    provider = LiteLLMProvider("openai/smollm2", base_url, "no-key", retry=Retry(attempts=1))
    settings = ModelSettings(temperature=0, max_tokens=12)
    response = asyncio.run(provider.complete("How is the weather in Oslo?", tools=[weather], settings=settings))
    assert response.text or response.calls or response.problems
    bare = asyncio.run(provider.complete("How is the weather in Oslo?", settings=settings))
    assert response.usage.input_tokens > bare.usage.input_tokens + 30  # the tool's description was rendered
    assert 0 < response.usage.output_tokens <= 12
    with pytest.raises(ContextOverflowError) as caught:
        asyncio.run(provider.complete("word " * 3000))
    assert caught.value.tokens > 3000
    assert caught.value.limit == 2048


class Person(BaseModel):
    name: Literal["Anna", "Bert"]
    old: bool


def test_an_agent_answers_with_a_type(base_url: str) -> None:
    agent = Agent(OpenAIProvider("smollm2", base_url), output=list[Person], settings=ModelSettings(max_tokens=200))
    try:
        people = agent.run_sync("Who is old: Anna or Bert?").output
    except OutputError as error:  # on another processor it may not come to an end
        assert error.result.stop_reason == "length"
        assert error.result.output.lstrip().startswith("{")
    else:
        assert all(isinstance(person, Person) for person in people)
