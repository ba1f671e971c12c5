"""A run on the screen: the answer on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from rich.text import Text

from agentkit.cli.journal import short
from agentkit.cli.screen import ERR, clean, one_line
from agentkit.events import (
    Event,
    ProblemFound,
    ReasoningDelta,
    Restarted,
    RunFinished,
    RunResult,
    StepFinished,
    TextDelta,
    ToolFinished,
    ToolStarted,
)
from agentkit.messages import ModelResponse, ToolCall, ToolResult

__all__ = ["RunView", "excerpt", "written"]

SHOWN_CHARACTERS: Final = 600
SHOWN_LINES: Final = 8


class RunView:
    """Shows each event of a run as it comes.

    On a terminal all text streams. Elsewhere stdout gets the answer alone: while the model could still turn to a
    tool (``has_tools``), a turn's text is held until the turn is over, and what came before a call goes to stderr.

    Args:
        has_tools: whether the model is offered tools.
        answer: False keeps stdout free of text, for output in another form.
    """

    def __init__(self, *, has_tools: bool, answer: bool = True) -> None:
        self._terminal = sys.stdout.isatty()
        self._answer = answer
        self._holds = not answer or (has_tools and not self._terminal)
        self._held: list[str] = []
        self._out_open = self._err_open = False  # whether a line was begun there and not ended
        self._has_seen_turn = False
        self._spoken = False  # this turn has shown text
        self._several = False  # calls in this turn
        self._started: set[int] = set()  # identities of the calls that were shown
        self._begun = time.monotonic()

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case TextDelta(text) if self._holds:
                self._held.append(text)
            case TextDelta(text):
                self._stream(text)
            case ReasoningDelta(text):
                self._note(text, "dim", end="")
            case ProblemFound(problem):
                self._note(f"! {one_line(problem.message, SHOWN_CHARACTERS)}", "yellow")
            case Restarted(reason):
                self._held.clear()
                if self._out_open:
                    self._write("\n")
                self._note(f"! begun anew: {one_line(reason, SHOWN_CHARACTERS)}", "yellow")
            case StepFinished(response):
                self._end_turn(response)
            case ToolStarted(call):
                self._show_call(call)
            case ToolFinished(call, result):
                self._show_result(call, result)
            case RunFinished(result):
                if result.stop_reason == "answer" and not self._has_seen_turn:  # it was on record already
                    self._held.append(result.output)
                self._release()
                self.close()
            case _:
                pass

    def close(self) -> None:
        """End the lines that were begun, and show what is still held: the run broke off."""
        self._comment()
        if self._out_open:
            self._write("\n")
        self._end_err_line()

    def summarise(self, result: RunResult) -> None:
        """One line on what the run has used, over all."""
        self._note(self._summary(result), "dim")

    def _end_turn(self, response: ModelResponse) -> None:
        self._has_seen_turn = True
        self._spoken = False
        self._several = len(response.calls) > 1
        self._started.clear()
        if response.calls or response.problems:
            self._comment()
        else:
            self._release()

    def _release(self) -> None:
        """What was held is the answer."""
        held = "".join(self._held)
        self._held.clear()
        if held and self._answer:
            self._write(held)

    def _comment(self) -> None:
        """What was held is not the answer."""
        held = "".join(self._held).strip()
        self._held.clear()
        if held:
            self._note(held, "dim")

    def _stream(self, text: str) -> None:
        if self._terminal and not self._spoken:  # models like to begin a turn with blank lines
            text = text.lstrip()
        if text:
            self._spoken = True
            self._write(text)

    def _write(self, text: str) -> None:
        self._end_err_line()
        sys.stdout.write(clean(text) if self._terminal else text)
        sys.stdout.flush()
        self._out_open = not text.endswith("\n")

    def _note(self, text: str, style: str, end: str = "\n") -> None:
        if self._out_open and self._terminal:
            self._write("\n")
        if end:
            self._end_err_line()
        ERR.print(Text(clean(text), style=style), end=end)
        self._err_open = not (text + end).endswith("\n")

    def _end_err_line(self) -> None:
        if self._err_open:
            ERR.print()
            self._err_open = False

    def _show_call(self, call: ToolCall) -> None:
        self._started.add(id(call))
        self._note(f"→ {written(call)}", "cyan")

    def _show_result(self, call: ToolCall, result: ToolResult) -> None:
        if id(call) not in self._started:  # refused before it ran
            self._show_call(call)
        label = f"{written(call, 60)}: " if self._several else ""
        failed = f"error ({result.error}): " if result.error else ""
        self._note(f"← {label}{failed}{excerpt(result.content)}", "red" if result.error else "green")

    def _summary(self, result: RunResult) -> str:
        seconds = time.monotonic() - self._begun
        steps = "1 step" if result.steps == 1 else f"{result.steps} steps"
        usage = result.usage
        facts = [steps, f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens", f"{seconds:.1f} s"]
        if usage.cost:
            facts.append(f"${usage.cost:.4f}")
        facts.append(f"run {short(result.run_id)}")
        if result.stop_reason != "answer":
            facts.append(f"stopped: {result.stop_reason}")
        return " · ".join(facts)


def written(call: ToolCall, limit: int = SHOWN_CHARACTERS) -> str:
    """A call on one line."""
    arguments = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in call.arguments.items()
    )
    return one_line(f"{call.name}({arguments})", limit)


def excerpt(text: str) -> str:
    """The beginning of a result, its later lines indented under the first."""
    lines = text.strip().splitlines()
    shown = "\n  ".join(lines[:SHOWN_LINES])[:SHOWN_CHARACTERS]
    whole = "\n  ".join(lines)
    left = len(whole) - len(shown)
    return f"{shown}\n  … {left:,} more characters" if left else whole
