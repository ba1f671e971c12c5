"""What every provider has."""

from __future__ import annotations

import asyncio

from agentkit import Message
from agentkit.providers.base import ModelRequest
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.testing import ScriptedProvider


def test_tokens_are_counted_by_who_can() -> None:
    request = ModelRequest([Message("user", "hi")])
    assert asyncio.run(ScriptedProvider([]).count_tokens(request)) is None
    assert asyncio.run(ScriptedProvider([]).context_size()) is None


def test_output_mode() -> None:
    assert asyncio.run(ScriptedProvider([]).output_mode(has_tools=True)) == "prompt"
    assert asyncio.run(LlamaCppProvider("smollm2").output_mode(has_tools=True)) == "native"
