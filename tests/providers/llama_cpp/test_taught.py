"""Tools taught in the prompt, to a model whose template knows none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from agentkit import Message, ModelSettings, Tool, ToolCall, ToolExample, tool
from agentkit.messages import ToolResult
from agentkit.providers.in_context import MAX_EXAMPLES, MAX_MADE_UP
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.llama_cpp.chat_template import PLAIN_TEMPLATE
from agentkit.providers.llama_cpp.taught import TAUGHT, teach


@tool
def stock_price(symbol: str) -> str:
    """The latest price of a stock.

    Args:
        symbol: Ticker symbol, such as AAPL.
    """
    return ""


@tool
def convert(
    value: float,
    unit: Annotated[str, Field(examples=["km"])],
    to: Literal["miles", "feet"],
    label: str,
    note: str = "",
) -> str:
    """Convert a value to another unit."""
    return ""


@tool(
    examples=[ToolExample("Rome?", {"city": "Rome"}, "21", "21."), ToolExample("Lima?", {"city": "Lima"}, "18", "18.")]
)
def weather(city: str) -> str:
    """The weather in a city."""
    return ""


def taught(*tools: Tool[..., Any], messages: tuple[Message, ...] = (Message("user", "Hi"),)) -> list[Message]:
    return teach(messages, tools, [tool.openai_schema for tool in tools])


def calls(messages: list[Message]) -> list[dict[str, Any]]:
    written = [message.text for message in messages if "<tool_call>" in message.text and message.role == "assistant"]
    return [json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>")) for text in written]


def test_a_tool_s_own_examples_are_shown() -> None:
    assert [call["arguments"]["city"] for call in calls(taught(weather))] == ["Rome", "Lima"]


def test_examples_are_made_up_from_the_schema_of_a_tool_that_has_none() -> None:
    messages = taught(stock_price, convert)
    assert calls(messages) == [
        {"name": "stock_price", "arguments": {"symbol": "AAPL"}},
        {"name": "convert", "arguments": {"value": 12, "unit": "km", "to": "miles", "label": "Rome"}},
    ]
    assert messages[1].text == "The latest price of a stock: AAPL"
    assert messages[4].text.startswith("The result is 17.2")
    for call, offered in zip(calls(messages), (stock_price, convert), strict=True):
        offered.validate(call["arguments"])


@pytest.mark.parametrize(
    ("description", "value"),
    [
        ("The city and state, e.g. San Francisco, CA.", "San Francisco, CA"),
        ("The city, such as 'oslo, norway' or 'rome'", "oslo, norway"),
        ("For example: https://example.org/a.", "https://example.org/a"),
        ("A language, such as Python or C.", "Python"),
        ("A unit, e.g., km.", "km"),
    ],
)
def test_an_example_in_a_description_is_taken_whole(description: str, value: str) -> None:
    """What is cut off in an example, a small model cuts off in its calls."""
    parameters = {
        "type": "object",
        "properties": {"x": {"type": "string", "description": description}},
        "required": ["x"],
    }
    assert calls(taught(Tool.from_schema("f", "Does it.", parameters)))[0]["arguments"] == {"x": value}


def test_no_value_is_made_up_twice() -> None:
    tools = [Tool.from_schema(f"f{n}", "Does it.", weather.parameters) for n in range(5)]
    values = [call["arguments"]["city"] for call in calls(taught(*tools))]
    assert len(set(values)) == 5


def test_the_examples_are_few_and_the_same_each_time() -> None:
    many = [Tool.from_schema(f"f{n}", "Does it.", weather.parameters) for n in range(50)]
    assert len(calls(taught(*many))) == MAX_MADE_UP
    assert len(calls(taught(*[weather] * 5))) == MAX_EXAMPLES
    assert taught(*many) == taught(*many)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"type": "object"},
        {"type": "object", "properties": {"a": True, "b": {}}, "required": ["a", "b", "c"]},
        {
            "type": "object",
            "properties": {"a": {"type": ["string", "null"]}, "b": {"enum": []}},
            "required": ["a", "b"],
        },
        {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "boolean"}}}, "required": ["a"]},
    ],
)
def test_any_schema_does(parameters: dict[str, Any]) -> None:
    assert len(calls(taught(Tool.from_schema("f", "", parameters)))) == 1


def test_calls_and_results_become_text() -> None:
    call = ToolCall("weather", {"city": "Oslo"}, "1")
    talk = (Message("assistant", call), Message("tool", ToolResult("1", "weather", "7 degrees")))
    first, second = taught(messages=talk)
    assert (first.role, first.text) == ("assistant", TAUGHT.write_calls([call]))
    assert (second.role, second.text.split("\n")[0]) == ("user", "The result is: 7 degrees")


@pytest.fixture(scope="module", params=[None, PLAIN_TEMPLATE], ids=["chat", "base"])
def provider(request: pytest.FixtureRequest) -> Iterator[LlamaCppProvider]:
    made = LlamaCppProvider("smollm2", chat_template=request.param)
    yield made
    asyncio.run(made.close())


@pytest.mark.parametrize(
    ("request_", "name", "said"),
    [
        ("What is the price of TSLA stock?", "stock_price", "TSLA"),
        ("Check the stock price of NVDA.", "stock_price", "NVDA"),
        ("Search the web for the height of the Eiffel Tower.", "web_search", "Eiffel"),
    ],
)
def test_a_small_model_finds_the_tool_and_the_arguments(
    provider: LlamaCppProvider, request_: str, name: str, said: str
) -> None:
    @tool
    def web_search(query: str) -> str:
        """Search the web."""
        return ""

    asked = provider.complete(
        request_, tools=[stock_price, web_search], tool_choice="required", settings=ModelSettings(max_tokens=60)
    )
    (called,) = asyncio.run(asked).calls
    assert called.name == name
    assert said in str(called.arguments)


def test_the_turn_of_a_base_model_ends_before_the_next(provider: LlamaCppProvider) -> None:
    talk = [Message("user", "Say hi."), Message("assistant", "Hi."), Message("user", "Again.")]
    response = asyncio.run(provider.complete(talk, settings=ModelSettings(max_tokens=60)))
    assert "User:" not in response.text
    assert "Assistant:" not in response.text
