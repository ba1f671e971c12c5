"""The inside of a call: read piece by piece until it ends, then read as a whole.

`Body` is what the machine talks to; `ScannedBody` serves everything that nests in brackets: JSON, Python calls,
Gemma's notation. Calls made of tags are in `tags`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from agentkit.messages import JsonValue
from agentkit.parsing.calls import Keys, RawCall, calls_in
from agentkit.parsing.literals import LooseReader, Unreadable
from agentkit.parsing.patterns import PatternSet, alt, chars, lit, look, seq, ws
from agentkit.parsing.python_calls import complete_python_calls, read_python_calls
from agentkit.parsing.repair import read_json

__all__ = ["Body", "LineBody", "Scan", "ScannedBody"]

_HEAD = re.compile(
    r"\s*\[?\s*\{\s*\"(?:name|tool_name)\"\s*:\s*\"([^\"\\]+)\"\s*,\s*"
    r"\"(?:arguments|parameters|args|input)\"\s*:\s*(?=[{\[])"
)
_HEAD_LENGTH: Final = 512
"""Characters in which a call's name must have come for its arguments to be streamed."""


class Body(ABC):
    """The inside of a call while it is being read.

    Attributes:
        done: the end was found; no more text is taken.
        failed: it is no call after all.
        committed: enough was read to be sure that it is one.
        name: the tool's name as soon as it is known.
        id: the call's id, if the format carries one and it is known.
        leftover: text that was taken and, as it turned out, does not belong to the call.
    """

    def __init__(self, *, name: str = "", call_id: str = "") -> None:
        self.done = False
        self.failed = False
        self.committed = False
        self.name = name
        self.id = call_id
        self.leftover = ""
        self._parts: list[str] = []
        self._closing: list[str] = []  # markers after the body
        self._fresh: list[str] = []

    @abstractmethod
    def feed(self, text: str, at: int, final: bool) -> int:
        """Take text from ``at`` on; returns where it stopped. With ``final`` no more will come."""

    @abstractmethod
    def calls(self, *, truncated: bool, is_known: Callable[[str], bool]) -> list[RawCall]:
        """What was read. ``truncated``: the token limit ended the text."""

    @property
    def raw(self) -> str:
        """The body."""
        return "".join(self._parts)

    @property
    def written(self) -> str:
        """All that was taken: the body and the markers after it."""
        return self.raw + "".join(self._closing)

    def take_fresh(self) -> str:
        """Arguments as written, since the last time."""
        fresh = "".join(self._fresh)
        self._fresh.clear()
        return fresh


@dataclass(frozen=True)
class Scan:
    """How to find the end of a bracketed body, and how to read it.

    Args:
        closes: literals that close a call; one must follow, or a repair is noted.
        after: literals that may follow the close (the end of a section); they are dropped.
        separators: characters between calls that are dropped.
        keys: names of the parts of the JSON object, where the name is not outside it.
        python: the body are Python calls.
        until_close: the body ends at the close, not where its brackets do.
        delimiters: further strings that delimit a string.
        late_id: the call's id comes after the arguments.
        breaks: literals that can only begin the next call: this one ended without its close.
        raw_strings: what stands between delimiters is typed by the schema.
        ignored: names that call nothing.
        line: the arguments are plain text, to the end of the line.
    """

    closes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    separators: str = ""
    keys: Keys = field(default_factory=Keys)
    python: bool = False
    until_close: bool = False
    delimiters: tuple[str, ...] = ()
    late_id: bool = False
    breaks: tuple[str, ...] = ()
    raw_strings: bool = False
    ignored: tuple[str, ...] = ()
    line: bool = False


@dataclass(frozen=True)
class _Compiled:
    out: re.Pattern[str]
    stops: PatternSet
    tail: PatternSet
    after: PatternSet
    join: PatternSet


@lru_cache(maxsize=512)
def _compile(scan: Scan) -> _Compiled:
    specials = set("\"'{}[]" + ("()" if scan.python else ""))
    specials.update(literal[0] for literal in _stop_literals(scan))
    stops = [lit(literal) for literal in _stop_literals(scan)]
    tail = [seq(chars(r"(?:[\s\]})]|\\\\n)", 0, 32), alt(*scan.closes))] if scan.closes else []
    join = [] if scan.python else [seq(ws(), chars("[,;]", 0, 1), ws(), look("{"))]
    after = [seq(ws(), alt(*scan.after))] if scan.after else []
    if scan.separators:
        after.append(seq(ws(), chars(f"[{re.escape(scan.separators)}]", 1, 1)))
    return _Compiled(
        re.compile(f"[{re.escape(''.join(sorted(specials)))}]"),
        PatternSet(stops),
        PatternSet(tail),
        PatternSet(after),
        PatternSet(join),
    )


