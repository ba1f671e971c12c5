"""Every entry point that pyproject.toml declares leads to tools with a description."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from agentkit.tool import as_tool

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = PROJECT["entry-points"]["agentkit.tools"]


@pytest.mark.parametrize("name", DECLARED)
def test_the_entry_point_loads(name: str) -> None:
    loaded = EntryPoint(name, DECLARED[name], "agentkit.tools").load()
    for given in loaded if isinstance(loaded, list) else [loaded]:
        tool = as_tool(given)
        assert tool.description
        assert tool.effect
        properties = tool.parameters["properties"]
        assert isinstance(properties, dict)
        assert all(parameter.get("description") for parameter in properties.values())
    if not isinstance(loaded, list):
        assert as_tool(loaded).name == name
