"""A model older than chat, which learns from examples to use a tool: GPT-3 and its kind, or any base model.

python examples/before_chat.py                                                # the bundled model, read as a base model
python examples/before_chat.py davinci-002                                    # OpenAI, with OPENAI_API_KEY set
python examples/before_chat.py facebook/opt-1.3b http://localhost:8000/v1     # vLLM, or llama.cpp's server
"""

import sys

from agentkit import Agent, AgentKitError, Limits, Message, ModelSettings, ToolCall, ToolResult, tool
from agentkit.messages import ReasoningPart, TextPart
from agentkit.providers.completions import CompletionsProvider
from agentkit.providers.llama_cpp import LlamaCppProvider

TRANSCRIPT = "{% for m in messages %}{{ m.role|capitalize }}: {{ m.content }}\n\n{% endfor %}Assistant:"


@tool
def population(country: str) -> int:
    """The number of people in a country.

    Args:
        country: its English name.
    """
    return {"Iceland": 399_000, "Malta": 574_000}.get(country, 1_000_000)


EXAMPLE = [
    Message("user", "Do more people live in Malta than in Iceland?"),
    Message("assistant", [ReasoningPart("I need both numbers."), ToolCall("population", {"country": "Malta"})]),
    Message("tool", ToolResult("", "population", "574000")),
    Message("assistant", ToolCall("population", {"country": "Iceland"})),
    Message("tool", ToolResult("", "population", "399000")),
    Message("assistant", [ReasoningPart("574000 is more than 399000."), TextPart("Yes, 574000 do.")]),
]


def main(model: str = "", base_url: str | None = None) -> None:
    provider = CompletionsProvider(model, base_url) if model else LlamaCppProvider("smollm2", chat_template=TRANSCRIPT)
    agent = Agent(
        provider,
        tools=[population],
        tool_choice="population",
        examples=[EXAMPLE],
        settings=ModelSettings(max_tokens=100),
        limits=Limits(steps=5),  # a small model may call again what was answered
    )
    result = agent.run_sync("How many people live in Iceland?")
    for message in result.messages:
        for call in message.calls:
            print(f"-> {call.name}({call.arguments})")
        for answered in message.results:
            print(f"<- {answered.content}")
    print(result.output)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except AgentKitError as error:
        sys.exit(f"{error}")
