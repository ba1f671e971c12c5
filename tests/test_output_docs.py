"""docs/output.md: its Python runs, and does what the page says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from agentkit import ToolCall
from agentkit.answer import GROWTH
from agentkit.testing import ScriptedProvider

PAGE = (Path(__file__).parents[1] / "docs" / "output.md").read_text(encoding="utf-8")
TYPE, VALIDATOR, ERROR, STREAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(code: str, names: dict[str, object]) -> None:
    exec(compile(code, "output.md", "exec", dont_inherit=True), names)


def test_the_snippets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    ann = {"customer": "Ann", "due": "2027-01-01", "amounts": [20, 30]}
    script = [
        ToolCall("final_answer", ann),
        ToolCall("final_answer", {**ann, "customer": "Ann Berg"}),
        *["Hello!"] * 3,
        ToolCall("final_answer", {**ann, "customer": "Ann Berg"}),
    ]
    names: dict[str, object] = {"provider": ScriptedProvider(script, output_mode="tool")}
    run(TYPE, names)
    run(VALIDATOR.replace('"openai:gpt-5"', "provider"), names)
    assert "There is no customer 'Ann': they are Ann Berg, Tom Hill." in str(names["result"])
    run(ERROR, names)
    assert capsys.readouterr().out == "corrections Hello!\n7\n"
    run(STREAM, names)
    asyncio.run(names["show"]("Ann owes 20 and 30."))  # type: ignore[operator]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("{'customer': '")
    assert printed[-1] == "2027-01-01"


def test_the_page_says_how_often_a_long_answer_is_read() -> None:
    assert f"grown by 1/{GROWTH}" in PAGE
