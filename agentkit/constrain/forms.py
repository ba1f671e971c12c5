"""One call in each form: what stands before its name, and the symbols from its name on."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import fields
from functools import lru_cache
from typing import TypeAlias

from agentkit.constrain.lark import Rules, Specials
from agentkit.constrain.plain_json import json_rule
from agentkit.constrain.tags import TagArguments
from agentkit.constrain.values import GemmaValues, PythonValues
from agentkit.messages import JsonObject
from agentkit.parsing.dialects.base import GemmaForm, Literals, PythonForm, TagForm
from agentkit.tool import AnyTool

__all__ = ["AnyForm", "CallWriter", "call_writer", "literals_of"]

AnyForm: TypeAlias = Literals | TagForm | PythonForm | GemmaForm
Fragment: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Symbols, and the rules that they refer to."""


def literals_of(form: AnyForm) -> list[str]:
    """All literals of a form."""
    return [value for field in fields(form) if isinstance(value := getattr(form, field.name), str)]


class CallWriter(ABC):
    """Writes the calls of one form.

    Attributes:
        section_open, separator, section_close: around and between all calls of a turn.
        head: what stands before a call's name.
        marker: where calls begin in free text; empty if they cannot be told from it.
        parallel: whether a turn may have several.
    """

    section_open = ""
    separator = ""
    section_close = ""
    head = ""
    parallel = True

    def __init__(self, specials: Specials) -> None:
        self._specials = specials
        self.rules: dict[str, str] = {}

    @property
    def marker(self) -> str:
        """What begins the calls of a turn: that of their section, else their own, as far as it is the same for all."""
        return _marker(self.section_open, self.head.partition("\n")[0])

    @property
    def numbered(self) -> bool:
        """Whether a call says which one it is."""
        return any(hole in self.head for hole in ("{index}", "{number}"))

    def symbols(self, literal: str, index: int) -> str:
        """A literal as symbols, in the call of this index."""
        return self._specials.symbols(literal.replace("{index}", str(index)).replace("{number}", str(index + 1)))

    @abstractmethod
    def call(self, tool: AnyTool, index: int) -> str:
        """A call of the tool from its name on."""

    def _kept(self, fragment: Fragment) -> str:
        symbols, rules = fragment
        self.rules.update(rules)
        return symbols


class _LiteralCalls(CallWriter):
    def __init__(self, form: Literals, specials: Specials) -> None:
        super().__init__(specials)
        self._form = form
        self.section_open, self.section_close, self.separator = form.section_open, form.section_close, form.separator
        self.head = form.call_open + form.before_name
        self.parallel = form.parallel

    @property
    def marker(self) -> str:
        return _marker(self.section_open, self._form.call_open)

    @property
    def numbered(self) -> bool:
        return any(hole in literal for hole in ("{index}", "{number}") for literal in literals_of(self._form))

    def symbols(self, literal: str, index: int) -> str:
        numbered = literal.replace("{index}", str(index)).replace("{number}", str(index + 1))
        return self._specials.symbols(numbered, {"{id}": f"/{self._form.id_pattern}/"})

    def call(self, tool: AnyTool, index: int) -> str:
        form = self._form
        arguments = self._kept(_json_arguments(_dumped(tool)))
        behind = self.symbols(form.after_arguments + form.call_close, index)
        return f"{self.symbols(_json_escaped(tool.name) + form.after_name, index)} {arguments} {behind}"


class _JsonCalls(_LiteralCalls):
    """Calls that are JSON from the first character on, written as such: an answer in JSON may begin alike."""

    def __init__(self, form: Literals, specials: Specials, keys: tuple[str, str]) -> None:
        super().__init__(form, specials)
        self._keys = keys
        self.head = ""

    def call(self, tool: AnyTool, index: int) -> str:
        root = tool.parameters

        def whole(arguments: JsonObject) -> JsonObject:
            properties: JsonObject = dict(zip(self._keys, ({"const": tool.name}, arguments), strict=True))
            return {"type": "object", "properties": properties, "required": list(self._keys)}

        rules = Rules(_prefix("call", tool.name, _dumped(tool)))
        symbols = json_rule(rules, whole(root), root, whole({"type": "object"}))
        return self._kept((symbols, rules.items()))


