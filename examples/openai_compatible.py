"""An agent on OpenAI, or on any server that speaks its Chat Completions.

python examples/openai_compatible.py gpt-5                                      # OpenAI, with OPENAI_API_KEY set
python examples/openai_compatible.py qwen3:8b http://localhost:11434/v1         # Ollama
python examples/openai_compatible.py Qwen/Qwen3-8B http://localhost:8000/v1     # vLLM
"""

import asyncio
import sys

from agentkit import Agent, AgentKitError, tool
from agentkit.events import RunFinished, TextDelta, ToolFinished, ToolStarted
from agentkit.providers.openai import OpenAIProvider


@tool
def population(country: str) -> int:
    """The number of people in a country.

    Args:
        country: its English name.
    """
    return {"Iceland": 399_000, "Malta": 574_000}[country]


async def main(model: str, base_url: str | None = None) -> None:
    provider = OpenAIProvider(model, base_url)
    agent = Agent(provider, tools=[population], instructions="Look numbers up; do not guess.")
    async for event in agent.stream("How many people live in Iceland and Malta together?"):
        match event:
            case TextDelta(text):
                print(text, end="", flush=True)
            case ToolStarted(call):
                print(f"→ {call.name}({call.arguments})")
            case ToolFinished(call, result):
                print(f"← {result.content}")
            case RunFinished(result):
                print(f"\n{result.steps} steps, {result.usage.total_tokens} tokens")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except AgentKitError as error:
        sys.exit(f"{error}")
