"""Answers of a type from the real SmolLM2, in process: its decoder can write nothing else."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from agentkit import Agent, ModelSettings, tool
from agentkit.events import PartialOutput, RunFinished
from agentkit.providers.llama_cpp import LlamaCppProvider

HOT = ModelSettings(temperature=1.5, seed=1, max_tokens=250)


class Line(BaseModel):
    item: Annotated[str, Field(max_length=12)]
    quantity: Annotated[int, Field(ge=1, le=999)]


class Invoice(BaseModel):
    customer: Annotated[str, Field(max_length=16)]
    lines: Annotated[list[Line], Field(min_length=1, max_length=2)]


def test_an_invoice_out_of_a_sentence() -> None:
    async def collect() -> tuple[list[object], object]:
        parts: list[object] = []
        agent = Agent(LlamaCppProvider("smollm2", n_ctx=1024), output=Invoice, settings=HOT)
        async for event in agent.stream("Mrs Berg bought 3 hammers and 2 saws."):
            if isinstance(event, PartialOutput):
                parts.append(event.value)
            if isinstance(event, RunFinished):
                return parts, event.result.output
        raise AssertionError

    parts, invoice = asyncio.run(collect())
    assert isinstance(invoice, Invoice)
    assert len(parts) > 3
    assert parts[-1] == invoice.model_dump()


def test_one_of_two_words() -> None:
    agent = Agent(LlamaCppProvider("smollm2", n_ctx=512), output=Literal["good", "bad"], settings=HOT)
    result = agent.run_sync("Is this review good or bad? The food was cold.")
    assert result.output in ("good", "bad")
    assert (result.steps, result.problems) == (1, [])


def test_beside_tools_that_may_not_be_called() -> None:
    @tool
    def stock(item: Literal["hammer", "saw"]) -> int:
        """How many of an item are in stock."""
        return 7

    provider = LlamaCppProvider("smollm2", n_ctx=1024)
    agent = Agent(provider, tools=[stock], tool_choice="none", output=Literal[1, 2, 3], settings=HOT)
    assert agent.run_sync("How many hammers are there?").output in (1, 2, 3)
