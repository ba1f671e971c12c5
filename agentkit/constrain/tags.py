"""Arguments as tags."""

from __future__ import annotations

import re
from typing import Final

from agentkit.constrain.elements import Elements
from agentkit.constrain.lark import Rules, Specials, escaped
from agentkit.constrain.schemas import Kind, kinds, parameters
from agentkit.constrain.texts import Never, raw_text
from agentkit.constrain.values import JsonValues, other_than
from agentkit.messages import JsonObject, JsonValue
from agentkit.parsing.dialects.base import TagForm

__all__ = ["TagArguments"]

_KEY: Final = re.compile(r"[^<>\"'\n=/\s]{1,128}")


class TagArguments:
    """Writes the parameters of one tool as tags."""

    def __init__(self, form: TagForm, specials: Specials, rules: Rules, root: JsonObject) -> None:
        self._form = form
        self._specials = specials
        self._rules = rules
        self._root = root
        self._never = _never(form)
        self._json = JsonValues(rules, root, self._never)

    def all(self) -> str:
        given = parameters(self._root, self._root)
        named = [item for item in given.named if _KEY.fullmatch(item[0])]
        written = [
            self._param(key, schema) if needed else f"({self._param(key, schema)})?" for key, schema, needed in named
        ]
        if given.more is not None:
            written.append(self._further([key for key, *_ in given.named], given.more))
        return " ".join(written)

    def _param(self, key: str, schema: JsonValue) -> str:
        before, _, after = self._form.param.replace("{key}", key).partition("{value}")
        return self._rules.rule(self._options(before, after, schema))

    def _further(self, keys: list[str], schema: JsonValue) -> str:
        """Parameters that the schema does not name."""
        before, _, after = self._form.param.partition("{value}")
        if "{key}" in after:  # the closing tag would have to repeat what the opening one said
            return ""
        lead, _, rest = before.partition("{key}")
        name = self._rules.terminal(other_than(keys))
        param = self._rules.rule(f"{self._specials.symbols(lead)} {name} ({self._options(rest, after, schema)})")
        return f"{param}*"

    def _options(self, before: str, after: str, schema: JsonValue) -> str:
        """A parameter from ``before`` to ``after``, for each type that it may have."""
        found = kinds(schema, self._root)
        if "{string}" not in before and "{type}" not in before:
            return f"{self._specials.symbols(before)} ({self._untyped(after, schema, found)})"
        options = []
        for kind in found:
            said = before.replace("{string}", "true" if kind.name == "string" else "false")
            said = said.replace("{type}", "number" if kind.name == "integer" else kind.name)
            options.append(f"{self._specials.symbols(said)} {self._closed(kind, after)}")
        return " | ".join(dict.fromkeys(options))

    def _untyped(self, after: str, schema: JsonValue, found: list[Kind]) -> str:
        if self._form.nested:
            elements = Elements(self._form.nested, self._never, self._specials, self._rules, self._root)
            return elements.value(schema, after)
        free = [kind for kind in found if kind.name == "string" and kind.values is None]  # which covers all others
        return " | ".join(dict.fromkeys(self._closed(kind, after) for kind in free or found))

    def _closed(self, kind: Kind, after: str) -> str:
        """A value of this type and what closes it."""
        if kind.name == "string":
            return raw_text(kind, self._never, after, self._specials, self._rules)
        return f"({self._json.one(kind)}) {self._specials.symbols(after)}"


def _never(form: TagForm) -> Never:
    """What a raw value cannot be, as an expression: any text with something in it that could be read as its end.

    That is what closes a parameter; what opens one, at the start of a line; and what closes a call, with the opening
    of a further one after it. A tag is known by its beginning: models also put spaces and suffixes into tags.
    """
    if form.nested:
        return Never(f"(?s:.*){escaped(form.nested)}(?s:.*)", form.nested[0])
    before, _, after = form.param.partition("{value}")
    call_open = form.call_open.partition("{name}")[0]
    another = escaped(_beginning(before))
    again = escaped(_beginning(call_open[max(call_open.rfind("<"), 0) :]))
    ends = f"{escaped(_beginning(form.call_close))}(?s:.*){again}"
    close = _beginning(after.lstrip("\n"))
    inside = [escaped(close), rf"\n\s*{another}", ends, *map(escaped, form.never_raw)]
    first = rf"|\s*{another}(?s:.*)" if before.endswith("\n") else ""
    return Never(f"(?s:.*)({'|'.join(inside)})(?s:.*){first}", close[0])


def _beginning(tag: str) -> str:
    """What a tag begins with, without attributes and what closes it."""
    found = re.match(r".[^\n<{]*", tag)
    return re.sub(r"(\s+\w+=[\"']?|[=>])\s*\Z", "", found[0]) if found else tag
