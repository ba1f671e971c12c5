"""What a dialect is: one description of a format, used to read it, to write it and to constrain it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentkit.messages import JsonValue, ToolCall, ToolResult
from agentkit.parsing.body import Scan
from agentkit.parsing.patterns import Pattern
from agentkit.parsing.tags import Tags
from agentkit.tool import AnyTool

__all__ = [
    "Dialect", "GemmaForm", "Literals", "PythonForm", "Reasoning", "Results", "Section", "TagForm", "Trigger",
]  # fmt: skip


@dataclass(frozen=True)
class Trigger:
    """Where a call begins.

    Args:
        pattern: the opening; groups ``name`` and ``id`` if they stand outside the body. The body begins after it.
        body: how the rest is read.
        line_start: only at the start of a line (or right after another call).
        weak: ordinary text can look like this: the call must also have a call's shape.
        turn_start: only as the first thing in a turn, where the prompt has already written the opening.
        named_only: too much like ordinary text to be tried where another dialect, or none, is named.
        after_space: not in the middle of a word or of JSON.
        strict: even in its own dialect it counts only if the tool is known and the arguments fit.
        known: only if the name in the opening is a tool's.
        repairs: noted on every call that begins like this.
    """

    pattern: Pattern
    body: Scan | Tags
    line_start: bool = False
    weak: bool = False
    turn_start: bool = False
    named_only: bool = False
    after_space: bool = False
    strict: bool = False
    known: bool = False
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reasoning:
    """The markers around reasoning. ``line_start``: the opening counts only there."""

    open: Pattern
    close: Pattern
    line_start: bool = False


@dataclass(frozen=True)
class Section:
    """A marker that is dropped; what follows it is text again."""

    pattern: Pattern
    line_start: bool = False
    turn_start: bool = False


@dataclass(frozen=True)
class Literals:
    """Calls as literals around a JSON object of arguments, in the order in which they are written.

    One call: ``call_open before_name NAME after_name ARGUMENTS after_arguments call_close``. All of them:
    ``section_open``, the calls with ``separator`` between, ``section_close``. Any literal may contain ``{id}`` (a text
    that ``id_pattern`` matches), ``{index}`` (0, 1, …) and ``{number}`` (1, 2, …). Without ``parallel`` a turn has one
    call.
    """

    section_open: str = ""
    call_open: str = ""
    before_name: str = '{"name": "'
    after_name: str = '", "arguments": '
    after_arguments: str = "}"
    call_close: str = ""
    separator: str = ""
    section_close: str = ""
    id_pattern: str = "[a-zA-Z0-9]{9}"
    parallel: bool = True

    def write(self, calls: Sequence[ToolCall]) -> str:
        """The calls as the model would write them."""
        return self.section_open + self.separator.join(map(self._one, range(len(calls)), calls)) + self.section_close

    def _one(self, index: int, call: ToolCall) -> str:
        head = self.call_open + self.before_name
        return (
            self._fill(head, index, call)
            + call.name
            + self._fill(self.after_name, index, call)
            + json.dumps(call.arguments, ensure_ascii=False)
            + self._fill(self.after_arguments + self.call_close, index, call)
        )

    def _fill(self, literal: str, index: int, call: ToolCall) -> str:
        call_id = call.id if self._fits(call.id) else f"{index + 1:09d}"
        return literal.replace("{id}", call_id).replace("{index}", str(index)).replace("{number}", str(index + 1))

    def _fits(self, call_id: str) -> bool:
        import re

        return re.fullmatch(self.id_pattern, call_id) is not None


@dataclass(frozen=True)
class TagForm:
    """Calls as tags. ``{name}``, ``{key}``, ``{value}``, ``{string}`` (true or false), ``{type}``, ``{number}``.

    ``nested``: objects and lists are written as elements, with ``nested`` before each tag. ``never_raw``: what a raw
    value cannot hold besides the tags themselves, since it would be read as more than text.
    """

    call_open: str
    param: str
    call_close: str
    section_open: str = ""
    section_close: str = ""
    separator: str = ""
    nested: str = ""
    never_raw: tuple[str, ...] = ()

    def write(self, calls: Sequence[ToolCall]) -> str:
        """The calls as the model would write them."""
        return self.section_open + self.separator.join(map(self._one, range(len(calls)), calls)) + self.section_close

    def _one(self, index: int, call: ToolCall) -> str:
        head = self.call_open.replace("{number}", str(index + 1)).replace("{name}", call.name)
        return head + "".join(self._param(key, value) for key, value in call.arguments.items()) + self.call_close

    def _param(self, key: str, value: JsonValue) -> str:
        text = self._value(value)
        kinds = {"{string}": "true" if isinstance(value, str) else "false", "{type}": _json_type(value)}
        written = self.param
        for placeholder, kind in kinds.items():
            written = written.replace(placeholder, kind)
        before, _, after = written.partition("{value}")
        return before.replace("{key}", key) + text + after.replace("{key}", key)

    def _value(self, value: JsonValue) -> str:
        if isinstance(value, str):
            return value
        if self.nested and isinstance(value, dict | list) and value:
            members = value.items() if isinstance(value, dict) else (("item", item) for item in value)
            tag = self.nested
            return "".join(f"{tag}<{key}>{self._value(item)}{tag}</{key}>" for key, item in members)
        return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class PythonForm:
    """Calls in Python's notation."""

    section_open: str = "["
    section_close: str = "]"
    separator: str = ", "

    def write(self, calls: Sequence[ToolCall]) -> str:
        """The calls as the model would write them."""
        return self.section_open + self.separator.join(map(_python_call, calls)) + self.section_close


