"""An agent, as the loop sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentkit.hooks import Hooks
from agentkit.journal.records import RunStarted
from agentkit.limits import ModelSettings
from agentkit.messages import Message
from agentkit.policy import Policy
from agentkit.providers.base import Provider
from agentkit.tool import AnyTool, read_tools
from agentkit.window import ContextBudget

__all__ = ["HasSetup", "Setup"]


class HasSetup(Protocol):
    """An agent: what a run can be handed to."""

    @property
    def setup(self) -> Setup: ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run works with until it is handed to another agent.

    ``handoffs`` are the agents it can be handed to, by the names of the tools that do it.
    """

    name: str
    provider: Provider
    tools: Mapping[str, AnyTool]
    instructions: str
    examples: Sequence[Message]
    settings: ModelSettings
    policy: Policy
    hooks: Sequence[Hooks] = ()
    handoffs: Mapping[str, HasSetup] = field(default_factory=dict)
    context: ContextBudget | None = None

    def started(self, messages: Sequence[Message]) -> RunStarted:
        """The first record of a run that begins with this agent and these messages."""
        read_tools(self.tools.values())
        return RunStarted(
            tuple(messages),
            agent=self.name,
            model=self.provider.name,
            instructions=self.instructions,
            tools=tuple(tool.openai_schema for tool in self.tools.values()),
        )
