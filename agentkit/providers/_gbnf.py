"""A model's turn as a grammar in llama.cpp's notation (GBNF), for a server that holds the model to it.

Left to itself, a small model makes up names of tools and of arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from agentkit.messages import JsonObject, JsonValue, ToolCall
from agentkit.providers._react import NEEDED, NOT_NEEDED, REACT
from agentkit.providers._sse import as_object
from agentkit.providers.base import ModelRequest

__all__ = ["turn_grammar"]

_JSON: Final = r"""
value ::= string | number | object | array | boolean | "null"
object ::= "{" ( string ": " value ( ", " string ": " value )* )? "}"
array ::= "[" ( value ( ", " value )* )? "]"
boolean ::= "true" | "false"
string ::= "\"" ( [^"\\\x00-\x1f] | "\\" ( ["\\/bfnrt] | "u" hex hex hex hex ) )* "\""
hex ::= [0-9a-fA-F]
integer ::= "-"? ( "0" | [1-9] [0-9]* )
number ::= integer ( "." [0-9]+ )?
"""
_END: Final = r'".\n"'
_ANSWER: Final = r'"Assistant: " [^\x00]+'
_TYPES: Final = ("string", "integer", "number", "boolean", "array", "object")


def turn_grammar(request: ModelRequest) -> str:
    """A turn, from its `opening` on: a thought, then one call or the answer. A thought that names a tool names one that
    there is and is followed by its call; one that needs none is followed by the answer.

    Names, types and choices of the parameters are held to, and that the required ones are there; the rest of a schema
    is left to validation.
    """
    rules = [f"arguments-{place} ::= {_arguments(tool.parameters)}" for place, tool in enumerate(request.tools)]
    names = [tool.name for tool in request.tools]
    begun = [REACT.write_calls([ToolCall(name, {})]).removesuffix("{}") for name in names]
    calls = [f"{_literal(begin)} arguments-{place}" for place, begin in enumerate(begun)]
    named = _one_of(f"{_literal(name)} {_END} {call}" for name, call in zip(names, calls, strict=True))
    if request.tool_choice == "auto":
        root = _one_of(
            [
                f"{_literal(NEEDED + ' ')} {named}",
                f"{_literal(NOT_NEEDED)} {_END} {_ANSWER}",
                rf'{_unlike(NEEDED, NOT_NEEDED)} [^\n]* "\n" {_one_of([*calls, _ANSWER])}',
            ]
        )
    elif request.tool_choice == "required":
        root = named
    else:
        root = f"arguments-{names.index(request.tool_choice)}"
    return "\n".join([f'root ::= " " {root}', *rules]) + _JSON


def _unlike(*phrases: str) -> str:
    """The beginning of a line, up to where it is sure to begin with none of these."""
    begun = dict.fromkeys(phrase[:end] for phrase in phrases for end in range(len(phrase)))
    following = {
        begin: "".join(sorted({phrase[len(begin)] for phrase in phrases if phrase.startswith(begin)}))
        for begin in begun
    }
    return _one_of(rf"{_literal(begin)} [^{chars}\n]" for begin, chars in following.items())


def _arguments(parameters: JsonObject) -> str:
    properties, required = as_object(parameters.get("properties")), parameters.get("required")
    if not properties:
        return "object"
    needed: list[str] = []
    optional: list[str] = []
    for name, schema in properties.items():
        pair = f"{_literal(f'{json.dumps(name, ensure_ascii=False)}: ')} {_value(schema)}"
        (needed if isinstance(required, list) and name in required else optional).append(pair)
    written = ' ", " '.join(needed)
    if optional:
        one = _one_of(optional)
        further = f'( ", " {one} ){{0,{len(optional)}}}'
        written = f"{written} {further}" if needed else f"( {one} {further} )?"
    return f'"{{" {written} "}}"'


def _value(schema: JsonValue) -> str:
    known = as_object(schema)
    choices, options, kind = known.get("enum"), known.get("anyOf"), known.get("type")
    if isinstance(choices, list) and choices:
        return _one_of(_literal(json.dumps(choice, ensure_ascii=False)) for choice in choices)
    if isinstance(options, list) and options:
        return _one_of(map(_value, options))
    if kind == "null":
        return '"null"'
    return kind if isinstance(kind, str) and kind in _TYPES else "value"


def _one_of(options: Iterable[str]) -> str:
    return f"( {' | '.join(options)} )"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
