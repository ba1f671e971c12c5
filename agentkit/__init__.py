"""agentkit: any model becomes a reliable tool caller."""

from agentkit.agent import Agent
from agentkit.errors import AgentKitError, OutputError, ToolError
from agentkit.events import RunResult
from agentkit.limits import Limits, ModelSettings
from agentkit.messages import Message, ToolCall, ToolResult, Usage
from agentkit.registry import ToolRegistry
from agentkit.tool import RunContext, Tool, ToolExample, tool

__all__ = [
    "Agent",
    "AgentKitError",
    "Limits",
    "Message",
    "ModelSettings",
    "OutputError",
    "RunContext",
    "RunResult",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolExample",
    "ToolRegistry",
    "ToolResult",
    "Usage",
    "tool",
]
