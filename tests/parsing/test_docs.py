"""The page's snippets run, and it names every dialect and repair."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentkit.parsing import DIALECTS
from agentkit.parsing.repair import REPAIRS

PAGE = Path(__file__).parents[2].joinpath("docs", "parsing.md").read_text("utf-8")


def test_snippets_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(snippet, names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "get_weather {'city': 'Oslo'} ['missing_closers']"
    assert any(line.startswith("ToolCallEnd") for line in printed)


def test_names_everything() -> None:
    assert [name for name in [*DIALECTS, *REPAIRS] if f"| `{name}` |" not in PAGE] == []
