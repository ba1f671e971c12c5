"""CompletionsProvider against llama.cpp's own server: what SmolLM2 writes is held to a grammar there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Limits, ModelSettings, tool
from agentkit.errors import ContextOverflowError
from agentkit.providers.completions import CompletionsProvider
from agentkit.providers.profiles import LLAMA_CPP
from agentkit.tool import Tool

SETTINGS = ModelSettings(max_tokens=60)


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"7 degrees in {city}"


@tool
def set_timer(minutes: int, label: str) -> str:
    """Set a kitchen timer."""
    return f"{label}: {minutes}"


def test_a_call_that_is_required_is_one_of_the_tools(base_url: str) -> None:
    provider = CompletionsProvider("smollm2", base_url)
    asked = provider.complete(
        "How is the weather in Oslo?", tools=[weather, set_timer], tool_choice="required", settings=SETTINGS
    )
    response = asyncio.run(asked)
    assert asyncio.run(provider.profile()).server == LLAMA_CPP.server
    (call,) = response.calls
    {"weather": weather, "set_timer": set_timer}[call.name].validate(call.arguments)
    assert response.reasoning == f"I need the tool {call.name}."
    assert response.problems == []
    assert response.usage.input_tokens > 200
    assert 0 < response.usage.output_tokens <= 60


STRANGE: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {'a "b"': {"type": "string"}, "é": {"enum": ["x\\n", 2, None]}},
        "required": ["é"],
    },
    {"type": "object", "properties": {"a": {}, "b": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}}},
    {"type": "object", "properties": {"a": {"type": "array"}, "b": True}, "required": ["a", "b", "c"]},
    {"type": "object"},
]


@pytest.mark.parametrize("choice", ["auto", "required", "strange.tool-1"])
def test_the_server_takes_the_grammar_of_any_schema(base_url: str, choice: str) -> None:
    tools = [Tool.from_schema(f"strange.tool-{place}", "Does it.", given) for place, given in enumerate(STRANGE)]
    provider = CompletionsProvider("smollm2", base_url, profile=LLAMA_CPP)
    asked = provider.complete("Do it.", tools=tools, tool_choice=choice, settings=ModelSettings(max_tokens=8))
    assert asyncio.run(asked).usage.output_tokens > 0


def test_a_run_from_the_call_to_the_answer(base_url: str) -> None:
    provider = CompletionsProvider("smollm2", base_url)
    agent = Agent(provider, tools=[weather], tool_choice="weather", settings=SETTINGS, limits=Limits(steps=2))
    result = agent.run_sync("How is the weather in Oslo?")
    assert [message.role for message in result.messages][:4] == ["user", "assistant", "tool", "assistant"]
    assert result.messages[2].results[0].error is None
    assert result.problems == []


def test_the_example_runs_against_a_server(base_url: str) -> None:
    script = Path(__file__).parents[2] / "examples" / "before_chat.py"
    done = subprocess.run(
        [sys.executable, script, "smollm2", base_url], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("-> population({'country': ")


def test_without_tools_the_turn_ends_before_the_next(base_url: str) -> None:
    response = asyncio.run(CompletionsProvider("smollm2", base_url).complete("Say hi.", settings=SETTINGS))
    assert response.text
    assert "User:" not in response.text


def test_a_prompt_that_is_too_long(base_url: str) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        asyncio.run(CompletionsProvider("smollm2", base_url).complete("word " * 3000))
    assert caught.value.tokens > 3000
    assert caught.value.limit == 2048
