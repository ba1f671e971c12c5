"""Tools by name: those that were added, and those that installed plugins offer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from agentkit.errors import DuplicateToolError, PluginError, UnknownToolError, nearest
from agentkit.tool import AnyTool, as_tool

__all__ = ["ENTRY_POINT_GROUP", "ToolRegistry"]

ENTRY_POINT_GROUP: Final = "agentkit.tools"


class ToolRegistry:
    """A set of tools, each under its own name.

    Iterating gives the tools that were added, so a registry can be passed to an agent as a toolset. Plugins that
    `discover` found are only known by name: `load` imports one, and nothing enables it but asking for it.
    """

    def __init__(self, tools: Iterable[AnyTool | Callable[..., object]] = ()) -> None:
        self._tools: dict[str, AnyTool] = {}
        self._plugins: dict[str, list[EntryPoint]] = {}
        self.add(*tools)

    def add(self, *tools: AnyTool | Callable[..., object]) -> None:
        """Add tools or typed functions; all of them, or none if one is refused.

        Raises:
            DuplicateToolError: another tool has the name.
            ToolDefinitionError: a function that cannot become a tool.
        """
        added = dict(self._tools)
        for tool in map(as_tool, tools):
            if added.setdefault(tool.name, tool) is not tool:
                raise DuplicateToolError(
                    f"A tool named {tool.name!r} is registered already: give one another name with @tool(name=…)"
                )
        self._tools = added

    def discover(self) -> ToolRegistry:
        """Find the plugins that are installed (entry-point group ``agentkit.tools``). Imports none. Returns itself."""
        self._plugins = {}
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            self._plugins.setdefault(entry.name, []).append(entry)
        return self

    def names(self) -> list[str]:
        """All names that `load` takes: added tools, then plugins."""
        return [*self._tools, *sorted(set(self._plugins) - set(self._tools))]

    def origin(self, name: str) -> str:
        """The distribution that a plugin comes from; empty for an added tool."""
        return "" if name in self._tools else " and ".join(map(_origin, self._plugins.get(name, [])))

    def load(self, name: str) -> list[AnyTool]:
        """The tools behind a name: one, or several where a plugin offers a toolset.

        Raises:
            UnknownToolError: nothing has this name.
            DuplicateToolError: two plugins, or a plugin and an added tool, claim it.
            PluginError: the plugin does not load, or holds no tool.
        """
        added, plugins = self._tools.get(name), self._plugins.get(name, [])
        if len(plugins) + (added is not None) > 1:
            raise DuplicateToolError(
                f"The tool name {name!r} is claimed by {self._claims(name)}: uninstall or rename one"
            )
        if added is not None:
            return [added]
        if not plugins:
            known = self.names()
            raise UnknownToolError(
                f"No tool is named {name!r}: there are {', '.join(known) or 'none'}.{nearest(name, known)}"
            )
        return _load(plugins[0])

    def _claims(self, name: str) -> str:
        claims = [_origin(entry) for entry in self._plugins[name]]
        return " and ".join(["a tool that was added", *claims] if name in self._tools else claims)

    def __iter__(self) -> Iterator[AnyTool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools or name in self._plugins


def _load(entry: EntryPoint) -> list[AnyTool]:
    try:
        loaded = entry.load()
        tools = [as_tool(item) for item in (loaded if isinstance(loaded, list | tuple | ToolRegistry) else [loaded])]
    except (Exception, SystemExit) as error:  # a plugin is somebody else's code: what it raises stays its own trouble
        raise PluginError(
            f"The tool plugin {entry.name!r} ({entry.value}, from {_origin(entry)}) does not load: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not tools:
        raise PluginError(f"The tool plugin {entry.name!r} ({entry.value}, from {_origin(entry)}) holds no tool")
    return tools


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"
