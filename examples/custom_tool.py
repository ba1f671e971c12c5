"""Your own tools: typed functions. Signature and docstring become what the model is shown.

    python examples/custom_tool.py

`RunContext` carries your own objects to a tool; the model never sees it. `ToolExample`s teach small models, which were
never trained on tools, how yours is used; larger ones do without.
"""

import asyncio
from dataclasses import dataclass

from agentkit import Agent, RunContext, ToolError, ToolExample, tool
from agentkit.events import RunFinished, TextDelta, ToolFinished, ToolStarted


@dataclass
class Warehouse:
    stock: dict[str, int]


@tool(
    examples=[
        ToolExample("How many saws are there?", {"item": "saw"}, "12", "There are 12 saws."),
        ToolExample("Do we have any pliers?", {"item": "pliers"}, "3", "Yes, there are 3 pliers."),
    ]
)
async def in_stock(ctx: RunContext[Warehouse], item: str) -> int:
    """How many of an item are in stock.

    Args:
        item: what to look for, in the singular.
    """
    if item not in ctx.deps.stock:
        raise ToolError(f"There is no {item!r}. There are: {', '.join(ctx.deps.stock)}.")
    return ctx.deps.stock[item]


async def main() -> None:
    agent = Agent("llama_cpp:smollm2", tools=[in_stock], tool_choice="required")
    async for event in agent.stream("How many hammers are there?", deps=Warehouse({"hammer": 42, "saw": 7})):
        match event:
            case ToolStarted(call):
                print(f"-> {call.name}({call.arguments})")
            case ToolFinished(_, result):
                print(f"<- {result.content}")
            case TextDelta(text):
                print(text, end="", flush=True)
            case RunFinished(result):
                print(f"\n({result.steps} steps, {result.usage.total_tokens} tokens)")


if __name__ == "__main__":
    asyncio.run(main())
