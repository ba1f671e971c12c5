"""``agentkit parse``: what a model wrote, taken apart, for anyone whose model misbehaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli import screen
from agentkit.errors import ConfigError
from agentkit.parsing import DIALECTS, Parsed, StreamParser
from agentkit.parsing.repair import REPAIRS

__all__ = ["parse"]


def parse(
    file: Annotated[Path | None, typer.Argument(help="What the model wrote; standard input if left out.")] = None,
    tools: Annotated[Path | None, typer.Option(help="The tools, as JSON: a list in OpenAI's shape.")] = None,
    template: Annotated[
        Path | None, typer.Option(help="The chat template (Jinja), or a tokenizer_config.json, to detect the format.")
    ] = None,
    dialect: Annotated[str | None, typer.Option(help="The format, by name; detected or tried if left out.")] = None,
    prompt: Annotated[str, typer.Option(help="The end of the rendered prompt, '<think>' for example.")] = "",
    truncated: Annotated[bool, typer.Option(help="The token limit cut the text off.")] = False,
) -> None:
    """Print what a model's text was read as: reasoning, text, calls with every repair, and problems."""
    try:
        shown = read_template(template) if template else None
        parser = StreamParser(read_tools(tools), dialect, shown, prompt=prompt)
        parser.feed(file.read_text("utf-8") if file else sys.stdin.read())
    except (ConfigError, OSError, ValueError) as error:
        typer.echo(f"agentkit parse: {error}", err=True)
        raise typer.Exit(2) from error
    parser.finish(truncated)
    text = report(parser.result(), parser.dialect)
    typer.echo(screen.clean(text) if sys.stdout.isatty() else text)


def read_tools(file: Path | None) -> list[dict[str, object]]:
    """Tools from a JSON file: a list, or an object with ``tools``.

    Raises:
        ConfigError: it holds something else.
    """
    if file is None:
        return []
    given = json.loads(file.read_text("utf-8"))
    listed = given.get("tools") if isinstance(given, dict) else given
    if not isinstance(listed, list):
        raise ConfigError(f"{file} holds no tools: a JSON list in OpenAI's shape is needed")
    return listed


def read_template(file: Path) -> str | dict[str, object]:
    """A Jinja template, or a tokenizer's configuration as a dict."""
    text = file.read_text("utf-8")
    if file.suffix == ".json":
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return text


def report(parsed: Parsed, dialect: str | None) -> str:
    """What was read, for people."""
    lines = [f"dialect: {dialect or f'none named; all {len(DIALECTS)} tried'}"]
    if parsed.reasoning:
        lines += ["", "reasoning:", _indented(parsed.reasoning)]
    if parsed.text.strip():
        lines += ["", "text:", _indented(parsed.text.strip("\n"))]
    for call in parsed.calls:
        lines += ["", f"call: {call.name}  (id {call.id})"]
        lines.append(_indented(json.dumps(call.arguments, ensure_ascii=False, indent=2)))
        lines += [f"  repaired: {repair}: {REPAIRS.get(repair, '')}" for repair in call.repairs]
    for problem in parsed.problems:
        lines += ["", f"problem: {problem.kind}" + (f"  ({problem.name})" if problem.name else "")]
        lines += [_indented(problem.message), "  raw:", _indented(problem.raw, "    ")]
    if not parsed.calls and not parsed.problems:
        lines += ["", "no calls"]
    return "\n".join(lines)


def _indented(text: str, by: str = "  ") -> str:
    return "\n".join(by + line for line in text.splitlines())
