"""`agentkit run`: one task, done while you watch."""

from __future__ import annotations

import os
import sys
import uuid
from typing import Annotated, Final

import typer

from agentkit.cli.follow import follow
from agentkit.cli.journal import open_journal
from agentkit.cli.launch import Launch
from agentkit.cli.options import AsJson, MaxCost, MaxOutputTokens, MaxSteps, Timeout, Yes, bounded
from agentkit.cli.view import RunView
from agentkit.limits import Limits
from agentkit.messages import clean_text
from agentkit.providers import default_model

__all__ = ["run"]

LONGEST_PROMPT: Final = 10_000_000
"""Bytes that are read from stdin; no model takes as much."""


def run(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The task; - reads it from stdin.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="PROVIDER:MODEL", help="Else AGENTKIT_MODEL, else the bundled SmolLM2."),
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option("--tool", "-t", metavar="NAME", help="A tool to offer, see `agentkit tools`; repeatable."),
    ] = None,
    tool_choice: Annotated[
        str, typer.Option(metavar="CHOICE", help="auto, required, none, or the name of the tool to call first.")
    ] = "auto",
    instructions: Annotated[str, typer.Option(metavar="TEXT", help="The system message.", show_default=False)] = "",
    session: Annotated[
        str, typer.Option(metavar="ID", help="The conversation to go on with, or to begin.", show_default=False)
    ] = "",
    max_steps: MaxSteps = None,
    timeout: Timeout = None,
    max_cost: MaxCost = None,
    max_output_tokens: MaxOutputTokens = None,
    temperature: Annotated[
        float | None,
        typer.Option(metavar="T", min=0, help="0 takes the likeliest token each time; else the provider's default."),
    ] = None,
    yes: Yes = False,
    no_journal: Annotated[bool, typer.Option("--no-journal", help="Keep no record: it cannot be resumed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do one task; the answer goes to stdout, calls and their results to stderr."""
    task = _read(prompt)
    if session and no_journal:
        raise typer.BadParameter(
            "a conversation is kept in the journal: leave out --no-journal", param_hint="--session"
        )
    limits = bounded(Limits(), max_steps, timeout, max_cost, max_output_tokens)
    launch = Launch(model or default_model(), tuple(tool or ()), temperature, limits, os.getcwd())  # noqa: PTH109
    agent = launch.agent(instructions, None if no_journal else open_journal(), yes=yes)
    run_id = uuid.uuid4().hex
    follow(
        agent,
        run_id,
        agent.stream(task, run_id=run_id, tool_choice=tool_choice, session=session, metadata=launch.metadata()),
        RunView(has_tools=bool(agent.tools) and tool_choice != "none", answer=not as_json),
        on_record=not no_journal,
        as_json=as_json,
    )


def _read(prompt: str) -> str:
    text = prompt
    if prompt == "-":
        data = sys.stdin.buffer.read(LONGEST_PROMPT + 1)
        if len(data) > LONGEST_PROMPT:
            raise typer.BadParameter(f"stdin holds more than {LONGEST_PROMPT:,} bytes", param_hint="PROMPT")
        text = data.decode(errors="replace")
    if not text.strip():
        raise typer.BadParameter("it is empty", param_hint="PROMPT")
    return clean_text(text)
