"""A chat template of an unknown format → a dialect, read off what it renders.

The template renders the same conversation with no call, one and two; what the renders differ in are the calls, and
what stands around their names and arguments are the format's literals. A dialect that is built from these counts only
if it reads the renders back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agentkit.messages import JsonObject, JsonValue, ToolCall
from agentkit.parsing.built import PROBES, build, known_or, probe_tools, reads
from agentkit.parsing.calls import Keys
from agentkit.parsing.dialects.base import Dialect, Literals
from agentkit.parsing.marks import STOPS
from agentkit.parsing.sandbox import compile_template

__all__ = ["rendered_dialect"]

_QUESTION: Final = "A question."
_BOUNDARY: Final = re.compile(r".*[>\]\s]", re.DOTALL)
"""As far as a marker is not cut in two."""
_ANSWER: Final = "PROBEANSWER"
_STOP_AT_END: Final = re.compile(rf"(?:\s|{'|'.join(map(re.escape, STOPS))})+\Z")
_STYLES: Final = ("", "{index}", "{number}")
"""How calls may be counted in their literals."""
_ENDS: Final = ">])|,; \n\t"
_BEGINS: Final = "<[("

_Render = Callable[[Mapping[str, object]], str | None]


@lru_cache(maxsize=32)
def rendered_dialect(template: str) -> Dialect | None:
    """The dialect in which a Jinja template writes calls.

    None: it shows none, the name and one JSON object of arguments are not in it in this order, or it does not render
    within the bounds of `sandbox`.
    """
    if "tool_calls" not in template:
        return None
    render = compile_template(template)
    if render is None:
        return None
    for as_text in (False, True):
        shown = _Shown(render, as_text)
        first = shown.turn(PROBES[:1])
        if first is not None:
            found = _read_off(shown, first)
            if found is not None:
                return found
    return None


@dataclass(frozen=True)
class _Shown:
    """What the template shows of a turn. ``as_text``: arguments are given as JSON text, as OpenAI's API has them."""

    render: _Render
    as_text: bool

    def turn(self, calls: Sequence[ToolCall]) -> str | None:
        """The assistant's part of the render, without what ends a turn."""
        whole = self._rendered([{"role": "assistant", "content": "", "tool_calls": [*map(self._wire, calls)]}])
        if whole is None:
            return None
        answer = self._rendered([{"role": "assistant", "content": _ANSWER}])
        if answer is None or _ANSWER not in answer:
            return None
        before, _, after = answer.partition(_ANSWER)
        if not whole.startswith(before):
            before = self._before_turn(whole)
            if not before:
                return None
        written = whole[len(before) :]
        if after and written.endswith(after):
            written = written[: -len(after)]
        return _STOP_AT_END.sub("", written).strip()

    def _before_turn(self, whole: str) -> str:
        """All up to the assistant's turn, where an answer begins with a marker of its own. Empty: not to be told."""
        prompt = self._rendered([], add_generation_prompt=True) or ""
        if whole.startswith(prompt):
            return prompt
        shared = _BOUNDARY.match(_common(whole, prompt))  # the prompt may go on with the beginning of a reasoning
        return shared[0] if shared and _QUESTION in shared[0] else ""

    def _wire(self, call: ToolCall) -> JsonObject:
        arguments: JsonValue = json.dumps(call.arguments) if self.as_text else call.arguments
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}

    def _rendered(self, turn: list[JsonObject], *, add_generation_prompt: bool = False) -> str | None:
        messages: list[JsonObject] = [{"role": "user", "content": _QUESTION}, *turn]
        return self.render(
            {
                "messages": messages,
                "tools": probe_tools(),
                "add_generation_prompt": add_generation_prompt,
                "bos_token": "<s>",
                "eos_token": "</s>",
            }
        )


@dataclass(frozen=True)
class _Call:
    """Where the parts of a call are in a render: of its name, its arguments, and the JSON around both, if any."""

    name: tuple[int, int]
    arguments: tuple[int, int]
    json: tuple[int, int] | None
    keys: Keys | None


def _read_off(shown: _Shown, first: str) -> Dialect | None:
    call = _find(first, PROBES[0], 0)
    if call is None:
        return None
    both, other = shown.turn(PROBES), shown.turn(PROBES[1:])
    samples: list[tuple[str, Sequence[ToolCall]]] = [(first, PROBES[:1])]
    if other is not None:
        samples.append((other, PROBES[1:]))
    found: list[Literals] = []
    if both is not None:
        found += [literals for style in _STYLES if (literals := _parallel(first, call, both, style))]
    if found and both is not None:
        samples.append((both, PROBES))
    else:
        found.append(_alone(first, call))
    for literals in found:
        for keys in dict.fromkeys((call.keys, None)):
            dialect = build("rendered", literals, keys)
            if dialect is not None and _is_right(dialect, samples):
                return known_or(dialect)
    return None


