"""``<function=f><parameter=a>``: Qwen3-Coder, Qwen3.5, Nemotron 3, Step-3.5, MiMo; Seed-OSS with tags of its own.

Values are raw text with exactly one newline on each side; Seed-OSS writes them tight.
"""

from __future__ import annotations

from typing import Literal

from agentkit.parsing.body import Scan
from agentkit.parsing.dialects.base import Dialect, Results, TagForm, Trigger
from agentkit.parsing.dialects.common import OBJECT, between
from agentkit.parsing.patterns import chars, look, name, opt, seq, ws
from agentkit.parsing.tags import Tags

_FUNCTION = seq("<function", ws(), "=", ws(), chars("[\"']", 0, 1), name(), chars("[\"']", 0, 1), ws(), ">")
_PARAMETER = seq(
    "<parameter", ws(), "=", ws(), chars("[\"']", 0, 1), chars(r"[^<>\n\"']", group="key"), chars("[\"']", 0, 1), ">"
)


def _tags(wrapper: str, framed: Literal["each", "both"]) -> Tags:
    return Tags(
        param_open=_PARAMETER,
        param_close=("</parameter>",),
        call_close=("</function>",),
        after=(f"</{wrapper}>",),
        call_open=(seq(opt(f"<{wrapper}>", ws()), _FUNCTION, ws(), look("<parameter", "</function>")),),
        framed=framed,
    )


def _triggers(wrapper: str, framed: Literal["each", "both"]) -> tuple[Trigger, ...]:
    tags = _tags(wrapper, framed)
    return (
        Trigger(
            seq(f"<{wrapper}>", ws(), _FUNCTION, ws(), OBJECT),
            Scan(closes=("</function>",), after=(f"</{wrapper}>",)),
            repairs=("foreign_format",),
        ),
        Trigger(seq(f"<{wrapper}>", ws(), _FUNCTION), tags),
        Trigger(
            seq(_FUNCTION, ws(), OBJECT),
            Scan(closes=("</function>",), after=(f"</{wrapper}>",)),
            repairs=("foreign_format",),
        ),
        Trigger(_FUNCTION, tags, repairs=("missing_marker",)),
    )


QWEN3_CODER = Dialect(
    "qwen3_coder",
    _triggers("tool_call", "each"),
    TagForm(
        call_open="<tool_call>\n<function={name}>\n",
        param="<parameter={key}>\n{value}\n</parameter>\n",
        call_close="</function>\n</tool_call>",
        separator="\n",
    ),
)

SEED_OSS = Dialect(
    "seed_oss",
    _triggers("seed:tool_call", "both"),
    TagForm(
        call_open="<seed:tool_call>\n<function={name}>\n",
        param="<parameter={key}>{value}</parameter>\n",
        call_close="</function>\n</seed:tool_call>",
        separator="\n",
    ),
    reasoning=(between("<seed:think>", "</seed:think>"),),
    results=Results("{content}"),
)
