"""Calls in Python's notation: Llama 3.2 and 4, ToolACE; LFM2; Olmo 3; code agents."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, PythonForm, Results, Trigger
from agentkit.parsing.dialects.common import python_call
from agentkit.parsing.patterns import look, name, seq, ws

_ANY = look("[", "{", python_call())

BARE_CALLS = (
    Trigger(python_call("["), Scan(python=True), line_start=True, weak=True),
    Trigger(python_call(), Scan(python=True), line_start=True, weak=True, strict=True, named_only=True),
)

PYTHONIC = Dialect(
    "pythonic",
    (
        Trigger(
            seq("<|python_start|>", ws(), _ANY),
            Scan(python=True, closes=("<|python_end|>",), breaks=("<|python_start|>",)),
        ),
        Trigger(seq("<|python_tag|>", ws(), look("[", python_call())), Scan(python=True)),
        *BARE_CALLS,
    ),
    PythonForm(),
    results=Results("{content}"),
)

LFM2 = Dialect(
    "lfm2",
    (
        Trigger(
            seq("<|tool_call_start|>", ws(), _ANY),
            Scan(python=True, closes=("<|tool_call_end|>",), breaks=("<|tool_call_start|>",)),
        ),
    ),
    PythonForm("<|tool_call_start|>[", "]<|tool_call_end|>"),
    results=Results("<|tool_response_start|>{content}<|tool_response_end|>", ""),
)

OLMO3 = Dialect(
    "olmo3",
    (
        Trigger(
            seq("<function_calls>", ws(), _ANY),
            Scan(python=True, until_close=True, closes=("</function_calls>",), breaks=("<function_calls>",)),
        ),
    ),
    PythonForm("<function_calls>", "</function_calls>", "\n"),
    results=Results("{content}"),
)

CODE = Dialect(
    "code",
    (
        Trigger(
            seq("<code>", ws(), look("[", python_call(), seq(name("_variable"), ws(), "="))),
            Scan(python=True, until_close=True, closes=("</code>",), breaks=("<code>",)),
            weak=True,
        ),
    ),
    PythonForm("<code>\n", "\n</code>", "\n"),
    results=Results("Observation:\n{content}"),
)
