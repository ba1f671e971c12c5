"""What every provider has."""

from __future__ import annotations

import asyncio

from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.testing import ScriptedProvider


def test_output_mode() -> None:
    assert asyncio.run(ScriptedProvider([]).output_mode(has_tools=True)) == "prompt"
    assert asyncio.run(LlamaCppProvider("smollm2").output_mode(has_tools=True)) == "native"
