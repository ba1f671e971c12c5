"""The providers of remote models keep what every provider promises, with llama.cpp's own server as the remote one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentkit.providers._openai_server import OpenAIServer
from agentkit.providers.base import Provider
from agentkit.providers.completions import CompletionsProvider
from agentkit.providers.litellm import LiteLLMProvider
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.openai_responses import OpenAIResponsesProvider
from agentkit.providers.profiles import LLAMA_CPP
from agentkit.providers.retry import Retry
from agentkit.testing.conformance import ProviderConformance


class TestChatCompletions(ProviderConformance):
    context = 2048
    forced_calls = False  # llama.cpp's server passes over tool_choice where it does not know the template
    provider: type[OpenAIServer] = OpenAIProvider

    @pytest.fixture(autouse=True)
    def server(self, base_url: str) -> None:
        self.base_url = base_url

    def make(self) -> Provider:
        return self.provider("smollm2", self.base_url)

    def make_failing(self) -> Provider:
        return self.provider("smollm2", "http://127.0.0.1:1/v1", retry=Retry(attempts=1))


class TestResponses(TestChatCompletions):
    stop = False
    provider = OpenAIResponsesProvider


class TestCompletions(TestChatCompletions):
    forced_calls = True
    provider = CompletionsProvider


class TestLiteLLM(TestChatCompletions):
    def make(self) -> Provider:
        blind = replace(LLAMA_CPP, sees=False)  # LiteLLM's table does not know the model
        return LiteLLMProvider("openai/smollm2", self.base_url, "no-key", profile=blind)

    def make_failing(self) -> Provider:
        return LiteLLMProvider("openai/smollm2", "http://127.0.0.1:1/v1", "no-key", retry=Retry(attempts=1))
