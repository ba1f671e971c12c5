"""The snippets of docs/openai.md, run; none of them asks a server anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agentkit.messages import ImagePart
from agentkit.providers import profiles

PAGE = (Path(__file__).parents[2] / "docs" / "openai.md").read_text()


def test_snippets_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    chart = ImagePart(b"\x89PNG\r\n\x1a\n", "image/png")
    (tmp_path / "chart.png").write_bytes(chart.data)
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(snippet, names)
    assert names["chart"] == chart
    assert names["vendor"].schema == "with_tools"


def test_the_table_of_profiles_is_true() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)`.*?\| `(\w+)` \| (.*?) \| (.*?)\| (.*?) \|$", PAGE, re.MULTILINE)
    words = {"also beside tools": "with_tools", "without tools only": "without_tools", "not known": "unknown"}
    told = {
        name: (limit, words[schema], strict.strip() == "yes", reasoning.strip("`–"))
        for name, limit, schema, strict, reasoning in rows
    }
    known = {name: getattr(profiles, name) for name in profiles.__all__ if name != "Profile"}
    assert told == {name: (p.max_tokens, p.schema, p.strict, p.reasoning) for name, p in known.items()}
