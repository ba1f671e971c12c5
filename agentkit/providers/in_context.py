"""What is shown of tools to a model that was never trained on them: it learns them in context.

Such a model does not follow a description so much as it goes on with what it has seen. So tools are shown in use: by
their own `ToolExample`s, or by ones that are made up from the schema of a tool that has none. What counts is that no
two of these share a value: where they do, a small model takes the value for part of the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import cycle, islice, zip_longest
from typing import Final

from agentkit.messages import JsonObject, JsonValue
from agentkit.tool import AnyTool, ToolExample

__all__ = ["made_up_examples", "shown_examples"]

MAX_EXAMPLES: Final = 4
"""Exchanges shown, over all tools: each costs about sixty tokens of the context."""

MAX_MADE_UP: Final = 6
"""Exchanges made up, for as many tools that have none: each costs about ninety tokens."""

_WORDS: Final = ("Rome", "green tea", "Anna", "music", "winter", "bread", "garden", "Lima", "blue", "Monday")
_NUMBERS: Final = (12, 3, 40, 7, 25, 9)
_RESULTS: Final = ("17.2", "ready", "about 45", "open", "8")
_CAPITALIZED: Final = r"[A-Z](?:[\w.-]*\w)?"
_SUCH_AS: Final = re.compile(
    r"(?:[Ss]uch as|[Ff]or example|[Ee]\.g\.)[,:]? (?:"
    r"(?P<quote>[\"'`])(?P<quoted>.{1,40}?)(?P=quote)"
    rf"|(?P<name>{_CAPITALIZED}(?:,? {_CAPITALIZED})+)"
    r"|(?P<word>[\w.:/@-]*\w))"
)


def shown_examples(tools: Sequence[AnyTool], described: Sequence[JsonValue]) -> list[tuple[str, ToolExample]]:
    """Exchanges with the name of the tool that each uses: made-up ones, then every tool's own first, every tool's own
    second, up to the limits. The same each time.

    Args:
        tools: what is offered.
        described: the same in OpenAI's shape, as it may be written into a prompt.
    """
    rounds = zip_longest(*([(tool.name, example) for example in tool.examples] for tool in tools))
    own = islice((found for round_ in rounds for found in round_ if found is not None), MAX_EXAMPLES)
    bare = [shown for tool, shown in zip(tools, described, strict=True) if not tool.examples]
    return [*made_up_examples(bare[:MAX_MADE_UP]), *own]


def made_up_examples(described: Sequence[JsonValue]) -> list[tuple[str, ToolExample]]:
    """One exchange a tool: its description with values, a call with these, a result. The same each time.

    Args:
        described: the tools in OpenAI's shape, as they may be written into a prompt.
    """
    source = _Values()
    functions = [tool["function"] for tool in described if isinstance(tool, dict)]
    return [(str(tool["name"]), _example(tool, source)) for tool in functions if isinstance(tool, dict)]


def _example(tool: JsonObject, source: _Values) -> ToolExample:
    arguments: JsonObject = {name: source.value(schema) for name, schema in _required(tool["parameters"])}
    said = ", ".join(value if isinstance(value, str) else json.dumps(value) for value in arguments.values())
    asked = str(tool["description"]).strip().split("\n")[0].rstrip(".") or str(tool["name"])
    result = next(source.results)
    return ToolExample(f"{asked}: {said}" if said else asked, arguments, result, f"The result is {result}.")


def _required(parameters: JsonValue) -> Iterator[tuple[str, JsonObject]]:
    if isinstance(parameters, dict):
        properties, required = parameters.get("properties"), parameters.get("required")
        if isinstance(properties, dict) and isinstance(required, list):
            yield from (
                (name, schema) for name, schema in properties.items() if name in required and isinstance(schema, dict)
            )


class _Values:
    """Values that fit a schema, each another."""

    def __init__(self) -> None:
        self._words: Iterator[str] = cycle(_WORDS)
        self._numbers: Iterator[int] = cycle(_NUMBERS)
        self.results: Iterator[str] = cycle(_RESULTS)

    def value(self, schema: JsonObject) -> JsonValue:
        examples, choices, description = schema.get("examples"), schema.get("enum"), schema.get("description")
        for given in (examples, choices):
            if isinstance(given, list) and given:
                return given[0]
        kind = schema.get("type")
        if kind == "string":
            named = _SUCH_AS.search(description) if isinstance(description, str) else None
            return named["quoted"] or named["name"] or named["word"] if named else next(self._words)
        if kind in ("integer", "number"):
            return next(self._numbers)
        if kind == "array":
            items = schema.get("items")
            return [self.value(items)] if isinstance(items, dict) else []
        return {} if kind == "object" else True if kind == "boolean" else next(self._words)
