"""docs/resilience.md: its Python runs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from agentkit import Agent
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.retry import Retry
from tests.servers import answer_text, chunk, serve, sse_then_close

PAGE = (Path(__file__).parents[2] / "docs" / "resilience.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_snippets_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.chdir(tmp_path)
    assert len(SNIPPETS) == 4
    names: dict[str, object] = {"__name__": "snippets"}
    for snippet in SNIPPETS:
        exec(snippet, names)
    assert isinstance(names["agent"], Agent)
    assert names["agent"].provider.name == "fallback(openai:gpt-5, openai:gpt-5-mini, llama_cpp:smollm2)"
    names["test_it_looks"]()  # type: ignore[operator]
    assert (tmp_path / "weather.jsonl").exists()
    names["test_it_looks"]()  # type: ignore[operator]

    with serve(sse_then_close(chunk(content="Once")), answer_text("A story.")) as server:
        agent = Agent(OpenAIProvider("m", server.base_url, retry=Retry(restart=True, max_wait=0)))
        assert asyncio.run(names["show"](agent)) == "A story."  # type: ignore[operator]
