"""Dialects that are not written by hand: built from the literals that a template or its metadata shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agentkit.messages import JsonObject, ToolCall
from agentkit.parsing.body import Scan
from agentkit.parsing.calls import Keys
from agentkit.parsing.dialects import DIALECTS
from agentkit.parsing.dialects.bare import bare
from agentkit.parsing.dialects.base import Dialect, Literals, Reasoning, Section, Trigger
from agentkit.parsing.dialects.common import CALL_JSON, OBJECT, named_call
from agentkit.parsing.patterns import Pattern, chars, lit, look, name, opt, seq, ws

__all__ = ["PROBES", "build", "known_or", "probe_tools", "reads"]

_NAMES: Final = ("probe_alpha", "probe_beta")
"""Tool names that no template contains."""
PROBES: Final = (
    ToolCall(_NAMES[0], {"first_arg": "one value", "second_arg": [1, {"k": "v"}]}, "probe0001"),
    ToolCall(_NAMES[1], {"third_arg": "other"}, "probe0002"),
)
"""Calls to render, to write and to read."""

_PIECES: Final = re.compile(r"(\s+|\{id\}|\{index\}|\{number\})")
_VARIES: Final = re.compile(r"\{(?:id|index|number)\}")
_FIRST_KEY: Final = re.compile(r'\{\s*"([^"\\]+)"\s*:')
_STRONG: Final = 4
"""Characters of a marker that ordinary text does not hold by chance."""


def build(kind: str, literals: Literals, keys: Keys | None, reasoning: Sequence[Reasoning] = ()) -> Dialect | None:
    """The dialect that these literals describe; None if they are too little to tell a call from text.

    Args:
        kind: the dialect's name.
        literals: what stands around names and arguments.
        keys: those of a call's JSON object; None: the name stands before the JSON, outside it.
        reasoning: markers besides ``<think>``.
    """
    found = _named(literals) if keys is None else _json(literals, keys)
    if found is None or not found[0]:
        return None
    triggers, sections = found
    return Dialect(kind, triggers, literals, reasoning=tuple(reasoning), sections=sections)


def known_or(built: Dialect) -> Dialect:
    """The hand-written dialect that writes the same, which knows its models' mistakes; else the one given."""
    calls = PROBES if built.literals is None or built.literals.parallel else PROBES[:1]
    written = built.write_calls(calls)
    for dialect in DIALECTS.values():
        if _squeezed(dialect.write_calls(calls)) == _squeezed(written) and reads(dialect, written, calls):
            return dialect
    return built


def reads(dialect: Dialect, text: str, calls: Sequence[ToolCall]) -> bool:
    """Whether a dialect reads exactly these calls in a text, with nothing to repair and nothing left over."""
    from agentkit.parsing.stream import parse  # which detects dialects, and so imports this

    parsed = parse(text, _TOOLS, dialect)
    return (
        [(call.name, call.arguments) for call in parsed.calls] == [(call.name, call.arguments) for call in calls]
        and not any(call.repairs for call in parsed.calls)
        and not parsed.problems
        and not parsed.text.strip()
        and not parsed.reasoning.strip()
    )


def _probe_tool(call: ToolCall) -> JsonObject:
    parameters: JsonObject = {"type": "object", "properties": {key: {} for key in call.arguments}}
    return {
        "type": "function",
        "function": {"name": call.name, "description": "A tool.", "parameters": parameters},
    }


_TOOLS: Final = tuple(map(_probe_tool, PROBES))


def probe_tools() -> list[JsonObject]:
    """The probes' tools, in OpenAI's shape."""
    return list(_TOOLS)


# ── the name inside the JSON ───────────────────────────────────────────────────────────────────────────────────────


def _json(literals: Literals, keys: Keys) -> tuple[tuple[Trigger, ...], tuple[Section, ...]] | None:
    blocks = bool(literals.call_open.strip().rstrip("["))
    if blocks:  # each call between markers of its own
        marker, closing = _without_list(literals.call_open, literals.call_close)
        section = literals.section_open
        after = (literals.section_close.strip(),) if literals.section_close.strip() else ()
    else:
        marker, closing = _without_list(
            literals.section_open + literals.call_open, literals.call_close + literals.section_close
        )
        section, after = "", ()
    if closing and not _closes_json(closing):
        return None
    separators = literals.separator.strip() if len(literals.separator.strip()) == 1 else ""
    closes = (closing,) if closing else ()
    if not marker:
        return _bare(literals, keys, closes), ()
    scan = Scan(keys=keys, closes=closes, after=after, separators=separators, breaks=(marker,))
    opening = seq(*([_optional(section)] if section.strip() else []), _text(marker), ws())
    in_prose = marker[0].isalnum()
    if blocks:
        return (Trigger(seq(opening, CALL_JSON), scan, after_space=in_prose),), ()
    return (
        Trigger(seq(opening, look("[")), scan, after_space=in_prose),
        Trigger(seq(opening, look("{")), replace(scan, until_close=bool(closes)), after_space=in_prose),
    ), ()