class _TagCalls(CallWriter):
    def __init__(self, form: TagForm, specials: Specials) -> None:
        super().__init__(specials)
        self._form = form
        self.section_open, self.section_close, self.separator = form.section_open, form.section_close, form.separator
        self.head, _, self._behind_name = form.call_open.partition("{name}")

    @property
    def numbered(self) -> bool:
        return any(hole in self._form.call_open for hole in ("{index}", "{number}"))

    def call(self, tool: AnyTool, index: int) -> str:
        arguments = self._kept(_tag_arguments(self._form, self._specials, _dumped(tool)))
        close = self.symbols(self._form.call_close, index)
        return f"{self.symbols(tool.name + self._behind_name, index)} {arguments} {close}"


class _PythonCalls(CallWriter):
    def __init__(self, form: PythonForm, specials: Specials) -> None:
        super().__init__(specials)
        self.section_open, self.section_close, self.separator = form.section_open, form.section_close, form.separator

    def call(self, tool: AnyTool, index: int) -> str:
        return f'{self.symbols(tool.name + "(", index)} {self._kept(_python_arguments(_dumped(tool)))} ")"'


class _GemmaCalls(CallWriter):
    def __init__(self, form: GemmaForm, specials: Specials) -> None:
        super().__init__(specials)
        self._form = form
        self.head = form.call_open

    def call(self, tool: AnyTool, index: int) -> str:
        arguments = self._kept(_gemma_arguments(self._form, self._specials, _dumped(tool)))
        return f"{self.symbols(tool.name, index)} {arguments} {self.symbols(self._form.call_close, index)}"


def call_writer(form: AnyForm, specials: Specials, *, beside_json: bool = False) -> CallWriter:
    """The writer of a form's calls. ``beside_json``: other JSON may stand in their place."""
    if isinstance(form, Literals):
        keys = _json_keys(form) if beside_json else None
        return _JsonCalls(form, specials, keys) if keys else _LiteralCalls(form, specials)
    if isinstance(form, TagForm):
        return _TagCalls(form, specials)
    return _PythonCalls(form, specials) if isinstance(form, PythonForm) else _GemmaCalls(form, specials)


def _json_keys(form: Literals) -> tuple[str, str] | None:
    """The keys of a call's name and arguments, if it consists of these and nothing stands around it."""
    if form.call_open or form.call_close:
        return None
    try:
        example = json.loads(f"{form.before_name}f{form.after_name}{{}}{form.after_arguments}")
    except ValueError:
        return None
    keys = tuple(example) if isinstance(example, dict) and list(example.values()) == ["f", {}] else ()
    return (keys[0], keys[1]) if len(keys) == 2 else None


def _marker(section_open: str, call_open: str) -> str:
    opening = section_open if section_open.strip() not in ("", "[") else section_open + call_open
    opening = re.split(r"\{\w+\}", opening)[0].rstrip()
    return "" if opening.strip() == "[" else opening


def _dumped(tool: AnyTool) -> str:
    return json.dumps(tool.parameters, default=str)


def _json_escaped(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]


# ── arguments: the same for every call of a tool, so they are made once a schema ───────────────────────────────────


def _prefix(*key: object) -> str:
    return "v" + hashlib.blake2b(repr(key).encode(), digest_size=5).hexdigest()


@lru_cache(maxsize=1024)
def _json_arguments(schema: str) -> Fragment:
    root: JsonObject = json.loads(schema)
    rules = Rules(_prefix("json", schema))
    return json_rule(rules, root, root, {"type": "object"}), rules.items()


@lru_cache(maxsize=1024)
def _python_arguments(schema: str) -> Fragment:
    root: JsonObject = json.loads(schema)
    rules = Rules(_prefix("python", schema))
    return rules.rule(PythonValues(rules, root).keywords(root)), rules.items()


@lru_cache(maxsize=1024)
def _gemma_arguments(form: GemmaForm, specials: Specials, schema: str) -> Fragment:
    root: JsonObject = json.loads(schema)
    rules = Rules(_prefix(form, specials, schema))
    return rules.rule(GemmaValues(rules, root, form.quote, specials, every=form.every).object(root)), rules.items()


@lru_cache(maxsize=1024)
def _tag_arguments(form: TagForm, specials: Specials, schema: str) -> Fragment:
    root: JsonObject = json.loads(schema)
    rules = Rules(_prefix(form, specials, schema))
    writer = TagArguments(form, specials, rules, root)
    return rules.rule(writer.all()), rules.items()
