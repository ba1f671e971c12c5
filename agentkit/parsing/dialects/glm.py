"""Name, then pairs of ``<arg_key>`` and ``<arg_value>``: GLM-4.5 to 4.7, Ling 3, Spark 2.5, Laguna, Hunyuan 3."""

from __future__ import annotations

from agentkit.parsing.dialects.base import Dialect, Results, TagForm, Trigger
from agentkit.parsing.dialects.common import HYPHEN_SUFFIX, between
from agentkit.parsing.patterns import Pattern, alt, chars, group, look, name, opt, seq, ws
from agentkit.parsing.tags import Tags

_KEY = chars(r"[^<>\n]", group="key")


def _tag(text: str) -> Pattern:
    return seq(f"<{text}", HYPHEN_SUFFIX, ">")


def _tags(prefix: str, *closes: str, after: tuple[Pattern, ...] = (), opens: tuple[Pattern, ...] = ()) -> Tags:
    kind = opt(group("rest", f"<{prefix}arg_type>", chars(r"[^<>]", 0, 64)), f"</{prefix}arg_type>", ws())
    return Tags(
        param_open=seq(
            _tag(f"{prefix}arg_key"), ws(), _KEY, _tag(f"/{prefix}arg_key"), ws(), kind, _tag(f"{prefix}arg_value")
        ),
        param_close=(_tag(f"/{prefix}arg_value"),),
        call_close=tuple(_tag(close) for close in closes),
        after=after,
        call_open=opens,
        typed="type",
    )


def _trigger(opening: str, prefix: str = "", after: tuple[Pattern, ...] = ()) -> Trigger:
    ends = look(seq(f"<{prefix}arg_key"), seq(f"</{opening}"))
    return Trigger(
        seq(f"<{opening}>", ws(), name(), opt(r"\n"), ws(), ends),
        _tags(prefix, f"/{opening}", after=after, opens=(seq(f"<{opening}>", ws(), name(), ws(), ends),)),
    )


_FORM = TagForm(
    call_open="<tool_call>{name}\n",
    param="<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n",
    call_close="</tool_call>",
    separator="\n",
)

_IFM_CALL = seq("<ifm|tool_call>", ws(), name(), ws(), look("<ifm|arg_key", "</ifm|tool_call"))

GLM = Dialect(
    "glm",
    (
        _trigger("tool_call"),
        _trigger("iquest_tool_call"),
        Trigger(
            seq(opt("<ifm|tool_calls>", ws()), _IFM_CALL),
            _tags("ifm|", "/ifm|tool_call", after=(_tag("/ifm|tool_calls"),), opens=(_IFM_CALL,)),
        ),
    ),
    _FORM,
    reasoning=tuple(between(f"<ifm|{word}>", f"</ifm|{word}>") for word in ("think", "think_fast", "think_faster")),
    results=Results(),
)

_HY3_CALL = seq(
    _tag("tool_call"), ws(), name(), ws(), alt(seq(_tag("tool_sep"), ws()), look("<arg_key", "</tool_call"))
)
HY3 = Dialect(
    "hy3",
    (
        Trigger(
            seq(opt(_tag("tool_calls"), ws()), _HY3_CALL),
            Tags(
                param_open=seq(_tag("arg_key"), ws(), _KEY, _tag("/arg_key"), ws(), _tag("arg_value")),
                param_close=(_tag("/arg_value"),),
                call_close=(_tag("/tool_call"),),
                after=(_tag("/tool_calls"),),
                call_open=(_HY3_CALL,),
            ),
        ),
    ),
    TagForm(
        section_open="<tool_calls>\n",
        call_open="<tool_call>{name}<tool_sep>\n",
        param="<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n",
        call_close="</tool_call>\n",
        section_close="</tool_calls>",
    ),
)
