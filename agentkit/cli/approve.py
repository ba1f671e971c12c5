"""Calls that wait for a decision: shown so that nothing is hidden, and put to the person at the terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import chop_cells
from rich.text import Text

from agentkit.cli.screen import ERR
from agentkit.messages import JsonValue
from agentkit.policy import Decision, PendingCall

__all__ = ["Person", "show_pending"]

_MARGIN: Final = "  │ "
_ASK: Final = "Make this call? [y]es, [n]o, [a]ll calls of this tool in this run: "
_ASK_INTERRUPTED: Final = "Make it [a]gain, tell the model that nobody [k]nows, or [s]ay what came of it: "
_ASK_RESULT: Final = "What came of it, for the model to read: "


def show_pending(call: PendingCall) -> None:
    """The call with its arguments, whole, each line behind a margin that the arguments cannot break out of."""
    interrupted = "was interrupted" if call.is_interrupted else "waits for a decision"
    ERR.print(Text.assemble((f"? {_visible(call.tool)} ", "bold yellow"), interrupted, (f"  {call.key[:8]}", "dim")))
    for name, value in call.arguments.items():
        for line in _lines(name, value):
            for piece in chop_cells(line, max(20, ERR.width - len(_MARGIN))) or [""]:
                ERR.print(Text(_MARGIN + piece))
    ERR.print(Text(f"  {_visible(call.why)}", style="dim"))


class Person:
    """Whoever sits at the terminal."""

    def __init__(self) -> None:
        self._allowed: set[str] = set()  # tools, until this run ends or is left

    @property
    def is_there(self) -> bool:
        """Whether anybody can be asked."""
        return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    def decide(self, pending: Sequence[PendingCall]) -> dict[str, Decision]:
        """What they say of these calls, by key. Ctrl-D leaves the rest of them undecided."""
        decisions: dict[str, Decision] = {}
        for call in pending:
            decision = self._repair(call) if call.is_interrupted else self._permit(call)
            if decision is None:
                break
            decisions[call.key] = decision
        return decisions

    def _permit(self, call: PendingCall) -> Decision | None:
        if call.tool in self._allowed:
            return Decision(True, "all calls of this tool were allowed in this run")
        show_pending(call)
        answer = _choice(_ASK, "yes", "no", "all")
        if answer == "all":
            self._allowed.add(call.tool)
        return None if answer is None else Decision(answer != "no")

    def _repair(self, call: PendingCall) -> Decision | None:
        show_pending(call)
        match _choice(_ASK_INTERRUPTED, "again", "knows", "say"):
            case "again":
                return Decision(True)
            case "knows":
                return Decision(False)
            case "say" if (said := _line(_ASK_RESULT)) is not None:
                return Decision(False, "somebody said what came of it", result=said)
            case _:
                return None


def _choice(question: str, *words: str) -> str | None:
    """One of these words, of which the first letter is enough; anything else is asked again."""
    while (said := _line(question)) is not None:
        for word in words:
            if said.lower() in (word, word[0]):
                return word
    return None


def _line(question: str) -> str | None:
    """A line from the terminal; None for its end, Ctrl-D."""
    if sys.platform != "win32":
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed before the question is no answer to it
    ERR.print(Text(question, style="bold"), end="")
    line = b""
    try:
        line = sys.stdin.buffer.readline()
    finally:
        if not line:  # Ctrl-D, or Ctrl-C
            ERR.print()
    return line.decode(errors="replace").strip() if line else None


def _lines(name: str, value: JsonValue) -> Iterator[str]:
    """An argument for people: texts as they are, all else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    first, *others = map(_visible, text.expandtabs(4).split("\n"))
    if others:
        yield f"{_visible(name)}:"
        yield from (f"  {line}" for line in (first, *others))
        return
    yield f"{_visible(name)}: {first}"
    if not text.isascii() and not re.search(r"\s", text):  # an address, a path: letters may look like others
        yield f"  in ASCII: {json.dumps(text)}"


def _visible(text: str) -> str:
    """The text with each character that would not be seen, or would steer the terminal, written as its number."""
    return "".join(letter if letter.isprintable() else f"⟨U+{ord(letter):04X}⟩" for letter in text)
