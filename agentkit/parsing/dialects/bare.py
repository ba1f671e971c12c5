"""JSON with no marker of its own: xLAM, Llama 3, fences, GLM-4-9B, llama-cpp-python's chatml-function-calling."""

from __future__ import annotations

from agentkit.parsing.body import Scan
from agentkit.parsing.calls import Keys
from agentkit.parsing.dialects.base import Dialect, Literals, Results, Trigger
from agentkit.parsing.dialects.common import CALL_JSON, OBJECT, named_call
from agentkit.parsing.patterns import Pattern, alt, chars, look, name, seq, ws

_KEY_NAMES = (
    "name", "function", "tool", "tool_name", "function_name", "type", "arguments", "parameters", "args", "action",
    "tool_calls", "tool_call", "function_call", "tool_call_id", "id",
)  # fmt: skip
FIRST_KEY: Pattern = seq(chars("[\"']", 0, 1), alt(*_KEY_NAMES), chars("[\"']", 0, 1), ws(), ":")
"""The first key of a call's object: other JSON is text at once."""

STRAY_CLOSES = ("</tool_call>", "</tool_calls>", "<|/tool_call|>", "</TOOLCALL>")
"""What closes a call whose opening marker the model forgot."""

BARE_OBJECT: Pattern = look(seq("{", ws(), FIRST_KEY))
BARE_LIST: Pattern = look(seq("[", ws(), "{", ws(), FIRST_KEY))


def bare(keys: Keys, separators: str = ";,") -> tuple[Trigger, ...]:
    """Triggers of JSON that stands for itself."""
    return (
        Trigger(BARE_OBJECT, Scan(keys=keys, after=STRAY_CLOSES, separators=separators), after_space=True, weak=True),
        Trigger(BARE_LIST, Scan(keys=keys, after=STRAY_CLOSES), after_space=True, weak=True),
    )


BARE_JSON = Dialect(
    "bare_json",
    bare(Keys()),
    Literals(section_open="[", separator=", ", section_close="]"),
    results=Results("{content}"),
)

LLAMA3_JSON = Dialect(
    "llama3_json",
    (
        Trigger(seq("<|python_tag|>", ws(), CALL_JSON), Scan(keys=Keys("name", "parameters"), separators=";,")),
        *bare(Keys("name", "parameters")),
    ),
    Literals(after_name='", "parameters": ', separator="; "),
    results=Results('{"output": {content}}', as_json=True),
)

JSON_FENCE = Dialect(
    "json_fence",
    bare(Keys()),
    Literals(section_open="```json\n", separator="\n", section_close="\n```", parallel=False),
    results=Results("Result of {name}:\n{content}"),
)

GLM4_9B = Dialect(
    "glm4_9b",
    (Trigger(seq(name(plain=True), chars(r"[ \t]", 0, 8), "\n", ws(), OBJECT), Scan(), line_start=True, weak=True),),
    Literals(before_name="", after_name="\n", after_arguments="", separator="\n"),
    results=Results("<|observation|>\n{content}"),
)

FUNCTIONS_COLON = Dialect(
    "functions_colon",
    named_call(seq("functions.", name(), ":", ws()), Scan(separators=","), known=True, line_start=True),
    Literals(before_name="functions.", after_name=":\n", after_arguments="", separator="\n"),
    results=Results("{content}"),
)
