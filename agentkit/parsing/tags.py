"""Calls made of tags: ``<invoke name="f"><parameter name="a">1</parameter></invoke>`` and its many cousins."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from agentkit.messages import JsonValue
from agentkit.parsing.body import Body
from agentkit.parsing.calls import RawCall
from agentkit.parsing.literals import RawText, Repeated, Unreadable
from agentkit.parsing.patterns import Pattern, PatternSet, alt, anonymous, chars, look, opt, seq, ws
from agentkit.parsing.repair import read_json

__all__ = ["TagBody", "Tags", "attribute_tag", "next_invoke"]


def attribute_tag(before: str | Pattern, attribute: str, group: str, after: str = ">") -> Pattern:
    """An opening tag that names something in an attribute; quotes are ", ' or none, further attributes are allowed."""
    quote = chars("[\"']", 0, 1)
    value = chars(r"[^<>\"'\n=]", group=group)
    return seq(
        before,
        ws(),
        attribute,
        ws(),
        "=",
        ws(),
        quote,
        value,
        quote,
        chars(r"[^<>]", 0, 200, group="rest"),
        ws(),
        after,
    )


def next_invoke(section: str | Pattern, opening: str | Pattern, *inside: str | Pattern) -> Pattern:
    """The opening of a further call that is sure to be one: an opening in a value is usually only text."""
    return seq(opt(section, ws()), attribute_tag(opening, "name", "_next"), ws(), look(*inside))


@dataclass(frozen=True)
class Tags:
    """The tags of a format, as patterns to read.

    Args:
        param_open: has the group ``key``; may have ``rest``, further attributes.
        param_close: what closes a value; empty: the close names the key, ``</key>`` after ``close_prefix``.
        call_close: what closes a call.
        after: literals that may follow a call (the end of a section).
        call_open: opens the next call, to see that this one was left open.
        framed: a newline on each side of a value is framing: ``each`` may be there alone, ``both`` not.
        typed: how a value says its type: ``schema`` (it does not), ``string`` (an attribute ``string="true"``) or
            ``type`` (an attribute with a JSON type).
        close_prefix: see ``param_close``.
        escaped: XML entities and CDATA are decoded.
    """

    param_open: Pattern
    param_close: tuple[str | Pattern, ...]
    call_close: tuple[str | Pattern, ...]
    after: tuple[str | Pattern, ...] = ()
    call_open: tuple[str | Pattern, ...] = ()
    framed: Literal["", "each", "both"] = ""
    typed: Literal["schema", "string", "type"] = "schema"
    close_prefix: str = ""
    cdata: bool = False


@dataclass(frozen=True)
class _Compiled:
    between: PatternSet
    """In a call, outside values: 0 param_open, 1 call_close, 2 after, 3 call_open, 4 a stray param_close."""
    inside: PatternSet
    """In a value: 0 param_close, 1 the call's own end, 2 another param_open."""
    first: re.Pattern[str]
    after: PatternSet


@lru_cache(maxsize=2048)
def _compile(tags: Tags, key: str) -> _Compiled:
    close = alt(*(tags.param_close or (f"{tags.close_prefix}</{key}>",)))
    nothing = Pattern("(?!)", "(?!)")
    after = alt(*tags.after) if tags.after else nothing
    call_open = alt(*tags.call_open) if tags.call_open else nothing
    call_close = alt(*tags.call_close)
    another = seq("\n", ws(), look(tags.param_open))
    inside: list[Pattern] = [close, seq(call_close, ws(), opt(after, ws()), look(call_open)), another]
    starts = {"\n", *close.first, *call_close.first}
    return _Compiled(
        PatternSet([tags.param_open, call_close, after, call_open, close]),
        PatternSet(inside),
        re.compile(f"[{re.escape(''.join(sorted(starts)))}]"),
        PatternSet([seq(ws(), after)]),
    )


_TYPE: Final = re.compile(r"""\b(string|type|arg_type)\s*[=>]\s*["']?([\w/]+)""")
_CDATA: Final = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)


