"""docs/tools.md: its Python runs, and its figures are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentkit import tool, tool_output
from agentkit_tools import calculator, clock, files, web

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", [text for text in SNIPPETS if "Agent(" not in text])
def test_snippets_run(snippet: str) -> None:
    names: dict[str, object] = {}
    exec(snippet, names)
    if "camera" in names:
        assert names["camera"]("hall")[1].media_type == "image/jpeg"  # type: ignore[operator]
    elif "weather" in names:
        weather = tool(names["weather"])  # type: ignore[call-overload]
        assert weather.parameters["required"] == ["city"]
        assert weather("Kyiv") == "Kyiv: sunny"
    elif "read_file" in names:
        assert names["read_file"].untrusted  # type: ignore[attr-defined]
        assert names["read_file"].parameters == files.files[0].parameters  # type: ignore[attr-defined]
    elif "engine" in names:
        assert "1. Herons" in names["web_search"]("x")  # type: ignore[operator]


def test_the_snippets_were_found() -> None:
    assert len(SNIPPETS) == 8


def test_what_each_tool_does_to_the_world_is_right() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`) \| (read|write|egress)\b.*?\| (yes)? ?\| is (.+?) \|", text, re.MULTILINE)
    said = {
        name: (effect, bool(untrusted), then == "made again")
        for names, effect, untrusted, then in rows
        for name in re.findall(r"\w+", names)
    }
    tools = [calculator.calculator, clock.clock, *files.files, web.web_search, web.fetch_page]
    assert said == {tool.name: (tool.effect, tool.untrusted, tool.idempotent) for tool in tools}


@pytest.mark.parametrize(
    "figure",
    [
        f"{calculator.MAX_LENGTH} characters, {calculator.MAX_DEPTH} deep",
        f"{files.MAX_READ // 1_000_000} MB, UTF-8",
        f"{files.MAX_WRITE // 1_000_000} MB |",
        f"{files.MAX_SHOWN:,} characters |",
        f"{files.MAX_LISTED} entries",
        f"{files.MAX_VISITED:,} entries looked at, {files.MAX_DEPTH} directories deep",
        f"{web.MAX_QUERY} characters",
        f"at most {tool_output.MAX_IMAGES} images of {tool_output.MAX_IMAGE_BYTES >> 20} MiB",
        f"{web.MAX_RESULTS}, each field {web.MAX_SNIPPET} characters",
        f"{web.MAX_URL:,} characters",
        f"{web.MAX_TEXT:,} characters, then cut",
    ],
)
def test_the_table_of_bounds_is_right(figure: str) -> None:
    assert figure in PAGE.read_text(encoding="utf-8")
