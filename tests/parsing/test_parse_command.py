"""``agentkit parse``, run as a command."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from agentkit.cli.parse import parse

APP = typer.Typer()
APP.command()(parse)


def test_prints_calls_and_repairs(tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([{"name": "say", "parameters": {"type": "object", "properties": {"text": {}}}}]))
    template = tmp_path / "template.jinja"
    template.write_text("<tool_call>")
    text = tmp_path / "turn.txt"
    text.write_text("<think>Hm.</think>Well.\n<tool_call>{'name': 'say', 'arguments': {'text': 'x'}}</tool_call>")
    result = CliRunner().invoke(APP, [str(text), "--tools", str(tools), "--template", str(template)])
    assert result.exit_code == 0
    assert "dialect: hermes" in result.output
    assert "call: say" in result.output
    assert "single_quotes" in result.output
    assert "Hm." in result.output


def test_reads_standard_input_and_shows_problems() -> None:
    text = '<tool_call>{"name": "say", "arguments": {"text": "x'
    result = CliRunner().invoke(APP, ["--dialect", "hermes", "--truncated"], input=text)
    assert "problem: truncated" in result.output


def test_a_wrong_dialect_is_refused() -> None:
    result = CliRunner().invoke(APP, ["--dialect", "hermse"], input="")
    assert result.exit_code == 2
    assert "Did you mean 'hermes'" in result.output
