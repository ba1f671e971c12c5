"""OpenAIProvider against llama.cpp's own server, with the real SmolLM2 under a template that shows tools."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit import ModelSettings, ToolCall, ToolResult, tool
from agentkit.errors import ContextOverflowError
from agentkit.events import TextDelta
from agentkit.messages import Message, ModelResponse, TextPart
from agentkit.providers.base import ModelRequest
from agentkit.providers.llama_cpp.catalog import bundled_path
from agentkit.providers.openai import OpenAIProvider
from agentkit.testing.http import RecordedTransport

HERMES = (
    "{%- if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>\n"
    'Call one with <tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call><|im_end|>\n{% endif %}'
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    script = Path(__file__).parents[1] / "llama_server.py"
    log = tmp_path_factory.mktemp("server") / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, script, bundled_path("smollm2"), HERMES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next((line.strip() for line in lines if line.startswith("http")), None)
        assert url, log.read_text()[-2000:]
        yield f"{url}/v1"
        process.kill()


def test_text_streams_and_is_counted(base_url: str) -> None:
    async def collect() -> list[object]:
        provider = OpenAIProvider("smollm2", base_url)
        settings = ModelSettings(max_tokens=12, temperature=0)
        return [
            event
            async for event in provider.stream(ModelRequest([Message("user", "Say hello.")], (), "auto", settings))
        ]

    *texts, last = asyncio.run(collect())
    assert len([event for event in texts if isinstance(event, TextDelta)]) > 3
    assert last.finish_reason in ("stop", "length")  # type: ignore[attr-defined]
    assert 0 < last.usage.output_tokens <= 12  # type: ignore[attr-defined]


def test_a_history_with_calls_and_results_is_understood(base_url: str) -> None:
    @tool
    def weather(city: str) -> str:
        """The weather in a city now."""
        return "7 degrees, rain"

    conversation = [
        Message("user", "How is the weather in Oslo?"),
        Message("assistant", [TextPart("Let me look."), ToolCall("weather", {"city": "Oslo"}, "call00001")]),
        Message("tool", ToolResult("call00001", "weather", "7 degrees, rain")),
    ]
    settings = ModelSettings(temperature=0, max_tokens=40)
    provider = OpenAIProvider("smollm2", base_url)
    response = asyncio.run(provider.complete(conversation, tools=[weather], settings=settings))
    assert response.problems == []
    assert response.text or response.calls
    assert response.usage.input_tokens > 150  # the tool's description was rendered


def test_what_came_over_the_wire_is_played_without_the_server(base_url: str, tmp_path: Path) -> None:
    def answer() -> ModelResponse:
        provider = OpenAIProvider("smollm2", base_url, transport=RecordedTransport(tmp_path / "wire.jsonl"))
        return asyncio.run(provider.complete("Say hello.", settings=ModelSettings(max_tokens=12, temperature=0)))

    recorded, size = answer(), (tmp_path / "wire.jsonl").stat().st_size
    assert answer() == recorded
    assert (tmp_path / "wire.jsonl").stat().st_size == size  # the server was not asked again


def test_a_prompt_that_is_too_long(base_url: str) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        asyncio.run(OpenAIProvider("smollm2", base_url).complete("word " * 3000))
    assert caught.value.tokens > 3000
    assert caught.value.limit == 2048
