"""Optional arguments that nobody spoke of."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from agentkit import Message, ModelSettings, tool
from agentkit.events import TextDelta, ToolCallEnd
from agentkit.messages import JsonObject, ToolCall, ToolResult
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.made_up import MadeUp


@tool
def weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius", include_wind: bool = False) -> str:
    """The weather in a city now."""
    return f"{city} {unit} {include_wind}"


@tool
def book(
    room: str,
    people: int = 1,
    discount: float = 0,
    budget: float = 0,
    day: str = "today",
    guests: list[str] | None = None,
    options: dict[str, str] | None = None,
) -> str:
    """Book a room."""
    return room


def counted(request: str, arguments: JsonObject, *before: Message) -> JsonObject:
    """The arguments that are left of a call."""
    made_up = MadeUp([*before, Message("user", request)], [weather, book])
    name = "weather" if "city" in arguments else "book"
    (event,) = made_up.left_out([ToolCallEnd(ToolCall(name, arguments))])
    assert isinstance(event, ToolCallEnd)
    return event.call.arguments


CASES: list[tuple[str, JsonObject, str]] = [
    ("How is it in Oslo?", {"city": "Oslo", "unit": "celsius", "include_wind": True}, "city"),
    ("How is it?", {"city": "Oslo", "unit": "celsius"}, "city"),  # what is required stays, made up or not
    ("Weather in Oslo, in Fahrenheit", {"city": "Oslo", "unit": "fahrenheit"}, "city unit"),
    ("Is it windy in Oslo?", {"city": "Oslo", "include_wind": True}, "city include_wind"),
    ("Weather in Oslo, please include all", {"city": "Oslo", "include_wind": True}, "city include_wind"),
    ("The blue room for two", {"room": "blue", "people": 2, "discount": 0.1}, "room people"),
    ("The blue room at 5% off", {"room": "blue", "people": 3, "discount": 0.05}, "room discount"),
    ("Blue, at most 1.5 million", {"room": "blue", "budget": 1500000.0, "people": 10}, "room budget"),
    ("Blue, at most 2,500", {"room": "blue", "budget": 2500}, "room budget"),
    ("Blue, on March 8th", {"room": "blue", "day": "2025-03-08"}, "room day"),
    ("Blue, on March 8th", {"room": "blue", "day": "2025-04-11"}, "room"),
    ("Blue for Ann and Bob", {"room": "blue", "guests": ["Ann", "Bob"], "options": {"wine": "red"}}, "room guests"),
    ("Blue, and no discount", {"room": "blue", "discount": 0, "guests": None}, "room discount"),
]


@pytest.mark.parametrize(("request_", "arguments", "left"), CASES)
def test_what_counts(request_: str, arguments: JsonObject, left: str) -> None:
    assert counted(request_, arguments) == {key: arguments[key] for key in left.split()}


def test_what_was_said_before_counts_too() -> None:
    before = [
        Message("system", "Prefer fahrenheit."),
        Message("user", "My room is for 6."),
        Message("tool", ToolResult("1", "calendar", "free on 2025-03-08")),
    ]
    asked = {"room": "blue", "people": 6, "day": "2025-03-08"}
    assert counted("Book it", asked, *before) == asked
    assert counted("How is it?", {"city": "Oslo", "unit": "fahrenheit"}, *before)["unit"] == "fahrenheit"


def test_a_call_says_what_was_left_out_and_all_else_stays() -> None:
    made_up = MadeUp([Message("user", "Weather in Oslo")], [weather])
    call = ToolCall("weather", {"city": "Oslo", "unit": "celsius"})
    text = TextDelta("Let me see.")
    given = [text, ToolCallEnd(call), ToolCallEnd(ToolCall("unknown", {"x": 1}))]
    passed = list(made_up.left_out(given))
    assert passed[0] == text
    assert isinstance(passed[1], ToolCallEnd)
    assert passed[1].call.repairs == ["left out unit: nobody spoke of it"]


def test_a_small_model_s_call() -> None:
    provider = LlamaCppProvider("smollm2", n_ctx=1024)
    settings = ModelSettings(max_tokens=80)
    asked = provider.complete("How is the weather in Oslo?", tools=[weather], tool_choice="required", settings=settings)
    assert [call.arguments for call in asyncio.run(asked).calls] == [{"city": "Oslo"}]
