"""The one machine that reads a turn, in pieces of any size."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, Literal

from agentkit.errors import ConfigError, nearest
from agentkit.events import (
    ModelEvent,
    ProblemFound,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from agentkit.messages import Problem, ToolCall, clean_text
from agentkit.parsing.body import Body, LineBody, Scan, ScannedBody
from agentkit.parsing.calls import Gate, Keys, RawCall, ToolBox
from agentkit.parsing.context import Context
from agentkit.parsing.detect import dialect_for
from agentkit.parsing.dialects import DIALECTS
from agentkit.parsing.dialects.base import Dialect, Reasoning, Section, Trigger
from agentkit.parsing.literals import Unreadable
from agentkit.parsing.marks import STOPS, Fence, Mark, Marks, Stop, marks_for
from agentkit.parsing.patterns import PatternSet, chars, seq
from agentkit.parsing.python_calls import read_python_calls
from agentkit.parsing.tags import TagBody
from agentkit.parsing.turn import CallFence, CodeFence, Held, OpenCall, Parsed, add_repair, is_story
from agentkit.tool import AnyTool

__all__ = ["Parsed", "StreamParser", "parse"]

_BACKTICKS: Final = 32
"""Backticks in a row that can open inline code."""
_REPLAYS: Final = 32
"""Times that text taken for a call's inside is read again; the bound keeps reading linear."""
_STOPS: Final = re.compile("|".join(map(re.escape, STOPS)))
_FENCE_CLOSES: Final = {
    fence: PatternSet([seq(chars(r"[ \t]", 0, 8), fence, chars(rf"[ \t{fence[0]}]", 0, 8), "\n")])
    for fence in ("```", "~~~")
}
_FENCE_AT_END: Final = re.compile(r"[ \t]{0,8}(?:```[ \t`]{0,8}|~~~[ \t~]{0,8})\Z")

Tools = Iterable[AnyTool | Callable[..., object] | Mapping[str, object]]


