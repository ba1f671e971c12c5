"""Command R+ (``Action:`` and a fence) and Command R7B, A and Cohere2MoE (sections between control tokens)."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.calls import Keys
from agentkit.parsing.dialects.base import Dialect, Literals, Results, Section, Trigger
from agentkit.parsing.dialects.common import CALL_JSON, between
from agentkit.parsing.patterns import alt, chars, opt, seq, ws

_KEYS = Keys("tool_name", "parameters")

COMMAND_R_PLUS = Dialect(
    "command_r_plus",
    (
        Trigger(
            seq("Action:", ws(), opt("```", chars("[a-z]", 0, 8), ws()), CALL_JSON),
            Scan(after=("```",), keys=_KEYS, ignored=("directly_answer", "directly-answer"), late_id=True),
            line_start=True,
        ),
    ),
    Literals(
        section_open="Action:\n```json\n[",
        before_name='{"tool_name": "',
        after_name='", "parameters": ',
        separator=", ",
        section_close="]\n```",
    ),
    sections=(Section(alt("<|CHATBOT_TOKEN|>", "<|START_OF_TURN_TOKEN|>")),),
    results=Results("Document: {id}\n{content}", "\n\n", "<results>\n", "\n</results>"),
)

COMMAND_R7B = Dialect(
    "command_r7b",
    (Trigger(seq("<|START_ACTION|>", ws(), CALL_JSON), Scan(closes=("<|END_ACTION|>",), keys=_KEYS, late_id=True)),),
    Literals(
        section_open="<|START_ACTION|>[\n",
        before_name='    {"tool_call_id": "{index}", "tool_name": "',
        after_name='", "parameters": ',
        separator=",\n",
        section_close="\n]<|END_ACTION|>",
    ),
    reasoning=(between("<|START_THINKING|>", "<|END_THINKING|>"),),
    sections=(
        Section(
            alt(
                "<|START_RESPONSE|>",
                "<|END_RESPONSE|>",
                "<|START_TEXT|>",
                "<|END_TEXT|>",
                "<|CHATBOT_TOKEN|>",
                "<|START_OF_TURN_TOKEN|>",
            )
        ),
    ),
    results=Results(
        '{"tool_call_id": "{id}", "results": {"0": {content}}, "is_error": null}',
        ",\n",
        "<|START_TOOL_RESULT|>[\n",
        "\n]<|END_TOOL_RESULT|>",
        as_json=True,
    ),
)
