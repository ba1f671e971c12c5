"""`agentkit tools`: what the installed plugins offer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from agentkit.cli.screen import print_table
from agentkit.errors import ConfigError
from agentkit.messages import JsonObject
from agentkit.registry import ToolRegistry
from agentkit.tool import AnyTool

__all__ = ["tools"]


def tools(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print the schema of this one as JSON.", show_default=False)
    ] = None,
) -> None:
    """List the tools that installed plugins offer; `agentkit run -t NAME` enables one."""
    registry = ToolRegistry().discover()
    if name is None:
        print_table(row for known in registry.names() for row in _rows(registry, known))
        return
    schemas = [_schema(tool) for tool in registry.load(name)]
    print(json.dumps(schemas[0] if len(schemas) == 1 else schemas, indent=2))


def _rows(registry: ToolRegistry, name: str) -> Iterator[tuple[str, str, str]]:
    """One row, or for a toolset one and then one for each of its tools."""
    origin = registry.origin(name)
    try:
        loaded = registry.load(name)
        described = [(tool.name, _first_line(tool)) for tool in loaded]
    except ConfigError as error:
        yield name, origin, f"✗ {error}"
        return
    if len(described) == 1 and described[0][0] == name:
        yield name, origin, described[0][1]
        return
    yield name, origin, f"a set of {len(described)}:"
    for tool_name, description in described:
        yield f"· {tool_name}", origin, description


def _first_line(tool: AnyTool) -> str:
    return next(iter(tool.description.splitlines()), "")


def _schema(tool: AnyTool) -> JsonObject:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
