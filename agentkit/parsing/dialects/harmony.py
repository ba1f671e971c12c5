"""GPT-OSS (harmony): every message has a channel, and a call has a recipient, before or after it.

``<|call|>`` ends generation, so it is usually not part of the text.
"""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Reasoning, Results, Section
from agentkit.parsing.dialects.common import named_call
from agentkit.parsing.patterns import Pattern, alt, chars, look, name, opt, seq, ws

_START = "<|start|>assistant"
_DOUBLED = opt(
    "<|channel|>", opt(alt("analysis", "commentary", "final"), ws(), opt("to=assistant"), ws()), look("<|channel|>")
)
_CHANNEL = seq(_DOUBLED, "<|channel|>", alt("analysis", "commentary", "final"))
_CONSTRAIN = seq(ws(), opt(alt("<|constrain|>", "json", "code"), opt("json")), ws(), "<|message|>")
_TO = seq("to=", opt("functions."), name())
_BODY = Scan(after=("<|call|>", "<|end|>"), breaks=("<|start|>", "<|channel|>"))


def _message(*channels: str) -> Pattern:
    return seq(
        opt(_START), _DOUBLED, "<|channel|>", alt(*channels), ws(), opt("<|constrain|>", chars("[a-z]", 1, 16)),
        "<|message|>",
    )  # fmt: skip


HARMONY = Dialect(
    "harmony",
    (
        *named_call(seq(opt(_START), _CHANNEL, ws(), _TO, _CONSTRAIN, ws()), _BODY),
        *named_call(seq(_START, ws(), _TO, ws(), _CHANNEL, _CONSTRAIN, ws()), _BODY),
        *named_call(seq(_TO, ws(), _CHANNEL, _CONSTRAIN, ws()), _BODY, line_start=True),
    ),
    Literals(
        call_open="<|channel|>commentary to=functions.",
        before_name="",
        after_name=" <|constrain|>json<|message|>",
        after_arguments="",
        call_close="<|call|>",
        separator="<|start|>assistant",
    ),
    reasoning=(
        Reasoning(
            _message("analysis"),
            alt("<|end|>", look(_START, "<|channel|>")),
        ),
    ),
    sections=(Section(alt(_message("final", "commentary"), "<|end|>", "<|return|>", "<|call|>")),),
    results=Results(
        "<|start|>functions.{name} to=assistant<|channel|>commentary<|message|>{content}<|end|>", "", as_json=True
    ),
)