class TagBody(Body):
    """A call made of tags, from after its opening tag on."""

    def __init__(
        self,
        tags: Tags,
        *,
        name: str,
        call_id: str = "",
        repairs: Sequence[str] = (),
        is_argument: Callable[[str, str], bool] = lambda name, key: True,
    ) -> None:
        super().__init__(name=name, call_id=call_id)
        self._tags = tags
        self._compiled = _compile(tags, "")
        self._repairs = list(repairs)
        self._is_argument = is_argument
        self._state = self._between
        self._values: list[tuple[str, str, str]] = []  # key, other attributes, text
        self._key = ""
        self._rest = ""
        self._value: list[str] = []
        self._pending = ""  # a close that counts if a tag follows
        self._loose: list[str] = []  # text in the call that is in no value
        self._closed = False

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

    # ── states ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _between(self, text: str, at: int, final: bool) -> int:
        """In the call, before a parameter or the end."""
        end = at
        while end < len(text) and text[end].isspace():
            end += 1
        if end > at:
            return self._keep(text, at, end)
        found = self._compiled.between.match(text, at, final)
        if found is True:
            return at
        if found is False:
            self._loose.append(text[at])
            self.failed = self.done = not self._values and self._loose[0] != "{"
            return at if self.failed else self._keep(text, at, at + 1)
        return self._tag(*found, text)

    def _tag(self, index: int, match: re.Match[str], text: str) -> int:
        """The tag that follows a value or the call's opening."""
        end = match.end()
        self.committed = True
        if index == 0:
            self._key = match["key"].strip()
            self._rest = match.groupdict().get("rest") or ""
            self._value = []
            self._compiled = _compile(self._tags, "" if self._tags.param_close else self._key)
            self._state = self._inside
        elif index == 1:
            self._close()
        elif index == 4:
            self._note("duplicate_close")
        else:
            self._note("missing_marker")
            self._close()
            return match.start()
        return self._keep(text, match.start(), end)

    def _close(self) -> None:
        self._closed = True
        self._state = self._after
        self.done = not self._tags.after

    def _inside(self, text: str, at: int, final: bool) -> int:
        """In a value."""
        found = self._compiled.first.search(text, at)
        here = found.start() if found else len(text)
        if here > at:
            self._value.append(text[at:here])
            return self._keep(text, at, here)
        mark = self._compiled.inside.match(text, at, final)
        if mark is True:
            return at
        if mark is False:
            self._value.append(text[at])
            return self._keep(text, at, at + 1)
        index, match = mark
        if index == 0 and not self._in_cdata():
            self._pending = match[0]
            self._state = self._after_close
            return self._keep(text, at, match.end())
        if self._in_cdata():
            self._value.append(text[at])
            return self._keep(text, at, at + 1)
        if index == 2:
            return self._maybe_next(text, at, match)
        self._note("missing_marker")
        self._end_value()
        self._state = self._between
        return at

    def _in_cdata(self) -> bool:
        """Whether the value is a CDATA section that has not ended."""
        if not self._tags.cdata or not "".join(self._value[:16]).lstrip().startswith("<![CDATA["):
            return False
        return not "".join(self._value[-16:]).rstrip().endswith("]]>")

    def _maybe_next(self, text: str, at: int, match: re.Match[str]) -> int:
        """A parameter's opening inside a value: the close was forgotten, if it is another parameter of this tool."""
        opened = self._tags.param_open.compiled.match(text, match.end())
        key = opened["key"].strip() if opened else ""
        seen = {key for key, _, _ in self._values} | {self._key}
        if not opened or key in seen or not self._is_argument(self.name, key):
            self._value.append(text[at])
            return self._keep(text, at, at + 1)
        self._note("missing_marker")
        self._value.append("\n" if self._tags.framed else "")
        self._end_value()
        self._state = self._between
        return at

    def _after_close(self, text: str, at: int, final: bool) -> int:
        """A close counts if a tag of the call comes next; else it is part of the value."""
        end = at
        while end < len(text) and text[end].isspace():
            end += 1
        if end > at:
            self._pending += text[at:end]
            return self._keep(text, at, end)
        found = self._compiled.between.match(text, at, final)
        if found is True:
            return at
        if found is False:
            self._value.append(self._pending)
            self._pending = ""
            self._state = self._inside
            return at
        self._end_value()
        return self._tag(*found, text)

    def _after(self, text: str, at: int, final: bool) -> int:
        found = self._compiled.after.match(text, at, final)
        if found is True:
            return at
        self.done = True
        if isinstance(found, tuple):
            self._closing.append(found[1][0])
            return found[1].end()
        return at

    # ── keeping ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, text: str, start: int, end: int) -> int:
        self._parts.append(text[start:end])
        self._fresh.append(text[start:end])
        return end

    def _end_value(self) -> None:
        value = "".join(self._value)
        if self._tags.framed:
            value = self._unframed(value)
        self._values.append((self._key, self._rest, value))
        self._pending = ""
        self._state = self._between

    def _unframed(self, value: str) -> str:
        if self._tags.framed == "each":
            return value.removeprefix("\n").removesuffix("\n")
        both = len(value) >= 2 and value[0] == value[-1] == "\n"
        return value[1:-1] if both else value

    def _note(self, repair: str) -> None:
        if repair not in self._repairs:
            self._repairs.append(repair)

    def _finish(self) -> None:
        """The text ended first."""
        self.done = True
        if self._state == self._after_close:
            self._end_value()
        elif self._state == self._inside:
            self._end_at_call_close()
        if not self._closed and self._state == self._between:
            self._note("missing_marker")

    def _end_at_call_close(self) -> None:
        """The last value has no close, but the call has one."""
        value = "".join(self._value)
        close = anonymous(alt(*self._tags.call_close).full)
        after = anonymous(alt(*self._tags.after).full) if self._tags.after else "(?!)"
        found = re.search(rf"{close}(?:\s*{after})?", value)
        if found:
            self.leftover = value[found.end() :].lstrip() if value[found.end() :].strip() else ""
            self._value = [value[: found.start()]]
            self._note("missing_marker")
            self._end_value()
            self._closed = True

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    def calls(self, *, truncated: bool, is_known: Callable[[str], bool]) -> list[RawCall]:
        raw = self.raw
        if not self._closed and truncated:
            return [RawCall(self.name, None, raw, self.id, fault="cut off", kind="truncated")]
        if not self._closed and self._state == self._inside:
            return [RawCall(self.name, None, raw, self.id, fault="a parameter has no end")]
        try:
            arguments = self._arguments()
        except Unreadable as error:
            return [RawCall(self.name, None, raw, self.id, fault=str(error))]
        return [RawCall(self.name, arguments, raw, self.id, list(self._repairs))]

    def _arguments(self) -> JsonValue:
        loose = "".join(self._loose)
        if loose and not self._values and loose.lstrip()[:1] == "{":
            raw = self.raw
            value, repairs = read_json(raw[raw.index("{") : raw.rindex("}") + 1] if "}" in raw else raw)
            self._repairs += [*repairs, "foreign_format"]
            return value
        if loose:
            raise Unreadable(f"text outside the parameters: {loose[:80]!r}")
        found: dict[str, JsonValue] = {}
        for key, rest, text in self._values:
            value = self._typed(rest, text)
            if key in found:
                earlier = found[key]
                found[key] = Repeated([*earlier, value] if isinstance(earlier, Repeated) else [earlier, value])
            else:
                found[key] = value
        return found

    def _typed(self, rest: str, text: str) -> JsonValue:
        if self._tags.cdata and "<![CDATA[" in text:
            return _CDATA.sub(lambda found: found[1], text.strip())
        if not self._tags.param_close and f"{self._tags.close_prefix}<" in text:
            return read_elements(text, self._tags.close_prefix)
        said = _TYPE.search(rest) if self._tags.typed != "schema" else None
        if said is None:
            return RawText(text)
        if said[2] in ("true", "string", "str"):
            return text
        try:
            value, repairs = read_json(text)
        except Unreadable:
            return RawText(text)
        for repair in repairs:
            self._note(repair)
        return value


def read_elements(text: str, prefix: str, depth: int = 0) -> JsonValue:
    """Nested elements whose tags are the keys; ``<item>`` makes a list."""
    opening = re.compile(rf"\s*{re.escape(prefix)}<([^<>/]+)>")
    found: list[tuple[str, JsonValue]] = []
    at = 0
    while opened := opening.match(text, at):
        close = f"{prefix}</{opened[1]}>"
        end = _matching(text, f"{prefix}<{opened[1]}>", close, opened.end())
        if end < 0 or depth > 60:
            return RawText(text)
        inner = text[opened.end() : end]
        nested = f"{prefix}<" in inner
        found.append((opened[1], read_elements(inner, prefix, depth + 1) if nested else RawText(inner)))
        at = end + len(close)
    if text[at:].strip() or not found:
        return RawText(text)
    if all(key == "item" for key, _ in found):
        return [value for _, value in found]
    return dict(found)


def _matching(text: str, opening: str, close: str, at: int) -> int:
    depth = 1
    while True:
        end = text.find(close, at)
        if end < 0:
            return -1
        depth += text.count(opening, at, end) - 1
        if depth == 0:
            return end
        at = end + len(close)
