"""``[TOOL_CALLS]``: a JSON list up to v7, name and arguments apart since v11 (with an id) and v13 (without)."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Literals, Results, Trigger
from agentkit.parsing.dialects.common import CALL_JSON, OBJECT, between, named_call
from agentkit.parsing.patterns import chars, name, opt, seq, ws

_NEXT = ("[TOOL_CALLS]",)
_ID = seq("[CALL_ID]", chars(r"[\w-]", 1, 64, group="id"))
_TRIGGERS = (
    Trigger(seq("[TOOL_CALLS]", ws(), CALL_JSON), Scan(late_id=True, breaks=_NEXT)),
    *named_call(seq("[TOOL_CALLS]", ws(), name(), opt(_ID), "[ARGS]", ws()), Scan(breaks=_NEXT)),
    Trigger(
        seq("[TOOL_CALLS", opt("]"), ws(), name(), opt(_ID), opt("[ARGS"), opt("]"), ws(), OBJECT),
        Scan(breaks=_NEXT),
        repairs=("missing_marker",),
    ),
)
_THINK = (between("[THINK]", "[/THINK]"),)

MISTRAL = Dialect(
    "mistral",
    _TRIGGERS,
    Literals(section_open="[TOOL_CALLS][", after_arguments=', "id": "{id}"}', separator=", ", section_close="]"),
    reasoning=_THINK,
    results=Results('[TOOL_RESULTS]{"content": {content}, "call_id": "{id}"}[/TOOL_RESULTS]', "", as_json=True),
)

MISTRAL_V11 = Dialect(
    "mistral_v11",
    _TRIGGERS,
    Literals(call_open="[TOOL_CALLS]", before_name="", after_name="[CALL_ID]{id}[ARGS]", after_arguments=""),
    reasoning=_THINK,
    results=Results("[TOOL_RESULTS]{id}[TOOL_CONTENT]{content}[/TOOL_RESULTS]", ""),
)

MISTRAL_V13 = Dialect(
    "mistral_v13",
    _TRIGGERS,
    Literals(call_open="[TOOL_CALLS]", before_name="", after_name="[ARGS]", after_arguments=""),
    reasoning=_THINK,
    results=Results("[TOOL_RESULTS]{content}[/TOOL_RESULTS]", ""),
)
