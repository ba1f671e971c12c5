"""Offered tools → a grammar that holds a decoder to calls that can be read and fit their schemas.

The grammar is in llguidance's dialect of Lark (its ``docs/syntax.md``). Where the model may choose, free text comes
first and the grammar of the calls begins at their marker; where a call is asked for, it begins at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agentkit.messages import JsonValue
from agentkit.tool import AnyTool

__all__ = ["HERMES", "CallShape", "call_grammar"]

# How the arguments are spaced: as models are trained to write JSON. ``lenient`` lets the compiler pass over keywords
# that it does not know; the arguments are validated in full before a tool runs.
_JSON_STYLE: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": True,
}


@dataclass(frozen=True, slots=True)
class CallShape:
    """The literal text around a call's name and its arguments, which are JSON."""

    marker: str
    before_name: str
    before_arguments: str
    close: str
    separator: str


HERMES: Final = CallShape("<tool_call>", '\n{"name": "', '", "arguments": ', "}\n</tool_call>", "\n")


def call_grammar(
    tools: Sequence[AnyTool],
    tool_choice: str,
    special_tokens: Mapping[str, int],
    end_tokens: Iterable[int] = (),
    shape: CallShape = HERMES,
    *,
    max_calls: int = 1,
) -> str | None:
    """A grammar for one turn, or None where nothing is to be constrained.

    Args:
        tools: what may be called.
        tool_choice: ``auto``, ``required``, ``none`` or a tool's name.
        special_tokens: the vocabulary's special tokens by text: a marker that is one of them is matched by its id.
        end_tokens: those that end a turn; they are never part of its text.
        shape: how a call is written.
        max_calls: in one turn, where a call is asked for. With 1, every turn ends behind its call: a small model held
            to a grammar may not find the end alone.
    """
    named = [tool for tool in tools if tool.name == tool_choice]
    if tool_choice == "none" or not tools:
        return None
    marker = _literal(shape.marker, special_tokens)
    rules = {
        "body": f"{_literal(shape.before_name, special_tokens)} ({' | '.join(_named_calls(named or tools, shape))}) "
        f"{_literal(shape.close, special_tokens)}",
    }
    if tool_choice == "auto":
        rules |= _free_choice(
            shape, special_tokens, set(end_tokens), "piece* call?" if max_calls == 1 else "(piece | call)*"
        )
    else:
        following = f" ({_literal(shape.separator, special_tokens)} {marker} body){{0,{max_calls - 1}}}"
        rules |= {"start": f"{marker} body" + (following if max_calls > 1 else "")}
    return "%llguidance {}\n" + "".join(f"{name}: {rule}\n" for name, rule in rules.items())


def _free_choice(
    shape: CallShape, special_tokens: Mapping[str, int], end_tokens: set[int], start: str
) -> dict[str, str]:
    """Text and calls as ``start`` says; a call begins where its marker does."""
    marker = special_tokens.get(shape.marker)
    # Text as the lexer sees it holds no special tokens: name those that may stand in it, such as <think>.
    free = [token for token in special_tokens.values() if token not in end_tokens and token != marker]
    special = f" | <[{','.join(map(str, sorted(free)))}]>" if free else ""
    rules = {"TEXT": r"/(.|\n)+/", "start": start, "piece": f"TEXT{special}"}
    if marker is not None:
        return rules | {"call": f"<[{marker}]> body"}
    return rules | {"call": "lead body", "lead[lazy]": f"/(.|\\n)*/ {json.dumps(shape.marker)}"}


def _named_calls(tools: Sequence[AnyTool], shape: CallShape) -> Iterable[str]:
    for tool in tools:
        schema = _compilable(json.dumps(tool.parameters, default=str))
        yield f"{json.dumps(_escaped(tool.name) + shape.before_arguments)} %json {schema}"


@lru_cache(maxsize=1024)
def _compilable(schema: str) -> str:
    """The schema as far as llguidance can compile it: without its patterns if it must be, else any object.

    What is left out here is still validated before the tool runs.
    """
    from llguidance import LLMatcher

    whole = json.loads(schema)
    for attempt in (whole, _without_patterns(whole)):
        styled = json.dumps({**attempt, "x-guidance": _JSON_STYLE})
        if not LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(styled)):
            return styled
    return json.dumps({"type": "object", "x-guidance": _JSON_STYLE})


def _without_patterns(schema: JsonValue, *, names: bool = False) -> dict[str, JsonValue]:
    """A schema without ``pattern`` and ``format``; ``names`` says that the keys are properties' names."""
    assert isinstance(schema, dict)
    return {
        key: _without_patterns(value, names=not names and key in ("properties", "$defs", "definitions"))
        if isinstance(value, dict)
        else [_without_patterns(item) if isinstance(item, dict) else item for item in value]
        if isinstance(value, list)
        else value
        for key, value in schema.items()
        if names or key not in ("pattern", "format", "patternProperties")
    }


def _literal(text: str, special_tokens: Mapping[str, int]) -> str:
    """A literal as grammar symbols, its special tokens by id."""
    for special, token in special_tokens.items():
        before, found, after = text.partition(special)
        if found:
            parts = [_literal(before, special_tokens), f"<[{token}]>", _literal(after, special_tokens)]
            return " ".join(part for part in parts if part)
    return json.dumps(text) if text else ""


def _escaped(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]
