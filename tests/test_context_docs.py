"""docs/context.md: its Python runs, and its numbers are the code's."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from agentkit import Limits, ModelSettings, RunResult, ToolCall
from agentkit.compaction import MAX_LISTED, MIN_RESULT
from agentkit.outputs import MAX_KEPT
from agentkit.providers.llama_cpp import LlamaCppProvider
from agentkit.providers.tokens import LETTERS_A_TOKEN, TOKENS_AN_IMAGE
from agentkit.testing import ScriptedProvider
from agentkit.window import ANSWER_SHARE, ContextBudget

PAGE = (Path(__file__).parents[1] / "docs" / "context.md").read_text(encoding="utf-8")
AGENT, COUNT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(NOTICE,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)


def test_the_snippets(capsys: pytest.CaptureFixture[str]) -> None:
    read_on = ToolCall("read_output", {"call": "2-1", "find": "full"})
    provider = ScriptedProvider([ToolCall("fetch_log", {"day": "Monday"}), read_on, "At 12:57."])
    names: dict[str, object] = {"provider": provider}
    exec(AGENT.replace('"openai:gpt-5"', "provider"), names)
    result = names["result"]
    assert isinstance(result, RunResult)
    log, part = (message.results[0].content for message in result.messages if message.role == "tool")
    assert NOTICE in log
    assert "12:57 disk full" in part
    exec(COUNT, names)
    asyncio.run(names["show"](LlamaCppProvider("smollm2")))  # type: ignore[operator]
    assert re.fullmatch(r"\d+ of 8192\n", capsys.readouterr().out)


def test_the_numbers() -> None:
    budget = ContextBudget()
    for shown in (
        f"`at` of it ({budget.at})",
        f"`keep` of it ({budget.keep})",
        f"down to {MIN_RESULT} characters",
        f"{MAX_KEPT >> 20} MiB",
        f"{TOKENS_AN_IMAGE:,} tokens an image",
        f"`Limits.tool_output` characters ({Limits().tool_output:,})",
    ):
        assert shown in PAGE, shown
    assert (MAX_LISTED, LETTERS_A_TOKEN, ANSWER_SHARE, ModelSettings().max_tokens) == (10, 4, 8, None)