def _bare(literals: Literals, keys: Keys, closes: tuple[str, ...]) -> tuple[Trigger, ...]:
    """JSON that stands for itself: it must begin with the format's first key, or with one that models use."""
    known = bare(keys) if not closes else ()
    key = _first_key(literals)
    if key is None:
        return known
    scan = Scan(keys=keys, separators=";,", after=closes)
    return (
        *known,
        Trigger(look(key), scan, after_space=True, weak=True),
        Trigger(look(seq("[", ws(), key)), Scan(keys=keys, after=closes), after_space=True, weak=True),
    )


def _without_list(opening: str, closing: str) -> tuple[str, str]:
    """The markers without the brackets of a JSON list between them."""
    opening, closing = opening.strip(), closing.strip()
    if opening.endswith("[") and closing.startswith("]"):
        return opening[:-1].strip(), closing[1:].strip()
    return opening, closing


def _first_key(literals: Literals) -> Pattern | None:
    found = _FIRST_KEY.match(literals.before_name.strip())
    return seq("{", ws(), f'"{found[1]}"', ws(), ":") if found else None


# ── the name before the JSON ───────────────────────────────────────────────────────────────────────────────────────


def _named(literals: Literals) -> tuple[tuple[Trigger, ...], tuple[Section, ...]] | None:
    before = (literals.call_open + literals.before_name).strip()
    first = before or literals.section_open.strip()
    if not literals.after_name:
        return None  # nothing ends the name
    head: list[Pattern] = [_text(before), ws()] if before else []
    head += [name(plain=not first), _text(literals.after_name), ws()]
    section = [_optional(literals.section_open)] if literals.section_open.strip() else []
    scan, sections = _after_arguments(literals)
    if not first:
        return (Trigger(seq(*head, OBJECT), scan, line_start=True, weak=True),), sections
    word = first[0].isalnum()
    strong = not word and len(first) >= _STRONG
    triggers: list[Trigger] = []
    if section and not before:
        triggers += named_call(seq(_text(literals.section_open), *head), scan, known=not strong, line_start=word)
        triggers.append(Trigger(seq(*head, OBJECT), scan, line_start=True, weak=True, known=True))
    elif strong:
        triggers += named_call(seq(*section, *head), scan)
    else:
        triggers.append(Trigger(seq(*section, *head, OBJECT), scan, line_start=word, known=word))
    return tuple(triggers), sections


def _after_arguments(literals: Literals) -> tuple[Scan, tuple[Section, ...]]:
    """What closes a call. Brackets and what varies are dropped where they follow it: `Scan` takes neither."""
    close = (literals.after_arguments + literals.call_close).strip()
    end = literals.section_close.strip()
    separator = literals.separator.strip()
    loose = tuple(literal for literal in (close, end) if literal and not _closes_json(literal))
    sections = tuple(Section(_text(literal), line_start=True) for literal in loose)
    before = (literals.call_open + literals.before_name).strip()
    scan = Scan(
        closes=(close,) if close and close not in loose else (),
        after=(end,) if end and end not in loose else (),
        separators=separator if len(separator) == 1 else "",
        breaks=(before,) if len(before) >= _STRONG and "{" not in before else (),
    )
    return scan, sections


def _closes_json(literal: str) -> bool:
    """Whether a literal can be told from the JSON that it closes, and is always the same."""
    return literal[0] not in "]})" and not _VARIES.search(literal)


# ── literals as patterns ───────────────────────────────────────────────────────────────────────────────────────────


def _optional(literal: str) -> Pattern:
    return opt(_text(literal), ws())


def _text(literal: str) -> Pattern:
    """A literal with any whitespace where it has some, and any id or number where one belongs."""
    return seq(*(_piece(piece) for piece in _PIECES.split(literal) if piece)) if literal else ws()


def _piece(piece: str) -> Pattern:
    if piece.isspace():
        return ws()
    if piece == "{id}":
        return chars(r"[\w.:-]", 1, 64, group="id")
    return chars("[0-9]", 1, 6) if piece in ("{index}", "{number}") else lit(piece)


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)
