"""Objects and lists as elements, each tag behind a prefix: MiniMax M3."""

from __future__ import annotations

import json
import re
from typing import Final

from agentkit.constrain.lark import Rules, Specials, members
from agentkit.constrain.schemas import Kind, kinds, parameters
from agentkit.constrain.texts import Never, raw_text
from agentkit.constrain.values import JsonValues
from agentkit.messages import JsonObject, JsonValue

__all__ = ["Elements"]

_TAG: Final = re.compile(r"[^<>/\s]{1,128}")


class Elements:
    """Rules for the values of one tool.

    Args:
        prefix: before each tag.
        never: what no string can be.
    """

    def __init__(self, prefix: str, never: Never, specials: Specials, rules: Rules, root: JsonObject) -> None:
        self._prefix = prefix
        self._never = never
        self._specials = specials
        self._rules = rules
        self._json = JsonValues(rules, root, never)
        self._root = root
        self._named: dict[str, str] = {}

    def value(self, schema: JsonValue, close: str) -> str:
        """The rule of a value and what closes it. The schema may refer to itself."""
        key = json.dumps([schema, close], default=str)
        if key not in self._named:
            self._named[key] = name = self._rules.reserve()
            found = kinds(schema, self._root)
            if any(kind.name == "string" and kind.values is None for kind in found):  # which covers all but elements
                found = [kind for kind in found if kind.name == "string" or self._is_structured(kind)]
            options = dict.fromkeys(self._closed(kind, close) for kind in found)
            self._rules.define(name, " | ".join(options))
        return self._named[key]

    def _closed(self, kind: Kind, close: str) -> str:
        if kind.name == "string":
            return raw_text(kind, self._never, close, self._specials, self._rules)
        return f"({self._open(kind)}) {self._specials.symbols(close)}"

    def _open(self, kind: Kind) -> str:
        if self._is_structured(kind):
            return self._object(kind.schema) if kind.name == "object" else self._array(kind.schema)
        return self._json.one(kind)

    def _is_structured(self, kind: Kind) -> bool:
        """Whether its elements are known. Only elements named ``item`` would be read as a list."""
        if kind.name == "array":
            items = kind.schema.get("prefixItems", kind.schema.get("items"))
            return bool(items) and kind.schema.get("maxItems") != 0
        if kind.name != "object" or kind.values is not None:
            return False
        given = parameters(kind.schema, self._root)
        keys = {key for key, *_ in given.named}
        return bool(keys) and given.more is None and "item" not in keys and all(map(_TAG.fullmatch, keys))

    def _object(self, schema: JsonObject) -> str:
        given = parameters(schema, self._root)
        items = [(self._element(key, part), needed) for key, part, needed in given.named]
        written = members(self._rules, items, "", empty=False)
        return written if any(needed for _, needed in items) else f'{written} | "{{}}"'

    def _array(self, schema: JsonObject) -> str:
        least, most = schema.get("minItems"), schema.get("maxItems")
        least = least if isinstance(least, int) else 0
        first = schema.get("prefixItems")
        if isinstance(first, list):
            known = [(self._element("item", item), index < least) for index, item in enumerate(first)]
            return members(self._rules, known, "", empty=False) + ("" if least else ' | "[]"')
        items = f"{self._element('item', schema['items'])}{{{max(least, 1)},{most if isinstance(most, int) else ''}}}"
        return items if least else f'{items} | "[]"'

    def _element(self, key: str, schema: JsonValue) -> str:
        value = self.value(schema, f"{self._prefix}</{key}>")
        return self._rules.rule(f"{self._specials.symbols(f'{self._prefix}<{key}>')} {value}")
