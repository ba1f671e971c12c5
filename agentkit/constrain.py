"""Offered tools → a grammar that holds a decoder to calls that can be read and fit their schemas.

The grammar is in llguidance's dialect of Lark (its ``docs/syntax.md``). Where the model may choose, free text comes
first and the grammar of the calls begins at their marker; where a call is asked for, it begins at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from agentkit.messages import JsonObject, JsonValue
from agentkit.parsing.dialects.base import Literals
from agentkit.tool import AnyTool

__all__ = ["call_grammar"]

# How the arguments are spaced: as models are trained to write JSON. ``lenient`` lets the compiler pass over keywords
# that it does not know; the arguments are validated in full before a tool runs.
_JSON_STYLE: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": True,
}


def call_grammar(
    tools: Sequence[AnyTool],
    tool_choice: str,
    literals: Literals,
    special_tokens: Mapping[str, int],
    end_tokens: Iterable[int] = (),
    *,
    max_calls: int = 1,
) -> str | None:
    """A grammar for one turn, or None where nothing is to be constrained.

    Args:
        tools: what may be called.
        tool_choice: ``auto``, ``required``, ``none`` or a tool's name.
        literals: what stands around a call's name and its arguments, from its dialect. Calls that begin with nothing
            but their JSON cannot be told from text: with ``auto`` they are not constrained.
        special_tokens: the vocabulary's special tokens by text: in a literal they are matched by their ids.
        end_tokens: those that end a turn; they are never part of its text.
        max_calls: in one turn. With 1, a turn ends behind its call: a small model held to a grammar may not find the
            end alone.
    """
    if tool_choice == "none" or not tools:
        return None
    named = [tool for tool in tools if tool.name == tool_choice]
    writer = _Writer(named or tools, literals, special_tokens)
    calls = max_calls if literals.parallel else 1
    if tool_choice != "auto":
        rules = {"start": writer.section(calls)}
    elif (literals.section_open + literals.call_open).strip():
        rules = writer.free_choice(calls, set(end_tokens))
    else:
        return None
    return "%llguidance {}\n" + "".join(f"{name}: {rule}\n" for name, rule in rules.items())


class _Writer:
    """Writes the rules of one dialect, tools and vocabulary."""

    def __init__(self, tools: Sequence[AnyTool], literals: Literals, special_tokens: Mapping[str, int]) -> None:
        self._tools = tools
        self._literals = literals
        self._special = special_tokens

    def section(self, calls: int, *, begun: int = 0) -> str:
        """All calls of a turn, 1 to ``calls``; ``begun`` characters of their opening are written already."""
        further = ""
        for index in range(calls - 1, 0, -1):
            further = f"({self._symbols(self._literals.separator)} {self._call(index)} {further})?"
        first = self._call(0, begun=max(0, begun - len(self._literals.section_open)))
        opening = self._symbols(self._literals.section_open[begun:])
        return f"{opening} {first} {further} {self._symbols(self._literals.section_close)}"

    def free_choice(self, calls: int, end_tokens: set[int]) -> dict[str, str]:
        """Text, and calls from their marker on; text again after them where there may be several."""
        opening = self._literals.section_open + self._literals.call_open
        marker = next((special for special in self._special if opening.startswith(special)), opening.rstrip())
        token = self._special.get(marker)
        # Text as the lexer sees it holds no special tokens: name those that may stand in it, such as <think>.
        free = sorted(id for id in self._special.values() if id not in end_tokens and id != token)
        rules = {
            "TEXT": r"/(.|\n)+/",
            "start": "piece* calls?" if calls == 1 else "(piece | calls)*",
            "piece": "TEXT" + (f" | <[{','.join(map(str, free))}]>" if free else ""),
            "calls": f"lead {self.section(calls, begun=len(marker))}",
        }
        if token is not None:
            return rules | {"lead": f"<[{token}]>"}
        return rules | {"lead[lazy]": f"/(.|\\n)*/ {json.dumps(marker)}"}

    def _call(self, index: int, begun: int = 0) -> str:
        literals = self._literals
        head = (literals.call_open + literals.before_name)[begun:]
        named = " | ".join(
            f"{self._symbols(_escaped(tool.name) + literals.after_name, index)} %json {_compilable(_schema(tool))}"
            for tool in self._tools
        )
        tail = self._symbols(literals.after_arguments + literals.call_close, index)
        return f"{self._symbols(head, index)} ({named}) {tail}"

    def _symbols(self, literal: str, index: int = 0) -> str:
        """A literal as grammar symbols: special tokens by id, a call's id as the pattern of one."""
        literal = literal.replace("{index}", str(index)).replace("{number}", str(index + 1))
        special = sorted(self._special, key=len, reverse=True)
        symbols = []
        for piece in re.split("(" + "|".join(map(re.escape, [*special, "{id}"])) + ")", literal):
            if piece == "{id}":
                symbols.append(f"/{self._literals.id_pattern}/")
            elif piece in self._special:
                symbols.append(f"<[{self._special[piece]}]>")
            elif piece:
                symbols.append(json.dumps(piece))
        return " ".join(symbols)


def _schema(tool: AnyTool) -> str:
    return json.dumps(tool.parameters, default=str)


@lru_cache(maxsize=1024)
def _compilable(schema: str) -> str:
    """The schema as far as llguidance can compile it: without its patterns if it must be, else any object.

    What is left out here is still validated before the tool runs.
    """
    from llguidance import LLMatcher

    whole = json.loads(schema)
    if "allOf" not in schema:  # each part of one would close the others out
        whole = _rewritten(whole, _closed)
    for attempt in (whole, _rewritten(whole, _without_patterns)):
        styled = json.dumps({**attempt, "x-guidance": _JSON_STYLE})
        if not LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(styled)):
            return styled
    return json.dumps({"type": "object", "x-guidance": _JSON_STYLE})


def _closed(schema: JsonObject) -> JsonObject:
    """An object that says what it holds holds nothing else: a model is not to make up arguments."""
    open_ended = ("additionalProperties", "unevaluatedProperties", "patternProperties", "anyOf", "oneOf", "$ref", "if")
    if "properties" not in schema or any(key in schema for key in open_ended):
        return schema
    return {**schema, "additionalProperties": False}


def _without_patterns(schema: JsonObject) -> JsonObject:
    return {key: value for key, value in schema.items() if key not in ("pattern", "format", "patternProperties")}


def _rewritten(schema: JsonObject, rewrite: Callable[[JsonObject], JsonObject]) -> JsonObject:
    """A schema with every schema in it rewritten."""

    def inside(key: str, value: JsonValue) -> JsonValue:
        if isinstance(value, list):
            return [_rewritten(item, rewrite) if isinstance(item, dict) else item for item in value]
        if not isinstance(value, dict):
            return value
        if key in ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas"):
            return {name: _rewritten(item, rewrite) if isinstance(item, dict) else item for name, item in value.items()}
        return _rewritten(value, rewrite)

    values = ("enum", "const", "default", "examples")  # these hold no schemas
    return {key: value if key in values else inside(key, value) for key, value in rewrite(schema).items()}


def _escaped(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]
