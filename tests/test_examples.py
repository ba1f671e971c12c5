"""Few-shot examples of an agent: what is accepted, and what each provider makes of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Message, ModelSettings, ToolCall, ToolResult, tool
from agentkit.errors import ConfigError
from agentkit.events import ModelEvent, ModelFinished
from agentkit.messages import Part, ReasoningPart, TextPart
from agentkit.providers.base import ModelRequest, Provider
from agentkit.providers.completions import CompletionsProvider
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.openai_responses import OpenAIResponsesProvider
from agentkit.providers.profiles import LLAMA_CPP, UNKNOWN
from agentkit.testing import ScriptedProvider
from tests.servers import reply, serve


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def call(a: int, b: int, call_id: str = "") -> ToolCall:
    return ToolCall("multiply", {"a": a, "b": b}, call_id)


def result(content: str, call_id: str = "") -> Message:
    return Message("tool", ToolResult(call_id, "multiply", content))


EXAMPLE = [
    Message("user", "Is 7 * 6 more than 40?"),
    Message("assistant", [ReasoningPart("I need the product first."), call(7, 6)]),
    result("42"),
    Message("assistant", [ReasoningPart("42 is more than 40."), TextPart("Yes.")]),
]
HELLO = [Message("user", "Hello!"), Message("assistant", "Hello.")]


def sent(*examples: Sequence[Message], **options: Any) -> list[list[Message]]:
    """The messages of each request of a run of two turns."""
    provider = ScriptedProvider([call(2, 3), "6"])
    agent = Agent(provider, tools=[multiply], instructions="Be brief.", examples=examples)
    run = agent.run_sync("2 * 3?", **options)
    assert run.messages[-4].text == "2 * 3?"
    assert len(run.messages) == len(options.get("history", ())) + 4  # no example among them
    return [list(request.messages) for request in provider.requests]


def test_examples_stand_between_the_instructions_and_the_conversation_in_every_turn() -> None:
    first, second = sent(EXAMPLE, HELLO)
    assert [message.role for message in first] == ["system", *(m.role for m in [*EXAMPLE, *HELLO]), "user"]
    assert second[: len(first)] == first
    assert first[2].reasoning == "I need the product first."


def test_calls_get_ids_that_nothing_else_has() -> None:
    same = [EXAMPLE[0], Message("assistant", [call(7, 6, "call_1"), call(1, 1)]), Message("tool", [])]
    same[2] = Message("tool", [ToolResult("", "multiply", "42"), ToolResult("", "multiply", "1")])
    first, _ = sent(EXAMPLE, [*same, EXAMPLE[3]])
    ids = [part.id for message in first for part in message.calls]
    assert [part.call_id for message in first for part in message.results] == ids
    assert len(set(ids)) == 3
    assert all(len(one) == 9 and one.isalnum() for one in ids)


def test_results_find_their_calls_by_id_in_any_order() -> None:
    example = [
        EXAMPLE[0],
        Message("assistant", [call(7, 6, "a"), call(5, 8, "b")]),
        Message("tool", [ToolResult("b", "multiply", "40"), ToolResult("a", "multiply", "42")]),
        EXAMPLE[3],
    ]
    first, _ = sent(example)
    one, other = first[2].calls
    assert [(part.call_id, part.content) for part in first[3].results] == [(other.id, "40"), (one.id, "42")]


def test_a_good_run_is_an_example() -> None:
    run = Agent(ScriptedProvider([call(2, 3), "6"]), tools=[multiply]).run_sync("2 * 3?")
    first, _ = sent(run.messages, history=run.messages)
    assert [message.text for message in first] == ["Be brief.", *["2 * 3?", "", "", "6"] * 2, "2 * 3?"]


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ([], "from the user to the assistant's answer; its messages are: none"),
        ("user: hi", "no conversation"),
        ([*EXAMPLE[:2]], "its messages are: user, assistant"),
        ([*EXAMPLE[:3]], "its messages are: user, assistant, tool"),
        ([*EXAMPLE[1:]], "its messages are: assistant, tool, assistant"),
        ([EXAMPLE[0], EXAMPLE[1], EXAMPLE[3]], "'multiply' has no result"),
        ([EXAMPLE[0], EXAMPLE[2], EXAMPLE[3]], "'multiply' has no call"),
        ([EXAMPLE[0], Message("assistant", call(1, 1, "x")), result("1", "y"), EXAMPLE[3]], "has no call"),
        ([*EXAMPLE[:2], Message("tool", ToolResult("", "divide", "1")), EXAMPLE[3]], "'divide' has no call"),
        (
            [EXAMPLE[0], Message("assistant", ToolCall("multiplay", {})), result("1"), EXAMPLE[3]],
            "'multiplay', which is not one of the agent's tools .multiply.. Did you mean 'multiply'",
        ),
        ([EXAMPLE[0], Message("assistant", ToolCall("multiply", {"a": 1})), result("1"), EXAMPLE[3]], "do not fit"),
    ],
)
def test_an_example_that_could_not_have_happened_is_refused_at_once(example: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^Example 2.*{said}"):
        Agent(ScriptedProvider([]), tools=[multiply], examples=[HELLO, example])


def test_the_snippet_of_the_docs_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "agents.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?examples=.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(snippet, names)
    assert [message.role for message in names["agent"].examples] == [m.role for m in [*EXAMPLE, *HELLO]]


# ── what providers make of them ──────────────────────────────────────────────────────────────────────────────────────


def request(*parts: Part) -> ModelRequest:
    messages = [*EXAMPLE[:2], result("42"), EXAMPLE[3], Message("user", "3 * 3?")]
    return ModelRequest([Message("system", "Be brief."), *messages], [multiply], examples=4)


def body_of(provider_type: Any, **options: Any) -> Any:
    with serve(reply({"error": "enough"}, status=400)) as server:
        provider: Provider = provider_type("m", server.base_url, **options)

        async def ask() -> None:
            async for _ in provider.stream(request()):
                pass

        with pytest.raises(Exception, match="enough"):
            asyncio.run(ask())
        return server.requests[0].json


def test_chat_completions_show_reasoning_as_the_server_wants_it_or_as_text() -> None:
    told = body_of(OpenAIProvider, profile=LLAMA_CPP)["messages"]
    assert [message.get("reasoning_content") for message in told[1:5]] == [
        None, "I need the product first.", None, "42 is more than 40.",
    ]  # fmt: skip
    shown = body_of(OpenAIProvider, profile=UNKNOWN)["messages"]
    assert [message["content"] for message in shown[1:5]] == [
        "Is 7 * 6 more than 40?", "I need the product first.", "42", "42 is more than 40.\nYes.",
    ]  # fmt: skip
    assert shown[2]["tool_calls"][0]["function"]["arguments"] == '{"a": 7, "b": 6}'


def test_responses_show_reasoning_as_text() -> None:
    items = body_of(OpenAIResponsesProvider, profile=UNKNOWN)["input"]
    kinds = [item["type"] for item in items[1:6]]
    assert kinds == ["message", "message", "function_call", "function_call_output", "message"]
    assert items[2]["content"][0]["text"] == "I need the product first."


def test_completions_show_it_as_a_thought() -> None:
    prompt = body_of(CompletionsProvider, profile=UNKNOWN)["prompt"]
    assert (
        "User: Is 7 * 6 more than 40?\nThought: I need the product first.\nAction: multiply\n"
        'Action Input: {"a": 7, "b": 6}\nObservation: 42\nThought: 42 is more than 40.\nAssistant: Yes.\n'
    ) in prompt


def test_a_local_model_without_a_place_for_reasoning_reads_that_of_examples_as_text() -> None:
    provider = LlamaCppProvider("smollm2")

    def tokens(asked: ModelRequest) -> int:
        async def read() -> list[ModelEvent]:
            return [event async for event in provider.stream(asked)]

        last = asyncio.run(read())[-1]
        assert isinstance(last, ModelFinished)
        return last.usage.input_tokens

    settings = ModelSettings(max_tokens=1)
    example = replace(request(), tool_choice="multiply", settings=settings)
    assert tokens(example) >= tokens(replace(example, examples=0)) + 10


def test_what_an_agent_s_requests_begin_with_is_evaluated_once() -> None:
    provider = LlamaCppProvider("smollm2")
    agent = Agent(provider, tools=[multiply], examples=[EXAMPLE], settings=ModelSettings(max_tokens=1))
    agent.run_sync("Hello!", tool_choice="none")
    usage = agent.run_sync("Another matter.", tool_choice="none").usage
    assert usage.cached_tokens > 40
