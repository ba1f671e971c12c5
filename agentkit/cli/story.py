"""A run's records in words."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from rich.text import Text

from agentkit.cli.screen import OUT, clean, one_line
from agentkit.cli.view import SHOWN_CHARACTERS, excerpt, written
from agentkit.journal.base import Entry
from agentkit.journal.records import (
    CallDecided,
    CallFinished,
    CallStarted,
    Compacted,
    ModelAnswered,
    Record,
    RunEnded,
    RunResumed,
    RunStarted,
    StepEnded,
)
from agentkit.messages import Message, ModelResponse, ToolCall, Usage
from agentkit.policy import Decision
from agentkit.tool import as_tool

__all__ = ["Story"]

_STYLES: Final = {
    "deny": "red",
    "ask": "yellow",
    "modify": "yellow",
    "paused": "yellow",
    "started": "cyan",
    "finished": "green",
    "failed": "red",
    "interrupted": "yellow",
}


class Story:
    """Prints records: when, what, and what it says.

    Args:
        full: cut nothing.
        margin: before each line.
    """

    def __init__(self, *, full: bool, margin: str = "") -> None:
        self._full = full
        self._margin = margin
        self._before = 0.0  # when the last record was made
        self._steps = 0
        self._usage = Usage()
        self._calls: list[ToolCall] = []  # of the last turn
        self._started: dict[str, float] = {}  # when calls were started, by key
        self._is_ended = False

    def beneath(self) -> Story:
        """The story of a run that a call of this one began."""
        return Story(full=self._full, margin=f"{self._margin}  ")

    def begin(self, run_id: str) -> None:
        """Say which run it is."""
        self._print(Text(f"run {run_id}", style="bold"))

    def tell(self, entry: Entry) -> None:
        """Print one record, unless it only says that a turn is over."""
        label, text = self._told(entry.record, entry.at)
        if not isinstance(entry.record, StepEnded):  # it is written with what comes after it
            self._before = entry.at
        if not text:
            return
        when = datetime.fromtimestamp(entry.at).strftime("%H:%M:%S.%f")[:-5]
        first, *others = clean(text).split("\n")
        self._print(Text.assemble((when, "dim"), "  ", (f"{label:<9}", _STYLES.get(label, "bold")), " ", first))
        for line in others:
            self._print(Text(" " * 22 + line))

    def end(self, *, is_running: bool) -> None:
        """Say how it stands where it did not end, and what it has used."""
        if not self._is_ended:
            state = "running" if is_running else "interrupted"
            self._print(Text(f"{state}", style=_STYLES.get(state, "bold")))
        steps = "1 step" if self._steps == 1 else f"{self._steps} steps"
        cost = f" · ${self._usage.cost:.4f}" if self._usage.cost else ""
        self._print(Text(f"{steps} · {_tokens(self._usage)}{cost}", style="dim"))

    def _print(self, line: Text) -> None:
        OUT.print(Text(self._margin) + line)

    def _told(self, record: Record, at: float) -> tuple[str, str]:
        self._is_ended = isinstance(record, RunEnded)
        match record:
            case RunStarted():
                return "begun", "\n".join(self._begun(record, at))
            case ModelAnswered(response):
                self._steps += 1
                self._calls = response.calls
                self._usage += response.usage
                return "model", "\n".join(self._turn(response, at))
            case CallDecided(_, tool, arguments, action, by, reason):
                why = f"\n{reason}" if reason else ""
                return action, f"by {by}: {self._call(ToolCall(tool, arguments))}{why}"
            case CallStarted(place, key, arguments):
                self._started[key] = at
                return "started", self._call(ToolCall(self._calls[place].name, arguments))
            case CallFinished(_, key, result, whole, usage):
                self._usage += usage
                seconds = f" in {at - self._started[key]:.1f} s" if key in self._started else ""
                text = self._cut(whole if whole and self._full else result.content)
                strangers = " (untrusted)" if result.untrusted else ""
                failed = f" {result.error}" if result.error else ""
                label = "failed" if result.error else "finished"
                return label, f"{result.name}{seconds}{failed}{strangers}: {text}"
            case StepEnded(messages):
                return "told", "\n".join(self._said(message for message in messages if message.role != "tool"))
            case Compacted(count, instead, response):
                self._usage += response.usage if response else Usage()
                told = self._said(instead)
                return "compacted", "\n".join([f"the model is sent this instead of the first {count} messages:", *told])
            case RunResumed(decisions):
                said = [f"{_decided(made)} {key[:8]}" for key, made in decisions.items()]
                return "resumed", ", ".join([f"{datetime.fromtimestamp(at):%Y-%m-%d}", *said])
            case RunEnded("paused", pending):
                lines = [
                    f"{call.key[:8]} {self._call(ToolCall(call.tool, call.arguments))}\n{call.why}" for call in pending
                ]
                return "paused", "\n".join(lines)
            case RunEnded(stop_reason):
                return "ended", stop_reason

    def _begun(self, started: RunStarted, at: float) -> Iterator[str]:
        yield f"{datetime.fromtimestamp(at):%Y-%m-%d} · {started.model}"
        if started.tools:
            yield f"tools: {', '.join(tool.name for tool in map(as_tool, started.tools))}"
        if started.session:
            yield f"session: {started.session}"
        if started.continues:
            steps = "" if started.at_step is None else f", its first {started.at_step} steps"
            yield f"after run: {started.continues}{steps}"
        if started.instructions:
            yield f"system: {self._cut(started.instructions)}"
        yield from self._said(started.messages)

    def _turn(self, response: ModelResponse, at: float) -> Iterator[str]:
        yield f"{at - self._before:.1f} s, {_tokens(response.usage)}"
        if response.reasoning:
            yield f"(thinking) {self._cut(response.reasoning)}"
        if response.text.strip():
            yield self._cut(response.text)
        for call in response.calls:
            yield f"→ {self._call(call)}"
        for problem in response.problems:
            yield f"! {one_line(problem.message, self._limit)}"

    def _said(self, messages: Iterable[Message]) -> Iterator[str]:
        for message in messages:
            if message.text:
                yield f"{message.role}: {self._cut(message.text)}"
            for call in message.calls:
                yield f"{message.role}: → {self._call(call)}"
            for result in message.results:
                yield f"{message.role}: ← {result.name}: {self._cut(result.content)}"

    def _call(self, call: ToolCall) -> str:
        return written(call, self._limit)

    def _cut(self, text: str) -> str:
        return text.strip() if self._full else excerpt(text)

    @property
    def _limit(self) -> int:
        return sys.maxsize if self._full else SHOWN_CHARACTERS


def _decided(made: Decision) -> str:
    if made.result is not None:
        return f"the result {one_line(made.result, 60)!r} for"
    return "allow" if made.allow else "deny"


def _tokens(usage: Usage) -> str:
    return f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens"
