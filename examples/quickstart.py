"""Ask something that a model cannot know without a tool. Runs offline, on the bundled model, with no key.

    python examples/quickstart.py

The bundled SmolLM2 has 135 million parameters: enough to write a call, too few to know when one is needed. So
`tool_choice="required"` asks for one; with a larger model, leave it out.
"""

from agentkit import Agent

agent = Agent("llama_cpp:smollm2", tools=["calculator"], tool_choice="required")
result = agent.run_sync("What is 1234 * 5678?")

for message in result.messages:
    for call in message.calls:
        print("call:  ", call.name, call.arguments)
    for answer in message.results:
        print("result:", answer.content)
print("answer:", result.output)
