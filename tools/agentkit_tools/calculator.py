"""A calculator: arithmetic read by an allow-list, never evaluated as Python."""

from __future__ import annotations

import ast
import re
from typing import Annotated, Final

from pydantic import Field

from agentkit import ToolError, ToolExample, tool
from agentkit.errors import nearest
from agentkit_tools._numbers import CONSTANTS, FUNCTIONS, OPERATORS, Number, arithmetic, constant, number

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "PATTERN", "calculator"]

MAX_LENGTH: Final = 300
"""Characters of an expression."""

MAX_DEPTH: Final = 50
"""Parentheses, signs or powers within one another."""

_CALL = rf"({'|'.join(FUNCTIONS)})\("
_OPERAND = rf"([-(]|{_CALL})*([0-9]+(\.[0-9]+)?|pi|e)\)*"

PATTERN: Final = rf"^{_OPERAND}( ?(\*\*|//|[-+*/%^,]) ?{_OPERAND})*$"
"""What a decoder that is held to the schema can write: operands with operators between them."""

# Only in the schema, not checked here: what a free model writes may be wider (spaces, ×, 1e9) and still be read, and
# what cannot be read gets an answer that says why instead of a regular expression.
_SCHEMA: Final[dict[str, str | int | float | bool | list[object] | dict[str, object] | None]] = {
    "pattern": PATTERN,
    "maxLength": MAX_LENGTH,
}

_SIGNS: Final = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "\N{NO-BREAK SPACE}": " "})

_TOKEN: Final = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|//|[-+*/%(),])"
    r"|(?P<space>\s+)"
)
_GROUPED: Final = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?(?![0-9.,])")


_EXAMPLES: Final = (
    ToolExample("What is 17 + 4?", {"expression": "17 + 4"}, "21", "The result is 21."),
    ToolExample("How much is 6 times 7.5?", {"expression": "6 * 7.5"}, "45", "The result is 45."),
    ToolExample("Compute (9 - 2) / 2.", {"expression": "(9 - 2) / 2"}, "3.5", "The result is 3.5."),
    ToolExample("What is (8 + 1) * 5?", {"expression": "(8 + 1) * 5"}, "45", "The result is 45."),
)


@tool(examples=_EXAMPLES, effect="read")
def calculator(expression: Annotated[str, Field(json_schema_extra=_SCHEMA)]) -> str:
    """Compute an arithmetic expression exactly. Use it for every calculation.

    Args:
        expression: for example "1234 * 5678" or "sqrt(2) / 3". Operators: + - * / // % ** and parentheses.
            Functions: abs ceil cos exp floor log max min round sin sqrt tan (radians, natural log). Constants: pi e.
    """
    if len(expression) > MAX_LENGTH:
        raise ToolError(
            f"The expression has {len(expression):,} characters; the limit is {MAX_LENGTH}: compute it in parts"
        )
    source = " ".join(_tokens(expression.translate(_SIGNS)))
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _unreadable(expression) from error
    return arithmetic(lambda: _value(tree.body, source, 1))


def _tokens(text: str) -> list[str]:
    """The expression's words and signs, each allowed; thousands separators taken out."""
    tokens: list[str] = []
    calls: list[bool] = []  # for each open parenthesis: does it hold a function's arguments, where a comma separates?
    position = 0
    while position < len(text):
        in_call = bool(calls) and calls[-1]
        match = (None if in_call else _GROUPED.match(text, position)) or _TOKEN.match(text, position)
        if match is None:
            raise ToolError(f"{text[position]!r} has no meaning in arithmetic: use + - * / // % ** and parentheses")
        position = match.end()
        token = match[0]
        if match.lastgroup == "space":
            continue
        if match.lastgroup == "name":
            _check_name(token)
        elif token == "(":
            calls.append(bool(tokens) and tokens[-1] in FUNCTIONS)
            _check_depth(len(calls))
        elif token == ")" and calls:
            calls.pop()
        elif token[0].isdigit():
            token = token.replace(",", "").lstrip("0") or "0"  # Python refuses 007
            token = f"0{token}" if token[0] in ".eE" else token
        tokens.append(token)
    return tokens


def _check_name(name: str) -> None:
    if name not in FUNCTIONS and name not in CONSTANTS:
        known = [*FUNCTIONS, *CONSTANTS]
        raise ToolError(f"{name!r} is not known here. Known are: {', '.join(known)}.{nearest(name, known)}")


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ToolError(f"The expression is nested more than {MAX_DEPTH} deep, the limit: compute it in parts")


def _unreadable(expression: str) -> ToolError:
    return ToolError(f"{expression!r} is not one complete arithmetic expression. Write it like this: (12.5 + 3) * 4")


def _value(node: ast.expr, source: str, depth: int) -> Number:
    """Walk the allow-list. What is not on it has no value."""
    _check_depth(depth)
    match node:
        case ast.Constant():
            # From the text, because Python has already made a binary fraction of it.
            return number(source[node.col_offset : node.end_col_offset])
        case ast.Name(id=name) if name in CONSTANTS:
            return constant(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, source, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, source, depth + 1)
        case ast.BinOp():
            return _chain(node, source, depth)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _call(name, [_value(argument, source, depth + 1) for argument in arguments])
        case ast.Tuple():
            raise ToolError(
                "A comma is read as a thousands separator (1,234) or between a function's arguments, nowhere else; "
                "write decimals with a point"
            )
    raise _unreadable(source)


def _chain(node: ast.BinOp, source: str, depth: int) -> Number:
    """1 + 2 + 3 + … leans to the left, one level a term: walked down in a loop, a long sum is not a deep one."""
    steps: list[ast.BinOp] = []
    first: ast.expr = node
    while isinstance(first, ast.BinOp):
        steps.append(first)
        first = first.left
    value = _value(first, source, depth + 1)
    for step in reversed(steps):
        operation = OPERATORS.get(type(step.op).__name__)
        if operation is None:
            raise _unreadable(source)
        value = operation(value, _value(step.right, source, depth + 1))
    return value


def _call(name: str, arguments: list[Number]) -> Number:
    function, fewest, most = FUNCTIONS[name]
    if not fewest <= len(arguments) <= most:
        takes = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise ToolError(
            f"{name} takes {takes} argument(s), not {len(arguments)} (inside its parentheses a comma separates "
            "arguments: write 1234, not 1,234)"
        )
    return function(*arguments)