def _is_right(dialect: Dialect, samples: list[tuple[str, Sequence[ToolCall]]]) -> bool:
    return all(
        reads(dialect, text, calls) and reads(dialect, dialect.write_calls(calls), calls) for text, calls in samples
    )


def _find(text: str, call: ToolCall, start: int) -> _Call | None:
    """The first place where a call's name and, after it, its arguments as JSON stand."""
    arguments = _json_spans(text, call.name, start, lambda value: value == call.arguments)
    if not arguments:
        return None
    name = text.rfind(call.name, start, arguments[0][0])
    if name < 0:
        return None
    around = _json_spans(text, "", start, lambda value: _keys_of(value, call) is not None)
    inside = next((span for span in around if span[0] < name and span[1] >= arguments[0][1]), None)
    keys = _keys_of(json.loads(text[inside[0] : inside[1]]), call) if inside else None
    return _Call((name, name + len(call.name)), arguments[0], inside, keys)


def _json_spans(text: str, behind: str, start: int, is_it: Callable[[JsonValue], bool]) -> list[tuple[int, int]]:
    """Where JSON objects stand that are what is looked for; only ones behind a name, if one is given."""
    at = text.find(behind, start) if behind else start
    found: list[tuple[int, int]] = []
    while at >= 0 and (at := text.find("{", at)) >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if is_it(value):
            found.append((at, end))
        at += 1
    return found


def _keys_of(value: JsonValue, call: ToolCall) -> Keys | None:
    """The keys of the name and the arguments, if this object is the call."""
    if not isinstance(value, dict):
        return None
    if value.get(call.name) == call.arguments:
        return Keys("", "")
    names = [key for key, item in value.items() if item == call.name]
    arguments = [key for key, item in value.items() if item == call.arguments]
    return Keys(names[0], arguments[0]) if names and arguments else None


def _parallel(first: str, call: _Call, both: str, style: str) -> Literals | None:
    """The literals, with those between calls, from a render of two; None if it does not show both in one way."""
    one = _find(both, PROBES[0], 0)
    two = _find(both, PROBES[1], one.arguments[1]) if one else None
    if one is None or two is None:
        return None
    head = _general(both[: one.name[0]], 0, style)
    middle = _general(both[one.name[1] : one.arguments[0]], 0, style)
    between = both[one.arguments[1] : two.name[0]]
    rest = _general(both[two.arguments[1] :], 1, style)
    if middle != _general(both[two.name[1] : two.arguments[0]], 1, style):
        return None
    opening = _common(head[::-1], _general(between, 1, style)[::-1])[::-1]
    if opening != head:  # what ends the section's marker may also end a call's
        opening = opening.lstrip(_ENDS) or opening
    left = _general(between, 1, style)
    left = _general(left[: len(left) - len(opening)], 0, style)
    closing = _common(rest, left)
    if closing not in (rest, left):
        closing = closing.rstrip(_BEGINS) or closing
    section = head[: len(head) - len(opening)], rest[len(closing) :]
    alone = _general(first[: call.name[0]], 0, style), _general(first[call.arguments[1] :], 0, style)
    if alone != (section[0] + opening, closing + section[1]):
        return None
    inside, after = _json_part(both, one, style)
    cut, end = len(opening) - min(inside, len(opening)), min(after, len(closing))
    return Literals(
        section_open=section[0],
        call_open=opening[:cut],
        before_name=opening[cut:],
        after_name=middle,
        after_arguments=closing[:end],
        call_close=closing[end:],
        separator=left[len(closing) :],
        section_close=section[1],
    )


def _alone(text: str, call: _Call) -> Literals:
    """The literals where a turn has one call only."""
    opening, closing = _general(text[: call.name[0]], 0), _general(text[call.arguments[1] :], 0)
    inside, after = _json_part(text, call)
    return Literals(
        call_open=opening[: len(opening) - inside],
        before_name=opening[len(opening) - inside :],
        after_name=_general(text[call.name[1] : call.arguments[0]], 0),
        after_arguments=closing[:after],
        call_close=closing[after:],
        parallel=False,
    )


def _json_part(text: str, call: _Call, style: str = "") -> tuple[int, int]:
    """How much of the literals before the name and after the arguments is JSON around both."""
    if call.json is None:
        return 0, 0
    return (
        len(_general(text[call.json[0] : call.name[0]], 0, style)),
        len(_general(text[call.arguments[1] : call.json[1]], 0, style)),
    )


def _general(literal: str, index: int, style: str = "") -> str:
    """With placeholders for the call's id and, in a style that counts, its number."""
    literal = literal.replace(PROBES[index].id, "{id}")
    if not style:
        return literal
    return re.sub(rf"(?<!\d){index + (style == '{number}')}(?!\d)", style, literal)


def _common(one: str, other: str) -> str:
    """The beginning that both have."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))]
