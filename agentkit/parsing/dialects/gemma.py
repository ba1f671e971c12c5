"""Gemma 4 and FunctionGemma: ``call:f{a:…}`` with string delimiters of their own. Gemma 3: Python calls, as taught."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, GemmaForm, PythonForm, Reasoning, Results, Section, Trigger
from agentkit.parsing.dialects.common import OBJECT
from agentkit.parsing.dialects.pythonic import BARE_CALLS
from agentkit.parsing.patterns import alt, chars, lit, name, opt, seq, ws

_CALL = seq(opt("call", ws(), ":"), ws(), opt("default_api:"), name(), ws(), OBJECT)

GEMMA4 = Dialect(
    "gemma4",
    (
        Trigger(
            seq("<|tool_call>", ws(), _CALL),
            Scan(closes=("<tool_call|>",), delimiters=('<|"|>',), breaks=("<|tool_call>",)),
        ),
    ),
    GemmaForm("<|tool_call>call:", "<tool_call|>", '<|"|>'),
    reasoning=(Reasoning(seq(opt("<|channel>"), "<|channel>", ws(), alt("thought", "analysis")), lit("<channel|>")),),
    sections=(Section(alt(seq("<|channel>", chars("[a-z]", 1, 16), "\n"), "<channel|>")),),
    results=Results('<|tool_response>response:{name}{value:<|"|>{content}<|"|>}<tool_response|>', ""),
)

FUNCTIONGEMMA = Dialect(
    "functiongemma",
    (
        Trigger(
            seq("<start_function_call>", ws(), _CALL),
            Scan(
                closes=("<end_function_call>",),
                delimiters=("<escape>",),
                breaks=("<start_function_call>",),
                raw_strings=True,
            ),
        ),
    ),
    GemmaForm("<start_function_call>call:", "<end_function_call>", "<escape>", every=True),
    results=Results(
        "<start_function_response>response:{name}{value:<escape>{content}<escape>}<end_function_response>", ""
    ),
)

GEMMA3 = Dialect("gemma3", BARE_CALLS, PythonForm(), results=Results("```tool_output\n{content}\n```"))
