"""Styles that a prompt teaches: ReAct and Qwen-Agent's."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Results, Trigger
from agentkit.parsing.dialects.common import OBJECT, named_call
from agentkit.parsing.patterns import chars, name, opt, seq, ws

_SPACE = chars(r"[ \t]", 0, 16)
_HEAD = seq("Action:", _SPACE, name(), _SPACE, ws(1), "Action Input:")

REACT = Dialect(
    "react",
    (
        Trigger(
            seq(_HEAD, ws(), opt("```", chars("[a-z]", 0, 8), ws()), OBJECT), Scan(after=("```",)), line_start=True
        ),
        Trigger(seq(_HEAD, _SPACE), Scan(line=True), line_start=True),
    ),
    Literals(call_open="Action: ", before_name="", after_name="\nAction Input: ", after_arguments="", separator="\n"),
    results=Results("Observation: {content}"),
)

QWEN_AGENT = Dialect(
    "qwen_agent",
    (
        *named_call(
            seq("✿FUNCTION✿:", ws(), name(), ws(), "✿ARGS✿:", ws()),
            Scan(
                breaks=("✿FUNCTION✿", "✿RESULT✿", "✿RETURN✿"), after=("✿RESULT✿:", "✿RESULT✿", "✿RETURN✿:", "✿RETURN✿")
            ),
        ),
    ),
    Literals(call_open="✿FUNCTION✿: ", before_name="", after_name="\n✿ARGS✿: ", after_arguments="", separator="\n"),
    results=Results("✿RESULT✿: {content}", "\n", "", "\n✿RETURN✿: "),
)
