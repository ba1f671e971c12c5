"""The registry and its plugins: real distributions, written into a folder on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentkit import Agent, Tool, ToolRegistry, tool
from agentkit.errors import DuplicateToolError, PluginError, UnknownToolError
from agentkit.testing import ScriptedProvider


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, in which distributions can be installed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(folder: Path, distribution: str, entry_points: dict[str, str], code: str) -> None:
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {module}:{target}" for name, target in entry_points.items())
    (info / "entry_points.txt").write_text(f"[agentkit.tools]\n{lines}\n")


GOOD = """
from agentkit import tool

def double(n: int) -> int:
    "Twice as much."
    return 2 * n

@tool
def half(n: int) -> float:
    "Half of it."
    return n / 2

both = [double, half]
"""


def test_a_plugin_is_found_but_not_imported_until_asked_for(plugins: Path) -> None:
    install(plugins, "good-plugin", {"double": "double", "numbers": "both"}, GOOD)
    registry = ToolRegistry().discover()
    assert {"double", "numbers", "calculator"} <= set(registry.names())
    assert registry.origin("double") == "good-plugin"
    assert "good_plugin" not in sys.modules
    assert len(registry) == 0
    assert list(registry) == []  # found is not enabled
    assert [made.name for made in registry.load("double")] == ["double"]
    assert [made.name for made in registry.load("numbers")] == ["double", "half"]
    assert registry.load("double")[0](4) == 8


def test_an_agent_takes_plugins_by_name(plugins: Path) -> None:
    install(plugins, "named-plugin", {"doubler": "double"}, GOOD)
    agent = Agent(ScriptedProvider([]), tools=["doubler", add])
    assert list(agent.tools) == ["double", "add"]


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_module", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("exit(3)", "SystemExit"),
        ("tool = 5", "no tool"),
        ("tool = []", "holds no tool"),
        ("other = 1", "AttributeError"),
        ("def tool(a): ...", "has no type"),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_work(plugins: Path, code: str, cause: str) -> None:
    name = f"broken-{abs(hash(code))}"
    install(plugins, name, {"bad": "tool"}, code)
    install(plugins, f"good-{name}", {"fine": "double"}, GOOD)
    registry = ToolRegistry().discover()
    with pytest.raises(PluginError, match=f"(?s)'bad'.*{name}.*{cause}"):
        registry.load("bad")
    assert registry.load("fine")


def test_two_plugins_of_one_name(plugins: Path) -> None:
    install(plugins, "first-plugin", {"same": "double"}, GOOD)
    install(plugins, "second-plugin", {"same": "half"}, GOOD)
    with pytest.raises(DuplicateToolError, match=r"first-plugin and second-plugin|second-plugin and first-plugin"):
        ToolRegistry().discover().load("same")


def test_an_added_tool_and_a_plugin_of_one_name() -> None:
    registry = ToolRegistry([Tool.from_schema("calculator", "mine", {})]).discover()
    with pytest.raises(DuplicateToolError, match="a tool that was added"):
        registry.load("calculator")


def test_adding_is_all_or_nothing() -> None:
    registry = ToolRegistry([add])
    with pytest.raises(DuplicateToolError, match="'add'"):
        registry.add(Tool.from_schema("new", "", {}), Tool.from_schema("add", "", {}))
    assert [made.name for made in registry] == ["add"]
    registry.add(add)  # the same one again is no conflict
    assert "add" in registry
    assert registry.load("add") == [add]


def test_an_unknown_name_comes_with_the_nearest() -> None:
    with pytest.raises(UnknownToolError, match=r"Did you mean 'calculator'\?"):
        Agent(ScriptedProvider([]), tools=["calculater"])


def test_a_registry_is_a_toolset() -> None:
    assert list(Agent(ScriptedProvider([]), tools=[ToolRegistry([add])]).tools) == ["add"]