class StreamParser:
    """Reads a model's turn as it is written: text, reasoning, calls, problems.

    Feed it pieces of any size, then `finish`. The result does not depend on where the pieces were cut, the time is
    linear in the length of the text, and nothing that a model writes raises.

    Args:
        tools: what may be called: Tool objects, typed functions, or dicts in OpenAI's shape. Without tools and with a
            dialect, every name is accepted.
        dialect: a name from `DIALECTS`, or a Dialect. None: as `dialect_for` finds it in ``chat_template``; else all
            are tried, and a call counts only if its tool is known and its arguments fit.
        chat_template: the model's Jinja template, or its ``tokenizer_config.json`` as a dict, to detect the dialect.
        prompt: the end of the rendered prompt: a ``<think>`` there means that the turn begins with reasoning.

    Raises:
        ConfigError: there is no such dialect.
    """

    def __init__(
        self,
        tools: Tools | ToolBox = (),
        dialect: str | Dialect | None = None,
        chat_template: str | Mapping[str, object] | None = None,
        prompt: str = "",
        *,
        _inner: Gate | None = None,
    ) -> None:
        if isinstance(dialect, str) and dialect not in DIALECTS:
            raise ConfigError(
                f"There is no dialect {dialect!r}.{nearest(dialect, list(DIALECTS))} They are: {', '.join(DIALECTS)}"
            )
        if dialect is None and chat_template:
            dialect = dialect_for(chat_template)
        if dialect is None and prompt.rstrip().endswith(">>>"):
            dialect = "functionary_v32"
        if isinstance(dialect, Dialect) and DIALECTS.get(dialect.name) is dialect:
            dialect = dialect.name
        self._format = dialect
        self.dialect = dialect.name if isinstance(dialect, Dialect) else dialect
        self._box = tools if isinstance(tools, ToolBox) else ToolBox(tools)
        self._inner = _inner
        self._marks: Marks = _own_marks(dialect) if isinstance(dialect, Dialect) else marks_for(dialect)
        self._events: list[ModelEvent] = []
        self._text: list[str] = []
        self._thought: list[str] = []
        self._calls: list[ToolCall] = []
        self._problems: list[Problem] = []
        self._ids: set[str] = set()
        self._numbered = 0
        self._replays = 0

        self._buffer = ""
        self._reasoning: Reasoning | None = None
        prefilled = self._marks.prefilled(prompt) if prompt else None
        if prefilled is not None:
            self._reasoning, owner = prefilled
            if dialect is None and owner:
                self._marks = marks_for(None, owner)
        self._open: OpenCall | None = None
        self._fence: CallFence | CodeFence | None = None
        self._backticks = 0  # how many opened the inline code that we are in
        self._held: list[Held] = []
        self._suspect: Problem | None = None
        self._space: list[str] = []
        self._context = Context()
        self._turn_start = True
        self._line_start = True
        self._truncated = False
        self._finished = False
        self._waiting = False
        self._saying: list[str] = []
        self._saying_kind: type[TextDelta] | type[ReasoningDelta] = TextDelta

    # ── the public face ────────────────────────────────────────────────────────────────────────────────────────────

    def feed(self, chunk: str) -> list[ModelEvent]:
        """Take more of the turn; returns what it made certain."""
        if chunk and not self._finished:
            self._buffer += chunk
            self._run(final=False)
        return self._take_events()

    def finish(self, truncated: bool = False) -> list[ModelEvent]:
        """The turn is over; returns the rest. ``truncated``: the token limit ended it, so a call may be cut off."""
        if not self._finished:
            self._truncated = truncated
            self._run(final=True)
            self._end_turn()
            self._finished = True
        return self._take_events()

    def result(self) -> Parsed:
        """What was read so far; complete after `finish`."""
        return Parsed(
            clean_text("".join(self._text)),
            clean_text("".join(self._thought)),
            list(self._calls),
            list(self._problems),
        )

    def _take_events(self) -> list[ModelEvent]:
        self._flush()
        events, self._events = self._events, []
        return events

    # ── the loop: each state reads on from a place in the buffer, and says where it stopped ─────────────────────────

    def _run(self, final: bool) -> None:
        at = 0
        self._waiting = False
        while not self._waiting:
            if self._open is not None:
                at = self._in_call(self._open, at, final)
            elif self._fence is not None:
                at = self._in_fence(self._fence, at, final)
            elif self._reasoning is not None:
                at = self._in_reasoning(self._reasoning, at, final)
            else:
                at = self._in_text(at, final)
        self._buffer = self._buffer[at:]

    def _wait(self, at: int) -> int:
        self._waiting = True
        return at

    # ── text ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _in_text(self, at: int, final: bool) -> int:
        text = self._buffer
        if at >= len(text):
            return self._wait(at)
        if self._line_start:
            end = _skip_space(text, at)
            if end > at:
                return self._gap(text[at:end], end)
            marks = self._marks.turn_start if self._turn_start else self._marks.line_start
        else:
            found = self._marks.interesting.search(text, at)
            here = found.start() if found else len(text)
            if here > at:
                return self._say(text[at:here], here)
            if text[at] == "\n":
                self._line_start, self._backticks = True, 0
                return self._gap("\n", at + 1)
            marks = self._marks.anywhere
        if self._backticks or self._context.opens_quote():
            return self._backtick(at, final) if text[at] == "`" else self._say(text[at], at + 1)
        mark = marks.match(text, at, final)
        if mark is True:
            return self._wait(at)
        if mark is False:
            if text[at] == "`":
                return self._backtick(at, final)
            return self._cut_opening(at) if final else self._say(text[at], at + 1)
        return self._begin(*mark, at)

    def _begin(self, mark: Mark, match: re.Match[str], at: int) -> int:
        """Something other than text begins here."""
        what, end = mark.what, match.end()
        if isinstance(what, Stop):
            return self._gap(match[0], end)
        if isinstance(what, Section):
            if not mark.native:
                self._marks = marks_for(self.dialect, mark.owner)
            return self._fresh_line(end)
        if isinstance(what, Reasoning):
            if mark.closes is not None:
                return self._stray_close(match[0], end) if match[0] else self._say(self._buffer[at], at + 1)
            if not mark.native and mark.owner:
                self._marks = marks_for(None, mark.owner)
            self._reasoning = what
            self._turn_start = False
            return end
        if isinstance(what, Fence):
            call = what.plausible and self._inner is None and not self._context.announces_example()
            self._fence = CallFence(match[0]) if call else CodeFence(match[0][:3])
            if isinstance(self._fence, CodeFence):
                self._say(match[0], end)
            return end
        if (what.weak or not mark.native) and (self._context.announces_example() or self._context.is_set_off()):
            return self._say(self._buffer[at], at + 1)
        if what.after_space and not (self._line_start or self._context.invites_bare_call(what.weak)):
            return self._say(self._buffer[at], at + 1)
        named = match.groupdict().get("name")
        if named and (what.known or (what.weak and not mark.native)) and not self._box.is_known(named):
            return self._say(self._buffer[at], at + 1)  # a word, and JSON that may be a call of its own
        self._open_call(mark, what, match, in_reasoning=False)
        return end

    def _fresh_line(self, at: int) -> int:
        """What follows stands as at the start of a line."""
        self._line_start, self._turn_start, self._backticks = True, False, 0
        self._context.clear()
        return at

    def _stray_close(self, literal: str, end: int) -> int:
        """The close of a reasoning whose opening stood in the prompt: all so far was reasoning."""
        if self._context.last == " ":
            return self._say(literal, end)
        if not self._calls and not self._thought and not self._held:
            self._thought, self._text = self._text, []
        self._space.clear()
        return self._fresh_line(end)

    def _cut_opening(self, at: int) -> int:
        """At the end of the turn: the opening of a call and nothing more, or plain text."""
        rest = self._buffer[at:]
        control = rest.startswith(("<|", "<｜", "[TOOL_CALLS"))
        if (self._truncated or control) and len(rest) >= 8 and self._marks.begins_call(rest):
            self._resolve_held("call")
            kind = "truncated" if self._truncated else "unreadable"
            raw = RawCall("", None, rest, fault="it ends after its opening", kind=kind)
            self._accept([self._box.finish(raw, "open")])
            return len(self._buffer)
        return self._say(self._buffer[at], at + 1)

    def _backtick(self, at: int, final: bool) -> int:
        end, most = at, at + _BACKTICKS
        while end < min(len(self._buffer), most) and self._buffer[end] == "`":
            end += 1
        if end == len(self._buffer) and end < most and not final:
            return self._wait(at)
        if end == most:
            return self._say(self._buffer[at:end], end)  # a rule, not code
        if not self._backticks:
            self._backticks = end - at
        elif self._backticks == end - at:
            self._backticks = 0
        return self._say(self._buffer[at:end], end)

    def _gap(self, space: str, end: int) -> int:
        """Whitespace, or an end-of-turn literal: held back until it is known what follows."""
        self._space.append(space)
        self._context.add(space)
        return end

    def _say(self, text: str, end: int) -> int:
        """Text of the answer."""
        solid = text.rstrip()
        if solid:
            if self._held:
                self._resolve_held("text", solid)
            self._suspect = None
            gap = "".join(self._space)
            self._space.clear()
            if self._text or not (self._thought or self._calls):
                self._out(TextDelta, gap)
            self._out(TextDelta, solid)
            self._line_start = self._turn_start = False
        if len(solid) < len(text):
            self._space.append(text[len(solid) :])
        self._context.add(text)
        if "\n" in text[len(solid) :]:
            self._line_start, self._backticks = True, 0
        return end

    # ── fences ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _in_fence(self, fence: CallFence | CodeFence, at: int, final: bool) -> int:
        text = self._buffer
        if at >= len(text):
            if not final:
                return self._wait(at)
            self._fence = None
            if isinstance(fence, CallFence):
                self._close_fence(fence, "", closed=False)
            return at
        if fence.line_start:
            close = _FENCE_CLOSES[fence.fence].match(text, at, final)
            if close is True or (close is False and not final and _is_fence_end(text, at)):
                return self._wait(at)
            if close is not False or (final and _is_fence_end(text, at)):
                end = close[1].end() if isinstance(close, tuple) else len(text)
                self._fence = None
                if isinstance(fence, CallFence):
                    self._close_fence(fence, text[at:end], closed=True)
                else:
                    self._say(text[at:end], end)
                return end
        end = text.find("\n", at) + 1 or len(text)
        fence.line_start = text[end - 1] == "\n"
        if isinstance(fence, CallFence):
            fence.parts.append(text[at:end])
            fence.line.append(text[at:end])
            if fence.line_start:
                line = "".join(fence.line)
                fence.line.clear()
                if line.rstrip().endswith("```"):
                    self._fence = None
                    self._close_fence(fence, "", closed=True)
        else:
            self._say(text[at:end], end)
        return end

    def _close_fence(self, fence: CallFence, close: str, *, closed: bool) -> None:
        """A fence that holds nothing but calls is one; any other is text."""
        content = "".join(fence.parts)
        if content.rstrip().endswith("```"):
            close = content[content.rstrip().rindex("```") :]
            content = content[: -len(close)]
        gate: Gate = "shape" if self.dialect == "json_fence" else "strict"
        found = self._calls_in_fence(content, gate, truncated=self._truncated and not closed)
        raw = fence.opening + content + close
        if not found:
            self._say(raw, 0)
            return
        repairs = [] if gate == "shape" else ["markdown_fence"]
        marked = [
            replace(item, repairs=[*item.repairs, *repairs]) if isinstance(item, ToolCall) else item for item in found
        ]
        self._hold(raw, marked, "end")
        self._fresh_line(0)

    def _calls_in_fence(self, content: str, gate: Gate, *, truncated: bool) -> list[ToolCall | Problem]:
        if content.lstrip()[:1] not in ("{", "[", "<"):
            try:
                read = read_python_calls(content, Keys(), self._box.is_known)
            except Unreadable:
                return []
            results = [self._box.finish(raw, "strict") for raw in read]
            return [item for item in results if item is not None] if None not in results else []
        inner = StreamParser(self._box, self._format, _inner=gate)
        inner.feed(content)
        inner.finish(truncated)
        parsed = inner.result()
        if parsed.text.strip() or parsed.reasoning.strip():
            return []
        return [*parsed.calls, *parsed.problems]

    # ── reasoning ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _in_reasoning(self, reasoning: Reasoning, at: int, final: bool) -> int:
        text = self._buffer
        if at >= len(text):
            return self._wait(at)
        marks, interesting = self._marks.in_reasoning(reasoning)
        found = interesting.search(text, at)
        here = found.start() if found else len(text)
        if here > at:
            return self._think(text[at:here], here)
        if self._context.last == "`":
            return self._think(text[at], at + 1)
        mark = marks.match(text, at, final)
        if mark is True:
            return self._wait(at)
        if mark is False:
            return self._think(text[at], at + 1)
        what = mark[0].what
        if isinstance(what, Trigger):
            self._open_call(mark[0], what, mark[1], in_reasoning=True)
            return mark[1].end()
        self._reasoning = None
        self._space.clear()
        return self._fresh_line(mark[1].end())

    def _think(self, text: str, end: int) -> int:
        """Text of the reasoning."""
        solid = text.rstrip()
        if solid:
            self._release_thoughts()
            gap = "".join(self._space)
            self._space.clear()
            if self._thought:
                self._out(ReasoningDelta, gap)
            self._out(ReasoningDelta, solid if self._thought else solid.lstrip())
        if len(solid) < len(text):
            self._space.append(text[len(solid) :])
        self._context.add(text)
        return end

    # ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open_call(self, mark: Mark, trigger: Trigger, match: re.Match[str], *, in_reasoning: bool) -> None:
        groups = match.groupdict()
        name, call_id = groups.get("name") or "", groups.get("id") or ""
        repairs = list(trigger.repairs)
        if self.dialect and not mark.native:
            repairs.append("missing_marker" if trigger.weak else "foreign_format")
        gate: Gate = ("shape" if trigger.weak else "open") if mark.native and not trigger.strict else "strict"
        body: Body
        if not isinstance(trigger.body, Scan):
            known = self._box.is_argument
            body = TagBody(trigger.body, name=name, call_id=call_id, repairs=repairs, is_argument=known)
        elif trigger.body.line:
            body = LineBody(name=name, repairs=repairs)
        else:
            body = ScannedBody(trigger.body, name=name, call_id=call_id, repairs=repairs)
        self._open = OpenCall(
            body, match[0], self._inner or gate, mark, in_reasoning, self._context.announces_example()
        )

    def _in_call(self, call: OpenCall, at: int, final: bool) -> int:
        at = call.body.feed(self._buffer, at, final)
        self._announce(call)
        if not call.body.done:
            if not final:
                return self._wait(at)
            call.body.failed = True  # nothing can leave a body open at the end; if something does, it is text
        self._open = None
        leftover = call.body.leftover
        if leftover:
            self._replays += 1
            rest = self._buffer[at:]
            self._buffer, at = (leftover + rest, 0) if self._replays <= _REPLAYS else (self._buffer, at)
        try:
            self._close_call(call)
        except RecursionError:  # our caller had left too little of the stack for so deep a value
            self._retract(call)
        if leftover and self._replays > _REPLAYS:
            self._say(leftover, at)
        return at

    def _announce(self, call: OpenCall) -> None:
        """Report the start of a call and its arguments as they come, once it is sure to be one."""
        body = call.body
        if call.gate != "open" or call.in_reasoning or call.example or not body.committed:
            return
        if not call.started:
            name = self._box.resolve(body.name) if self._box.tools else body.name
            if name is None:
                return
            self._resolve_held("call")
            call.started = self._new_id(body.id)
            self._emit(ToolCallStart(name, call.started))
        fresh = body.take_fresh()
        if fresh:
            self._emit(ToolCallDelta(call.started, fresh))

    def _close_call(self, call: OpenCall) -> None:
        raws = [] if call.body.failed else call.body.calls(truncated=self._truncated, is_known=self._box.is_known)
        if call.body.failed or (call.gate == "open" and is_story(raws)):
            self._retract(call)
            return
        if self.dialect is None:
            for raw in raws:
                raw.repairs = [item for item in raw.repairs if item != "wrong_keys" or not raw.usual]
        found = [self._box.finish(raw, call.gate) for raw in raws]
        if call.gate != "open":
            found = self._gated(call, raws, found)
            if found and all(item is None for item in found):
                self._retract(call)
                self._suspect = self._suspicion(call, raws)
                return
        known = [item for item in found if item is not None]
        if call.in_reasoning:
            marked = [add_repair(item, "call_in_reasoning") for item in known]
            self._hold(call.opening + call.body.written, marked, "reasoning")
        elif (call.gate == "open" and not call.example) or self._inner:
            self._resolve_held("call")
            self._accept(known, call.started)
            self._fresh_line(0)
            self._turn_start = True
        else:
            self._hold(call.opening + call.body.written, known, "end" if call.example else "line")
            self._fresh_line(0)
            self._turn_start = True

    def _gated(
        self, call: OpenCall, raws: list[RawCall], found: list[ToolCall | Problem | None]
    ) -> list[ToolCall | Problem | None]:
        """Beside a call that counts, or cut off by the limit, the others are problems rather than text."""
        weak = isinstance(call.mark.what, Trigger) and call.mark.what.weak
        counts = any(isinstance(item, ToolCall) for item in found)
        for index, raw in enumerate(raws):
            cut = raw.kind == "truncated" and (not weak or self._box.is_known(call.body.name or raw.name))
            if found[index] is None and (counts or cut):
                found[index] = self._box.finish(raw, "open")
        return found

    def _suspicion(self, call: OpenCall, raws: list[RawCall]) -> Problem | None:
        """What is wrong with a call in another dialect's markers; reported if the turn ends with it."""
        if isinstance(call.mark.what, Trigger) and call.mark.what.weak:
            return None
        problems = [self._box.finish(raw, "open") for raw in raws]
        return next((item for item in problems if isinstance(item, Problem)), None) if not is_story(raws) else None

    def _retract(self, call: OpenCall) -> None:
        """It was text, or reasoning, after all."""
        text = call.opening + call.body.written
        if call.in_reasoning:
            self._think(text, 0)
        else:
            self._say(text, 0)

    def _hold(self, raw: str, found: list[ToolCall | Problem], rule: Literal["line", "end", "reasoning"]) -> None:
        if rule != "reasoning":
            self._release_thoughts()
            self._turn_start = True
        self._held.append(Held("".join(self._space) + raw, found, rule))
        self._space.clear()

    def _resolve_held(self, by: Literal["text", "call", "end"], following: str = "") -> None:
        """Decide on the calls that were held back, by what came next."""
        held, self._held = self._held, []
        if not held:
            return
        in_reasoning = [item for item in held if item.rule == "reasoning"]
        others = [item for item in held if item.rule != "reasoning"]
        if by == "end":
            in_reasoning, others = [], [*in_reasoning, *others]
        self._release(in_reasoning)
        gap = "".join(self._space)
        same_line = by == "text" and "\n" not in gap and (gap != "" or not following[:1].isalnum())
        if by == "text" and (same_line or any(item.rule == "end" for item in others)):
            self._release(others)
        else:
            for item in others:
                self._accept(item.found)

    def _release_thoughts(self) -> None:
        """Calls in the reasoning were thoughts. What is held is all of it in the reasoning, or none."""
        if self._held and self._held[0].rule == "reasoning":
            self._release(self._held)
            self._held = []

    def _release(self, held: list[Held]) -> None:
        for item in held:
            if item.rule == "reasoning":
                self._out(ReasoningDelta, item.raw)
            else:
                self._out(TextDelta, item.raw)

    def _accept(self, found: Sequence[ToolCall | Problem | None], started: str = "") -> None:
        """Report calls and problems. ``started``: the id under which the first was announced."""
        self._space.clear()
        self._suspect = None
        for index, item in enumerate(found):
            if isinstance(item, Problem):
                self._problems.append(item)
                self._emit(ProblemFound(item))
            elif item is not None:
                announced = started if index == 0 else ""
                call = replace(item, id=announced or self._new_id(item.id))
                if not announced:
                    self._emit(ToolCallStart(call.name, call.id))
                    self._emit(ToolCallDelta(call.id, json.dumps(call.arguments, ensure_ascii=False)))
                self._calls.append(call)
                self._emit(ToolCallEnd(call))

    def _new_id(self, carried: str) -> str:
        """The id that the format carries, or a new one; unique in the turn."""
        call_id = carried
        while not call_id or call_id in self._ids:
            self._numbered += 1
            call_id = f"call_{self._numbered}"
        self._ids.add(call_id)
        return call_id

    # ── the end, and what is reported ──────────────────────────────────────────────────────────────────────────────

    def _end_turn(self) -> None:
        self._resolve_held("end")
        gap = _STOPS.sub("", "".join(self._space))
        if gap and self._reasoning is None and not self._calls and (self._text or not self._thought):
            self._out(TextDelta, gap)
        if self._suspect is not None and not self._calls:
            self._accept([self._suspect])

    def _out(self, kind: type[TextDelta] | type[ReasoningDelta], text: str) -> None:
        if not text:
            return
        if self._saying_kind is not kind:
            self._flush()
        self._saying_kind = kind
        self._saying.append(text)
        (self._text if kind is TextDelta else self._thought).append(text)

    def _flush(self) -> None:
        if self._saying:
            self._events.append(self._saying_kind(clean_text("".join(self._saying))))
            self._saying.clear()

    def _emit(self, event: ModelEvent) -> None:
        self._flush()
        self._events.append(event)


def parse(
    text: str,
    tools: Tools = (),
    dialect: str | Dialect | None = None,
    chat_template: str | Mapping[str, object] | None = None,
    prompt: str = "",
    *,
    truncated: bool = False,
) -> Parsed:
    """A model's whole turn; see `StreamParser` for the arguments. ``truncated``: the token limit ended it.

    Raises:
        ConfigError: there is no such dialect.
    """
    parser = StreamParser(tools, dialect, chat_template, prompt)
    parser.feed(text)
    parser.finish(truncated)
    return parser.result()


@lru_cache(maxsize=32)
def _own_marks(dialect: Dialect) -> Marks:
    """The marks of a dialect that is not in `DIALECTS`."""
    return Marks(dialect, None)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _is_fence_end(text: str, at: int) -> bool:
    return _FENCE_AT_END.match(text, at) is not None