@dataclass(frozen=True)
class GemmaForm:
    """Gemma's notation: keys without quotes, strings between ``quote`` literals; ``every``: other values too."""

    call_open: str
    call_close: str
    quote: str
    every: bool = False

    def write(self, calls: Sequence[ToolCall]) -> str:
        """The calls as the model would write them."""
        return "".join(
            f"{self.call_open}{call.name}{self._value(call.arguments, top=True)}{self.call_close}" for call in calls
        )

    def _value(self, value: JsonValue, top: bool = False) -> str:
        if isinstance(value, str):
            return f"{self.quote}{value}{self.quote}"
        if isinstance(value, dict):
            members = (f"{self._key(key, top)}:{self._value(item)}" for key, item in value.items())
            return "{" + ",".join(members) + "}"
        if isinstance(value, list):
            return "[" + ",".join(self._value(item) for item in value) + "]"
        text = json.dumps(value)
        return f"{self.quote}{text}{self.quote}" if self.every else text

    def _key(self, key: str, top: bool) -> str:
        return key if key.isidentifier() else f"{self.quote}{key}{self.quote}"


@dataclass(frozen=True)
class Results:
    """How results are written: ``each`` with ``{content}``, ``{name}``, ``{id}``, between ``open`` and ``close``."""

    each: str = "<tool_response>\n{content}\n</tool_response>"
    separator: str = "\n"
    open: str = ""
    close: str = ""
    as_json: bool = False

    def write(self, results: Sequence[ToolResult]) -> str:
        """The results as the model expects them."""
        return self.open + self.separator.join(map(self._one, results)) + self.close

    def _one(self, result: ToolResult) -> str:
        content = json.dumps(result.content, ensure_ascii=False) if self.as_json else result.content
        before, _, after = self.each.partition("{content}")
        return self._fill(before, result) + content + self._fill(after, result)

    def _fill(self, literal: str, result: ToolResult) -> str:
        return literal.replace("{name}", result.name).replace("{id}", result.call_id)


class Form(Protocol):
    """Something that writes calls."""

    def write(self, calls: Sequence[ToolCall]) -> str: ...


@dataclass(frozen=True)
class Dialect:
    """A format in which models write calls.

    Args:
        name: its key in `DIALECTS`.
        triggers: where a call begins, and how it is read.
        form: how calls are written. `Literals` also say what a grammar must force.
        reasoning: markers of reasoning besides ``<think>``.
        sections: markers that are dropped.
        results: how results are written back.
    """

    name: str
    triggers: tuple[Trigger, ...]
    form: Literals | TagForm | PythonForm | GemmaForm
    reasoning: tuple[Reasoning, ...] = ()
    sections: tuple[Section, ...] = ()
    results: Results = field(default_factory=Results)

    @property
    def literals(self) -> Literals | None:
        """The literals around each call's JSON, where the format is made of them; for a grammar."""
        return self.form if isinstance(self.form, Literals) else None

    def write_calls(self, calls: Iterable[ToolCall]) -> str:
        """Calls as a model writes them, for a prompt's history. Nothing for no calls."""
        given = list(calls)
        return self.form.write(given) if given else ""

    def write_results(self, results: Iterable[ToolResult]) -> str:
        """Results as a model expects them in a prompt. Nothing for no results."""
        given = list(results)
        return self.results.write(given) if given else ""

    def teach(self, tools: Iterable[AnyTool]) -> str:
        """A system prompt's part for a model whose template knows no tools: which there are and how to call them."""
        listed = "\n".join(json.dumps(tool.openai_schema["function"], ensure_ascii=False) for tool in tools)
        example = self.write_calls([ToolCall("tool_name", {"parameter": "value"})])
        several = self.write_calls([ToolCall("first_tool", {"a": 1}), ToolCall("second_tool", {"b": "x"})])
        parallel = "" if self.literals and not self.literals.parallel else f"\n\nSeveral calls at once:\n\n{several}"
        return (
            "You can call tools. Each line describes one, its parameters as JSON Schema:\n\n"
            f"{listed}\n\n"
            "To call a tool, write exactly this and then stop; you will be given the result:\n\n"
            f"{example}{parallel}\n\n"
            "Call a tool only when you need it. Otherwise answer in plain text."
        )


def _python_call(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"


def _json_type(value: JsonValue) -> str:
    for kind, name in ((bool, "boolean"), (int | float, "number"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "null"
