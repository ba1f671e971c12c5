"""What a turn may hold, on the real SmolLM2: bounded reasoning, an answer of a type, calls in other notations."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal

import pytest
from pydantic import Field

from agentkit import ModelSettings, tool
from agentkit.errors import ConfigError
from agentkit.providers.llama_cpp import LlamaCppProvider

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
THINKING = CHATML.replace("assistant\n", "assistant\n{% if think is not defined or think %}<think>\n{% endif %}")
# Says how calls are written, as models' own templates do; the history's calls are left out.
TAGS = (
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %}\n{{ t | tojson }}{% endfor %}\n"
    "Write <tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call><|im_end|>\n"
    "{% endif %}" + CHATML
)
PYTHONIC = (
    "{% if tools %}<|im_start|>system\nList of tools: [{% for t in tools %}{{ t | tojson }}{% endfor %}]\n"
    "Write <|tool_call_start|>[NAME(KEY=VALUE)]<|tool_call_end|><|im_end|>\n{% endif %}" + CHATML
)
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@tool
def order(item: Literal["hammer", "nail"], count: Annotated[int, Field(ge=1, le=99)], express: bool) -> str:
    """Order something."""
    return ""


class TestReasoning:
    def test_a_budget_ends_it_and_the_answer_follows(self) -> None:
        provider = LlamaCppProvider("smollm2", n_ctx=512, chat_template=THINKING, reasoning_budget=12)
        response = asyncio.run(provider.complete("Why is the sky blue?", settings=ModelSettings(max_tokens=60)))
        assert response.reasoning
        assert provider.count_text(response.reasoning) <= 12 * 4  # </think> is text here: characters are counted
        assert response.text
        assert "</think>" not in response.text

    def test_which_tool_is_not_said_within_it(self) -> None:
        """Names are compared for small models before a call begins; here the reasoning comes first."""

        @tool
        def cancel(number: int) -> str:
            """Cancel an order by its number."""
            return ""

        provider = LlamaCppProvider("smollm2", n_ctx=1024, chat_template=THINKING, reasoning_budget=40)
        settings = ModelSettings(max_tokens=200)
        asked = provider.complete("Order 3 hammers.", tools=[order, cancel], tool_choice="required", settings=settings)
        response = asyncio.run(asked)
        assert "tool_call" not in response.reasoning
        assert response.problems == []
        assert response.calls

    def test_a_required_call_comes_after_it(self) -> None:
        provider = LlamaCppProvider("smollm2", n_ctx=1024, chat_template=THINKING, reasoning_budget=2)
        settings = ModelSettings(max_tokens=200)
        response = asyncio.run(
            provider.complete("Order 3 hammers.", tools=[order], tool_choice="required", settings=settings)
        )
        assert response.text == ""  # it may reason, but not answer
        assert {call.name for call in response.calls} == {"order"}

    def test_a_model_that_reasons_decides_for_itself_whether_to_call(self) -> None:
        """A greeting needs no tool, but it is shown them all the same."""
        provider = LlamaCppProvider("smollm2", n_ctx=1024, chat_template=TAGS.replace(CHATML, THINKING))
        brief = ModelSettings(max_tokens=2)
        inputs = [
            asyncio.run(
                provider.complete("Hello!", tools=[order], tool_choice=choice, settings=brief)
            ).usage.input_tokens
            for choice in ("auto", "required", "none")
        ]
        assert inputs[0] == inputs[1] > inputs[2]

    def test_a_templates_own_switch(self) -> None:
        provider = LlamaCppProvider(
            "smollm2", n_ctx=512, chat_template=THINKING, template_variables={"think": False}, reasoning_budget=8
        )
        response = asyncio.run(provider.complete("Hi", settings=ModelSettings(max_tokens=8)))
        assert (response.reasoning, bool(response.text)) == ("", True)

    def test_a_variable_that_the_conversation_gives(self) -> None:
        provider = LlamaCppProvider("smollm2", n_ctx=512, template_variables={"messages": []})
        with pytest.raises(ConfigError, match="'messages'"):
            asyncio.run(provider.complete("Hi"))


class TestAnswersOfAType:
    @pytest.mark.parametrize("seed", range(3))
    def test_without_tools_the_answer_is_the_value(self, seed: int) -> None:
        provider = LlamaCppProvider("smollm2", n_ctx=512)
        response = asyncio.run(
            provider.complete(
                "Invent a person.",
                output_schema=PERSON,
                settings=ModelSettings(temperature=1.2, seed=seed, max_tokens=80),
            )
        )
        value = json.loads(response.text)
        assert sorted(value) == ["age", "name"]
        assert isinstance(value["age"], int)

    @pytest.mark.parametrize("seed", range(3))
    def test_with_tools_it_is_calls_or_the_value(self, seed: int) -> None:
        provider = LlamaCppProvider("smollm2", n_ctx=1024)
        response = asyncio.run(
            provider.complete(
                "Invent a person.",
                tools=[order],
                output_schema=PERSON,
                settings=ModelSettings(temperature=1.2, seed=seed, max_tokens=120),
            )
        )
        assert response.problems == []
        assert bool(response.calls) != bool(response.text)
        if response.text:
            assert sorted(json.loads(response.text)) == ["age", "name"]


class TestNotations:
    @pytest.mark.parametrize("template", [TAGS, PYTHONIC])
    @pytest.mark.parametrize("seed", range(3))
    def test_calls_in_tags_and_in_python_fit_their_schema_even_when_sampled_hot(self, template: str, seed: int) -> None:
        provider = LlamaCppProvider("smollm2", n_ctx=1024, chat_template=template)
        response = asyncio.run(
            provider.complete(
                "I need three hammers by tomorrow.",
                tools=[order],
                tool_choice="required",
                settings=ModelSettings(temperature=0.9, seed=seed, max_tokens=200),
            )
        )
        assert {problem.kind for problem in response.problems} <= {"truncated"}  # a string that found no end
        assert response.calls or response.problems
        for call in response.calls:
            order.validate(call.arguments)
