"""`agentkit run`: one task, done while you watch."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Annotated, Final

import typer

from agentkit.agent import Agent
from agentkit.cli.screen import show_error
from agentkit.cli.view import RunView
from agentkit.errors import ProviderError
from agentkit.events import RunFinished, RunResult
from agentkit.limits import Limits, ModelSettings, StopReason
from agentkit.messages import clean_text, dump_messages

__all__ = ["run"]

LONGEST_PROMPT: Final = 10_000_000
"""Bytes that are read from stdin; no model takes as much."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a provider may take to release what it holds."""

_DEFAULTS: Final = Limits()

_INCOMPLETE: Final[dict[StopReason, str]] = {
    "steps": "the step limit was reached before an answer: allow more with --max-steps",
    "deadline": "the time ran out before an answer: allow more with --timeout",
    "corrections": "the model wrote no usable call or answer several times in a row: try another --model",
    "length": "the answer is cut off: the model reached its limit of tokens",
    "content_filter": "the answer was withheld by the provider's content filter",
    "refusal": "the model refused to answer",
}


def _above_zero(seconds: float) -> float:
    if not seconds > 0:
        raise typer.BadParameter(f"{seconds} is not above 0 seconds")
    return seconds


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
    max_steps: Annotated[int, typer.Option(metavar="N", min=1, help="Most turns of the model.")] = _DEFAULTS.steps,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", callback=_above_zero, help="Most seconds for the run.")
    ] = _DEFAULTS.deadline,
    temperature: Annotated[
        float | None,
        typer.Option(metavar="T", min=0, help="0 takes the likeliest token each time; else the provider's default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Do one task; the answer goes to stdout, calls and their results to stderr."""
    task = _read(prompt)
    agent = Agent(
        model,
        tools=tool or [],
        instructions=instructions,
        limits=Limits(steps=max_steps, deadline=timeout),
        tool_choice=tool_choice,
        settings=ModelSettings(temperature=temperature),
    )
    view = RunView(has_tools=bool(agent.tools) and tool_choice != "none", answer=not as_json)
    result = asyncio.run(_run(agent, task, view))
    if as_json:
        print(_as_json(result))
    if result.stop_reason != "answer":
        show_error(_INCOMPLETE[result.stop_reason])
        raise typer.Exit(3)


async def _run(agent: Agent, task: str, view: RunView) -> RunResult:
    try:
        async with aclosing(agent.stream(task)) as events:
            async for event in events:
                view.show(event)
                if isinstance(event, RunFinished):
                    return event.result
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await agent.provider.close()
        view.close()
    raise ProviderError("the run ended without a result")  # a run's last event is always RunFinished


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


def _as_json(result: RunResult) -> str:
    return json.dumps(
        {
            "output": result.output,
            "stop_reason": result.stop_reason,
            "steps": result.steps,
            "usage": asdict(result.usage),
            "problems": [asdict(problem) for problem in result.problems],
            "messages": json.loads(dump_messages(result.messages)),
        }
    )
