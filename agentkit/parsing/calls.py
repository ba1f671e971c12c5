"""What was read of a call → a `ToolCall` that may be run, or a `Problem` that says why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from agentkit.errors import nearest
from agentkit.messages import JsonObject, JsonValue, Problem, ToolCall, clean_json, clean_text
from agentkit.parsing.fit import Misfit, ToolSchema, plain
from agentkit.tool import AnyTool, as_tool

__all__ = ["Gate", "Keys", "RawCall", "ToolBox", "calls_in"]

Gate: TypeAlias = Literal["open", "shape", "strict"]
"""How much must be right before a text counts as a call at all.

``open``: the format's own marker said so; whatever is wrong is a problem. ``shape``: it looks like a call and nothing
else (bare JSON in a model's own format). ``strict``: the tool is known and the arguments fit.
"""

_NAME_KEYS: Final = ("name", "tool_name", "function", "tool", "function_name", "action", "recipient_name")
_ARGUMENT_KEYS: Final = (
    "arguments", "parameters", "args", "input", "params", "kwargs", "action_input", "tool_input", "tool_args",
    "tool_arguments", "function_arguments",
)  # fmt: skip
_USUAL: Final = {("name", "arguments"), ("name", "parameters"), ("tool_name", "parameters"), ("name", "args")}
_ID_KEYS: Final = ("id", "tool_call_id", "call_id")
_WRAPPERS: Final = ("tool_calls", "tool_call", "function_call", "function_calls", "calls")
_SIDE_KEYS: Final = frozenset({*_ID_KEYS, "type", "index"})
_PREFIX = re.compile(r"(?:functions?|tools?|default_api|api|multi_tool_use)[._:/]", re.IGNORECASE)
_SUFFIX = re.compile(r"(?::\d+|\(\)|\(|:)\Z")
_KIMI = re.compile(r"functions?[._](.+)[_:]\d+\Z")
RAW: Final = 4000
"""Characters of the model's text that a problem keeps."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names that a format gives to the parts of a call's JSON object. An empty name: the name is the key."""

    name: str = "name"
    arguments: str = "arguments"


@dataclass(slots=True)
class RawCall:
    """A call as it was read, before its name and arguments are checked against the tools.

    ``fault`` says why the arguments could not be read, if they could not; they are then not to be looked at.
    """

    name: str
    arguments: JsonValue
    raw: str
    id: str = ""
    repairs: list[str] = field(default_factory=list)
    fault: str = ""
    kind: str = "unreadable"
    flat: bool = False
    """The arguments stood beside the name."""
    usual: bool = False
    """The keys are those of some dialect."""
    strange: bool = False
    """Something stood beside the call's own keys, or was made up for missing ones: not a call in foreign text."""


def calls_in(value: JsonValue, keys: Keys, raw: str, is_known: Callable[[str], bool]) -> Iterator[RawCall]:
    """The calls in a JSON value: an object, or a list of them, with any of the keys that models use."""
    if isinstance(value, list):
        for item in value:
            yield from calls_in(item, keys, raw, is_known)
        return
    if not isinstance(value, dict):
        yield RawCall("", None, raw, fault=f"a call must be an object, not {str(value)[:80]!r}")
        return
    for wrapper in _WRAPPERS:
        inner = value.get(wrapper)
        if isinstance(inner, dict | list) and inner and not isinstance(value.get("name"), str):
            for call in calls_in(inner, keys, raw, is_known):
                call.repairs = _with(call.repairs, "wrong_keys")
                yield call
            return
    inner = value.get("function")
    if isinstance(inner, dict) and "name" in inner:
        for call in calls_in(inner, keys, raw, is_known):
            call.repairs = _with(call.repairs, "wrong_keys")
            call.id = call.id or _id_of(value)
            yield call
        return
    yield _call_of(value, keys, raw, is_known)


def _call_of(value: JsonObject, keys: Keys, raw: str, is_known: Callable[[str], bool]) -> RawCall:
    if not keys.name or not any(isinstance(value.get(key), str) for key in _NAME_KEYS):
        found = _name_as_key(value, keys, raw, is_known)
        if found is not None:
            return found
    name_key = _key_of(value, keys.name, _NAME_KEYS, str)
    if not name_key:
        return RawCall("", None, raw, fault="no tool is named in it", strange=True)
    rest = {key: item for key, item in value.items() if key != name_key}
    argument_key = _key_of(rest, keys.arguments, _ARGUMENT_KEYS, object)
    call = RawCall(str(value[name_key]).strip(), {}, raw, id=_id_of(value))
    if name_key != keys.name:
        call.repairs.append("wrong_keys")
    if argument_key:
        call.arguments = rest.pop(argument_key)
        call.usual = (name_key, argument_key) in _USUAL
        call.strange = not set(rest) <= _SIDE_KEYS or _is_schema(call.arguments)
        if argument_key != keys.arguments:
            call.repairs = _with(call.repairs, "wrong_keys")
        if call.arguments is None or call.arguments == "":
            call.arguments = {}
        return call
    flat = {key: item for key, item in rest.items() if key not in _SIDE_KEYS}
    call.strange = not flat
    call.flat = True
    if flat:
        call.arguments = flat
        call.repairs = _with(call.repairs, "wrong_keys")
    return call


def _name_as_key(value: JsonObject, keys: Keys, raw: str, is_known: Callable[[str], bool]) -> RawCall | None:
    others = [key for key in value if key not in _SIDE_KEYS]
    if len(others) != 1 or (keys.name and not is_known(others[0])):
        return None
    arguments = value[others[0]]
    if keys.name and not isinstance(arguments, dict):
        return None
    repairs = ["wrong_keys"] if keys.name else []
    return RawCall(others[0], arguments, raw, id=_id_of(value), repairs=repairs, strange=not arguments)


def _key_of(value: Mapping[str, JsonValue], usual: str, others: Sequence[str], kind: type) -> str:
    if usual in value and isinstance(value[usual], kind):
        return usual
    return next((key for key in others if key in value and isinstance(value[key], kind)), "")


def _id_of(value: Mapping[str, JsonValue]) -> str:
    for key in _ID_KEYS:
        found = value.get(key)
        if isinstance(found, str | int) and not isinstance(found, bool):
            return str(found)[:128]
    return ""


def _is_schema(arguments: JsonValue) -> bool:
    """A JSON Schema in the place of arguments: somebody describes a tool, nobody calls it."""
    return (
        isinstance(arguments, dict)
        and arguments.get("type") == "object"
        and isinstance(arguments.get("properties"), dict)
    )


_SCHEMAS: Final[WeakKeyDictionary[AnyTool, ToolSchema]] = WeakKeyDictionary()
"""Of the tools that were called: a validator takes longer to make than to use, and each turn has a box of its own."""


class ToolBox:
    """The tools that may be called, by name, with their schemas ready."""

    def __init__(self, tools: Iterable[AnyTool | Callable[..., object] | Mapping[str, object]] = ()) -> None:
        self.tools = {tool.name: tool for tool in map(as_tool, tools)}

    def schema(self, name: str) -> ToolSchema | None:
        """The schema of a tool by its exact name."""
        tool = self.tools.get(name)
        if tool is None:
            return None
        found = _SCHEMAS.get(tool)
        if found is None:
            found = _SCHEMAS[tool] = ToolSchema(tool)
        return found

    def is_argument(self, name: str, key: str) -> bool:
        """Whether a tool has this argument, as far as is known."""
        schema = self.schema(self.resolve(name) or "")
        return schema is None or key in schema.known()

    def is_known(self, name: str) -> bool:
        """Whether exactly one tool is meant by this name."""
        return self.resolve(name) is not None

    def resolve(self, written: str) -> str | None:
        """The tool that a name means: itself, or the only one that differs by prefix, suffix or case."""
        if written in self.tools:
            return written
        for variant in _variants(written):
            if variant in self.tools:
                return variant
        found: set[str] = set()
        for variant in _variants(written):
            found.update(known for known in self.tools if _squashed(known) == _squashed(variant))
            found.update(known for known in self.tools if _is_prefixed(known, variant))
        return found.pop() if len(found) == 1 else None

    def finish(self, raw: RawCall, gate: Gate) -> ToolCall | Problem | None:
        """The call, or what is wrong with it; None if the gate says that it is no call at all."""
        if gate == "shape" and (raw.flat or raw.strange):
            gate = "strict"
        if raw.fault or not raw.name:
            return None if gate != "open" else _problem(raw, raw.kind, _unreadable(raw))
        name = self.resolve(raw.name) if self.tools else (raw.name if gate != "strict" else None)
        if name is None:
            if gate == "strict":
                return None
            return _problem(raw, "unknown_tool", self._unknown(raw.name))
        repairs = list(raw.repairs)
        if name != raw.name:
            repairs = _with(repairs, "renamed_tool")
        schema = self.schema(name)
        if schema is None:
            if not isinstance(raw.arguments, dict):
                return _problem(raw, "invalid_arguments", f"Tool {name!r}: the arguments are not an object.")
            arguments = clean_json({key: plain(item) for key, item in raw.arguments.items()})
            return ToolCall(clean_text(name), _object(arguments), raw.id, repairs)
        if gate == "strict" and raw.strange and (raw.arguments or schema.required()):
            return None
        try:
            fitted, more = schema.fit(raw.arguments, drop_unknown=gate != "strict")
        except Misfit as misfit:
            if gate == "strict":
                return None
            return _problem(replace(raw, name=name), "invalid_arguments", f"Tool {name!r}: {misfit}")
        for repair in more:
            repairs = _with(repairs, repair)
        return ToolCall(name, fitted, raw.id, repairs)

    def _unknown(self, name: str) -> str:
        names = list(self.tools)
        listed = ", ".join(names[:50]) + (", …" if len(names) > 50 else "")
        return clean_text(f"There is no tool {name[:128]!r}. The tools are: {listed}.{nearest(name[:128], names)}")


def _unreadable(raw: RawCall) -> str:
    if raw.kind == "truncated":
        return "The call was cut off by the token limit and was not run. Make it shorter, or split it."
    named = f" of {raw.name!r}" if raw.name else ""
    return f"The call{named} could not be read and was not run: {raw.fault or 'no tool is named in it'}."


def _problem(raw: RawCall, kind: str, message: str) -> Problem:
    text = raw.raw if len(raw.raw) <= RAW else raw.raw[:RAW] + "…"
    return Problem(kind, clean_text(message), clean_text(raw.name[:128]), clean_text(text))


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _with(repairs: list[str], repair: str) -> list[str]:
    return repairs if repair in repairs else [*repairs, repair]


def _variants(written: str) -> list[str]:
    """The name without what models put around it."""
    bare = written.strip().strip("\"'`")
    found = [bare]
    kimi = _KIMI.match(bare)
    if kimi:
        found.append(kimi[1])
    for _ in range(2):
        found += [_SUFFIX.sub("", item) for item in found]
        found += [_PREFIX.sub("", item, count=1) for item in found if _PREFIX.match(item)]
    found += [re.split(r"[./]|__|:", item)[-1] for item in found]
    return [item for item in dict.fromkeys(found) if item]


def _squashed(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name).casefold()


def _is_prefixed(known: str, variant: str) -> bool:
    """Whether the known tool's name is this one behind a server's."""
    separators = ("__", ".", "/", ":") + (("_", "-") if known.startswith("mcp") else ())
    return any(known.endswith(separator + variant) for separator in separators)
