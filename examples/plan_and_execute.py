"""Plan, then do: one agent writes the steps, another does each. Runs offline, on the bundled model, with no key.

    python examples/plan_and_execute.py

The plan is an answer of a type, so it always is a list of steps. Each step is a run within limits of its own; together
they are one conversation, a session, and all is on record in one journal.
"""

import asyncio

from agentkit import Agent, Limits, Message, ModelSettings
from agentkit.journal.memory import MemoryJournal
from agentkit.providers.llama_cpp import LlamaCppProvider

TASK = "How much are 12 hammers at 7 euros, and how much are 5 saws at 20 euros?"


async def main() -> None:
    model = LlamaCppProvider("smollm2")
    journal = MemoryJournal()
    settings = ModelSettings(temperature=0, max_tokens=100)
    planner = Agent(
        model,
        instructions="Write down the calculations that answer the question.",
        output=list[str],
        settings=settings,
        journal=journal,
        examples=[
            [
                Message("user", "How much are 3 pens at 2 euros, and how much are 4 books at 11 euros?"),
                Message("assistant", '{"value": ["What is 3 * 2?", "What is 4 * 11?"]}'),
            ]
        ],
    )
    worker = Agent(
        model,
        tools=["calculator"],
        tool_choice="calculator",
        limits=Limits(steps=3, deadline=60),
        settings=settings,
        journal=journal,
    )
    plan = await planner.run(TASK)
    for number, step in enumerate(plan.output, 1):
        result = await worker.run(step, session="work")
        print(f"{number}. {step} -> {result.output}")
    print(len(await journal.runs()), "runs on record")


if __name__ == "__main__":
    asyncio.run(main())
