"""What the machine looks for in a turn, compiled once for each dialect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from agentkit.parsing.dialects import DIALECTS
from agentkit.parsing.dialects.base import Dialect, Reasoning, Section, Trigger
from agentkit.parsing.dialects.common import THINK, python_call
from agentkit.parsing.patterns import Pattern, PatternSet, alt, chars, look, seq, ws

__all__ = ["Fence", "Mark", "Marks", "Stop", "marks_for"]

STOPS: Final = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>", "<|end_of_turn|>",
    "<end_of_turn>", "<turn|>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<|role_end|>", "<|eot|>", "<|eom|>",
    "<|user|>", "<|observation|>", "<|assistant_end|>", "<seed:eos>", "<eos>", "[e~[", "<|end|>", "<|return|>",
)  # fmt: skip
"""What ends a turn; dropped at its end, text anywhere else."""


class Stop:
    """An end-of-turn literal."""


@dataclass(frozen=True)
class Fence:
    """A Markdown fence. ``plausible``: what it holds may be a call."""

    plausible: bool


@dataclass(frozen=True)
class Mark:
    """Something to look for.

    ``native``: it belongs to the dialect that was named or detected. ``owner`` is the dialect's name.
    """

    what: Trigger | Reasoning | Section | Fence | Stop
    pattern: Pattern
    native: bool
    owner: str = ""
    closes: Reasoning | None = None
    """Set on the close of a reasoning that was never opened."""


_LANGUAGE = chars(r"[^\n`]", 0, 40)
_FENCES = (
    Mark(Fence(True), seq("```", chars("[A-Za-z_]", 0, 16), ws(), look("{", "[", "<")), False),
    Mark(
        Fence(True),
        seq("```", alt("tool_code", "tool_call", "python", "py", "tool"), "\n", ws(), look(python_call())),
        False,
    ),
    Mark(Fence(False), seq(alt("```", "~~~"), _LANGUAGE, "\n"), False),
)


class _Set:
    """Marks that count at one kind of place."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        self.marks = list(marks)
        self.patterns = PatternSet([mark.pattern for mark in self.marks])

    def match(self, text: str, at: int, final: bool) -> tuple[Mark, re.Match[str]] | bool:
        found = self.patterns.match(text, at, final)
        return found if isinstance(found, bool) else (self.marks[found[0]], found[1])


class Marks:
    """All marks for one dialect (or none), sorted by where they count."""

    def __init__(self, dialect: Dialect | None, adopted: Dialect | None) -> None:
        self._all = list(_marks(dialect, adopted))
        self._in_reasoning: dict[int, tuple[_Set, re.Pattern[str]]] = {}
        self.dialect = dialect

    @cached_property
    def anywhere(self) -> _Set:
        """In the middle of a line."""
        return _Set(mark for mark in self._all if not _is_bound(mark))

    @cached_property
    def line_start(self) -> _Set:
        """At the start of a line."""
        return _Set([*(mark for mark in self._all if not getattr(mark.what, "turn_start", False)), *_FENCES])

    @cached_property
    def turn_start(self) -> _Set:
        """As the first thing in a turn."""
        return _Set([*self._all, *(_section_marks() if self.dialect is None else ()), *_FENCES])

    @cached_property
    def interesting(self) -> re.Pattern[str]:
        """The characters at which the middle of a line is looked at."""
        return _char_class({"\n", "`"}, self.anywhere.marks)

    def in_reasoning(self, reasoning: Reasoning) -> tuple[_Set, re.Pattern[str]]:
        """Within reasoning: its close first, then calls; and the characters to look at."""
        cached = self._in_reasoning.get(id(reasoning))
        if cached is None:
            close = Mark(reasoning, reasoning.close, True, closes=reasoning)
            calls = [
                mark
                for mark in self._all
                if isinstance(mark.what, Trigger) and not mark.what.weak and not _is_bound(mark)
            ]
            found = _Set([close, *calls])
            cached = self._in_reasoning[id(reasoning)] = (found, _char_class(set(), found.marks))
        return cached

    def begins_call(self, text: str) -> bool:
        """Whether a text is the beginning of a call in the named dialect and ends before the call does."""
        return any(
            mark.pattern.beginning.match(text)
            for mark in self._all
            if mark.native and isinstance(mark.what, Trigger) and not mark.what.weak
        )

    def prefilled(self, prompt: str) -> tuple[Reasoning, str] | None:
        """The reasoning that the prompt has already opened, and whose it is."""
        end = prompt[-400:].rstrip()
        for mark in self._all:
            if isinstance(mark.what, Reasoning) and mark.closes is None and _ends_with(mark.pattern, end):
                return mark.what, mark.owner
        return None


def _ends_with(pattern: Pattern, text: str) -> bool:
    return re.search(f"(?:{pattern.full})\\Z", text) is not None


def _is_bound(mark: Mark) -> bool:
    return getattr(mark.what, "line_start", False) or getattr(mark.what, "turn_start", False)


def _char_class(chars: set[str], marks: list[Mark]) -> re.Pattern[str]:
    found = set(chars)
    for mark in marks:
        found |= mark.pattern.first
    return re.compile(f"[{re.escape(''.join(sorted(found)))}]")


def _marks(dialect: Dialect | None, adopted: Dialect | None) -> Iterator[Mark]:
    seen: set[Trigger] = set()
    own = [dialect] if dialect else []
    for owner in [*own, *(other for other in DIALECTS.values() if other is not dialect)]:
        for trigger in owner.triggers:
            native = owner is dialect
            foreign = not trigger.named_only and (not trigger.turn_start or trigger.pattern.prefixes is not None)
            if trigger not in seen and (native or foreign):
                seen.add(trigger)
                yield Mark(trigger, trigger.pattern, native, owner.name)
    pairs = [(THINK, "")] + [(pair, owner.name) for owner in own or DIALECTS.values() for pair in owner.reasoning]
    for pair, name in pairs:
        yield Mark(pair, pair.open, dialect is not None, name)
    for owner in [*own, *([adopted] if adopted else [])]:
        for section in owner.sections:
            yield Mark(section, section.pattern, True, owner.name)
    for pair, _ in pairs if own else pairs[:1]:
        if pair.close.first and (pair is THINK or not pair.line_start):
            yield Mark(pair, pair.close, dialect is not None, closes=pair)
    yield Mark(Stop(), alt(*STOPS), False)


def _section_marks() -> Iterator[Mark]:
    """A turn that begins with another dialect's section is in that dialect, as far as its sections go."""
    for owner in DIALECTS.values():
        for section in owner.sections:
            yield Mark(section, section.pattern, False, owner.name)


@lru_cache(maxsize=128)
def marks_for(dialect: str | None, adopted: str | None = None) -> Marks:
    """The marks of a dialect, or of all of them; ``adopted`` lends its sections."""
    return Marks(DIALECTS[dialect] if dialect else None, DIALECTS[adopted] if adopted else None)