def _stop_literals(scan: Scan) -> tuple[str, ...]:
    return (*scan.delimiters, *scan.closes, *scan.after, *scan.breaks)


_IN_STRING: Final = {quote: re.compile(rf"[\\{quote}]") for quote in "\"'"}
_FOLLOWS_STRING: Final = frozenset(",:}])")


class ScannedBody(Body):
    """A body whose end is where its brackets close.

    Quotes, escapes and nesting are tracked over any chunking; each character is looked at once.
    """

    def __init__(self, scan: Scan, *, name: str = "", call_id: str = "", repairs: Sequence[str] = ()) -> None:
        super().__init__(name=name, call_id=call_id)
        self._scan = scan
        self._compiled = _compile(scan)
        self._outside = bool(name)  # the name stands outside the JSON: all of the body is arguments
        self._repairs = list(repairs)
        self._state = self._in_open
        self._depth = 0
        self._quote = ""
        self._previous = ""
        self._complete = False
        self._closed = False
        self._argument_depth: int | None = 0 if name else None
        self._streaming = self.committed = bool(name)
        self._head_given_up = scan.python or scan.late_id or bool(scan.delimiters)
        self._length = 0

    def feed(self, text: str, at: int, final: bool) -> int:
        while not self.done and at < len(text):
            state = self._state
            then = state(text, at, final)
            if then == at and state == self._state:
                break
            at = then
        if final and not self.done and at >= len(text):
            self._finish()
        return at

    # ── states: each takes what it can decide on, and returns where it stopped ─────────────────────────────────────

    def _in_open(self, text: str, at: int, final: bool) -> int:
        """Outside strings."""
        special = self._compiled.out.search(text, at)
        here = special.start() if special else len(text)
        self._take(text, at, here)
        if not special:
            return here
        stop = self._compiled.stops.match(text, here, final)
        if stop is True:
            return here
        if isinstance(stop, tuple):
            if stop[0] < len(self._scan.delimiters):
                self._quote = stop[1][0]
                self._state = self._in_delimited
                return self._take(text, here, stop[1].end())
            return self._stop(stop[1])
        char = special[0]
        if char in "\"'" and self._opens_string(char):
            if self._scan.python and not final and len(text) - here < 3:
                return here
            self._quote = char * 3 if self._scan.python and text.startswith(char * 3, here) else char
            self._state = self._in_string
            return self._take(text, here, here + len(self._quote))
        self._take(text, here, here + 1)
        if char in "{[(":
            self._depth += 1
        elif char in "}])":
            self._close_bracket()
        return here + 1

    def _opens_string(self, char: str) -> bool:
        """An apostrophe inside a bare word opens nothing."""
        return char == '"' or self._scan.python or not (self._previous.isalnum() or self._previous in "\"'")

    def _close_bracket(self) -> None:
        self._depth -= 1
        if self._depth == self._argument_depth:
            self._argument_depth = None
            self._streaming = False
        if self._depth <= 0 and not self._scan.until_close:
            self._complete = True
            self._end()

    def _end(self) -> None:
        """After the last bracket."""
        if self._scan.closes:
            self._state = self._in_tail
        elif self._scan.after or self._scan.separators:
            self._state = self._in_after
        else:
            self.done = True

    def _stop(self, literal: re.Match[str]) -> int:
        """A close, or what can only come after one, where brackets are still open."""
        self._to_after()
        self._closed = True
        if literal[0] in self._scan.closes:
            self._closing.append(literal[0])
            return literal.end()
        self._note("missing_marker")
        return literal.start()

    def _in_string(self, text: str, at: int, final: bool) -> int:
        quote = self._quote
        found = _IN_STRING[quote[0]].search(text, at)
        if not found:
            return self._take(text, at, len(text))
        here = found.start()
        if found[0] == "\\":
            if here + 1 >= len(text) and not final:
                return self._take(text, at, here)
            return self._take(text, at, min(here + 2, len(text)))
        if len(quote) == 3:
            if not final and len(text) - here < 3:
                return self._take(text, at, here)
            if not text.startswith(quote, here):
                return self._take(text, at, here + 1)
        self._state = self._in_open if self._scan.python else self._after_quote
        return self._take(text, at, here + len(quote))

    def _after_quote(self, text: str, at: int, final: bool) -> int:
        """Whether the quote just passed closed the string: in JSON only these can follow one."""
        while at < len(text) and text[at].isspace():
            at = self._take(text, at, at + 1)
        if at >= len(text):
            return at
        stop = self._compiled.stops.match(text, at, final)
        if stop is True:
            return at
        closes = text[at] in _FOLLOWS_STRING or stop is not False
        self._state = self._in_open if closes else self._in_string
        return at

    def _in_delimited(self, text: str, at: int, final: bool) -> int:
        end = text.find(self._quote, at)
        if end >= 0:
            self._state = self._in_open
            return self._take(text, at, end + len(self._quote))
        keep = (
            0
            if final
            else next((n for n in range(len(self._quote) - 1, 0, -1) if text.endswith(self._quote[:n], at)), 0)
        )
        return self._take(text, at, len(text) - keep)

    def _in_tail(self, text: str, at: int, final: bool) -> int:
        found = self._compiled.tail.match(text, at, final)
        if found is True:
            return at
        if isinstance(found, tuple):
            if found[1][0].replace("\\n", "").strip()[0] in "]})":
                self._note("extra_closers")
            if "\\n" in found[1][0]:
                self._note("literal_newlines")
            self._closed = True
            self._closing.append(found[1][0])
            at = found[1].end()
        elif isinstance(joined := self._compiled.join.match(text, at, final), tuple):
            self._note("missing_marker")
            self._complete = False
            self._state = self._in_open
            return self._take(text, at, joined[1].end())
        elif joined is True:
            return at
        else:
            self._note("missing_marker")
        self._to_after()
        return at

    def _to_after(self) -> None:
        self._state = self._in_after
        self.done = not (self._scan.after or self._scan.separators)

    def _in_after(self, text: str, at: int, final: bool) -> int:
        found = self._compiled.after.match(text, at, final)
        if found is True:
            return at
        self.done = True
        if isinstance(found, tuple):
            self._closing.append(found[1][0])
            return found[1].end()
        return at

    # ── keeping ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, text: str, start: int, end: int) -> int:
        if end > start:
            piece = text[start:end]
            self._parts.append(piece)
            self._previous = piece[-1]
            self._length += end - start
            if self._streaming:
                self._fresh.append(piece)
            elif not self._head_given_up:
                self._read_head()
        return end

    def _read_head(self) -> None:
        """The name, as soon as the beginning of the body shows it and the arguments have begun."""
        if self._length > _HEAD_LENGTH or self._argument_depth is not None:
            self._head_given_up = True
            return
        if self._previous not in "{[":
            return
        found = _HEAD.match(self.raw)
        if found and found.end() == self._length - 1:
            self.name = found[1]
            self._fresh.append(self._previous)
            self._streaming = self.committed = True
            self._head_given_up = True
            self._argument_depth = self._depth

    def _note(self, repair: str) -> None:
        if repair not in self._repairs:
            self._repairs.append(repair)

    def _finish(self) -> None:
        """The text ended first."""
        self.done = True
        if self._complete:
            if self._state == self._in_tail:
                self._note("missing_marker")
            return
        if self._depth > 0 or self._quote:
            self._split_at_close()

    def _split_at_close(self) -> None:
        """Brackets or quotes that never close: the call ended at the first close literal after all."""
        raw = self.raw
        ends = [(raw.find(literal), literal) for literal in (*self._scan.closes, *self._scan.after, *self._scan.breaks)]
        end, literal = min((found for found in ends if found[0] > 0), default=(-1, ""))
        if end > 0:
            self.leftover = raw[end + len(literal) if literal in self._scan.closes else end :]
            self._parts = [raw[:end]]
            self._closed = True

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    def calls(self, *, truncated: bool, is_known: Callable[[str], bool]) -> list[RawCall]:
        raw = self.raw
        whole = self._complete or self._closed
        if truncated and not whole:
            return self._salvaged(raw, is_known)
        if not whole:
            self._note("missing_marker") if self._scan.closes and self._depth <= 0 else None
        try:
            found = self._read(raw, is_known)
        except Unreadable as error:
            return [RawCall(self.name, None, raw, self.id, fault=str(error))]
        for call in found:
            call.repairs = list(dict.fromkeys([*call.repairs, *self._repairs]))
        return [call for call in found if call.name not in self._scan.ignored or is_known(call.name)]

    def _read(self, raw: str, is_known: Callable[[str], bool]) -> list[RawCall]:
        if self._scan.python and not self._outside:
            return read_python_calls(raw, self._scan.keys, is_known)
        if self._outside and not raw.strip():
            if not self._closed:
                raise Unreadable("there are no arguments")
            return [RawCall(self.name, {}, raw, self.id)]
        if self._outside:
            return [self._named(*self._value(raw), raw)]
        items = split_items(raw) if not _is_json(raw) else []
        if len(items) > 1:
            return [call for item in items for call in self._item(item, is_known)]
        return self._calls_of(raw, *self._value(raw), is_known)

    def _item(self, raw: str, is_known: Callable[[str], bool]) -> list[RawCall]:
        """One of several calls: if it is broken, the others are still whole."""
        try:
            value, repairs = self._value(raw)
        except Unreadable as error:
            return [RawCall("", None, raw, fault=str(error))]
        return self._calls_of(raw, value, repairs, is_known) if value != {} else []

    def _calls_of(
        self, raw: str, value: JsonValue, repairs: list[str], is_known: Callable[[str], bool]
    ) -> list[RawCall]:
        found = list(calls_in(value, self._scan.keys, raw, is_known))
        for call in found:
            call.repairs += repairs
        return found

    def _value(self, raw: str) -> tuple[JsonValue, list[str]]:
        if not self._scan.delimiters:
            return read_json(raw)
        reader = LooseReader(raw, delimiters=self._scan.delimiters, raw_strings=self._scan.raw_strings)
        return reader.document(), sorted(reader.repairs)

    def _named(self, value: JsonValue, repairs: list[str], raw: str) -> RawCall:
        if isinstance(value, dict) and set(value) == {"name", "arguments"} and value["name"] == self.name:
            return RawCall(self.name, value["arguments"], raw, self.id, [*repairs, "wrong_keys"])
        return RawCall(self.name, value, raw, self.id, repairs)

    def _salvaged(self, raw: str, is_known: Callable[[str], bool]) -> list[RawCall]:
        """The calls of a list that were complete before the cut; the one that was cut is a problem."""
        cut = RawCall(self.name if self._outside else "", None, raw, self.id, fault="cut off", kind="truncated")
        if self._outside:
            return [cut]
        if self._scan.python:
            complete = complete_python_calls(raw)
            names = _PYTHON_NAME.findall(raw)
            cut.name = names[len(complete)] if len(names) > len(complete) else ""
            return [*complete, cut]
        whole: list[RawCall] = []
        for item in split_items(raw)[:-1]:
            whole += [call for call in self._item(item, is_known) if not call.fault]
        return [*whole, cut]


