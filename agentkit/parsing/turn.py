"""What a turn comes to, and what the machine keeps while it is not sure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from agentkit.messages import Problem, ToolCall
from agentkit.parsing.body import Body
from agentkit.parsing.calls import Gate, RawCall
from agentkit.parsing.marks import Mark

__all__ = ["CallFence", "CodeFence", "Held", "OpenCall", "Parsed", "add_repair", "is_story"]

_PLACEHOLDER: Final = re.compile(r"name[\"']?\s*:\s*[\"']?\s*(?:<|\.\.\.|…|\{)|\{\s*(?:\.\.\.|…)\s*\}?\Z")
_MEMBER: Final = re.compile(r"[\w\"']\s*[:=(]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a turn consists of."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Held:
    """A call that counts only if nothing speaks against it."""

    raw: str
    found: list[ToolCall | Problem]
    rule: Literal["line", "end", "reasoning"]
    """What must not follow: text on the same line; any text; any answer."""


@dataclass(slots=True)
class OpenCall:
    """A call being read."""

    body: Body
    opening: str
    gate: Gate
    mark: Mark
    in_reasoning: bool
    example: bool = False
    """The text before announced an example: a call only if nothing comes after it."""
    started: str = ""
    """The id under which its start was announced."""


@dataclass(slots=True)
class CallFence:
    """A Markdown fence that may hold a call: kept until it ends."""

    opening: str
    fence: str = "```"
    parts: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)  # the parts of the line that is being read
    line_start: bool = True


@dataclass(slots=True)
class CodeFence:
    """A Markdown fence of code: text in which nothing is a call."""

    fence: str = "```"
    line_start: bool = True


def add_repair(item: ToolCall | Problem, repair: str) -> ToolCall | Problem:
    return replace(item, repairs=[*item.repairs, repair]) if isinstance(item, ToolCall) else item


def is_story(raws: list[RawCall]) -> bool:
    """Whether a marker was only talked about: what follows it has nothing of a call, or placeholders for it."""
    if len(raws) != 1 or not raws[0].fault or raws[0].name or raws[0].kind == "truncated":
        return False
    return not _MEMBER.search(raws[0].raw) or _PLACEHOLDER.search(raws[0].raw) is not None
