"""A GGUF file of your own: give its path, or nothing for the bundled one.

    python examples/local_model.py [MODEL.gguf]

The model is loaded once. What a prompt shares with the one before is not evaluated again: the second question is
cheaper than the first.
"""

import sys
import time

from agentkit import Agent, ModelSettings
from agentkit.providers.llama_cpp import LlamaCppProvider

provider = LlamaCppProvider(sys.argv[1] if len(sys.argv) > 1 else "smollm2", n_ctx=4096)
agent = Agent(
    provider, tools=["calculator"], tool_choice="required", settings=ModelSettings(temperature=0, max_tokens=200)
)

for question in ("What is 365 * 24?", "What is 8760 / 12?"):
    start = time.perf_counter()
    result = agent.run_sync(question)
    seconds = time.perf_counter() - start
    cached = f"{result.usage.cached_tokens} of {result.usage.input_tokens} prompt tokens from memory"
    print(f"{question} {result.output} ({seconds:.1f} s, {cached})")