class LineBody(Body):
    """Arguments as plain text, to the end of the line."""

    def __init__(self, *, name: str, repairs: Sequence[str] = ()) -> None:
        super().__init__(name=name)
        self._repairs = list(repairs)

    def feed(self, text: str, at: int, final: bool) -> int:
        end = text.find("\n", at)
        self.done = end >= 0 or final
        end = end if end >= 0 else len(text)
        self._parts.append(text[at:end])
        return end

    def calls(self, *, truncated: bool, is_known: Callable[[str], bool]) -> list[RawCall]:
        raw = self.raw
        text = raw.strip()
        if truncated:
            return [RawCall(self.name, None, raw, fault="cut off", kind="truncated")]
        arguments: JsonValue = {} if text in ("", "None", "null") else text.strip("\"'")
        return [RawCall(self.name, arguments, raw, repairs=self._repairs)]


_PYTHON_NAME: Final = re.compile(r"([^\W\d][\w.\-/:]*)\(")


def _is_json(raw: str) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


_ITEM_MARK: Final = re.compile(r"[\"{}\[\]\\]")


def split_items(raw: str) -> list[str]:
    """The objects of a list, or those that stand one after another; the last may be cut off."""
    items: list[str] = []
    depth = start = 0
    in_string = False
    skip = -1
    listed = raw.lstrip().startswith("[")
    level = 1 if listed else 0
    for mark in _ITEM_MARK.finditer(raw):
        char = mark[0]
        if mark.start() == skip:
            continue
        if in_string:
            if char == "\\":
                skip = mark.end()
            in_string = char != '"'
        elif char == '"':
            in_string = True
        elif char in "{[":
            if depth == level and char == "{":
                start = mark.start()
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == level and char == "}":
                items.append(raw[start : mark.end()])
                start = -1
    return [*items, raw[start:]] if depth > level and start >= 0 else items
