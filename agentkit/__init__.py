"""agentkit: any model becomes a reliable tool caller."""

from agentkit.agent import Agent
from agentkit.errors import AgentKitError, OutputError, ToolError
from agentkit.events import RunResult
from agentkit.hooks import Hooks
from agentkit.limits import Limits, ModelSettings
from agentkit.messages import Message, ToolCall, ToolResult, Usage
from agentkit.policy import Decision, Policy, Rule
from agentkit.registry import ToolRegistry
from agentkit.tool import RunContext, Tool, ToolExample, tool
from agentkit.window import ContextBudget

__all__ = [
    "Agent",
    "AgentKitError",
    "ContextBudget",
    "Decision",
    "Hooks",
    "Limits",
    "Message",
    "ModelSettings",
    "OutputError",
    "Policy",
    "Rule",
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
