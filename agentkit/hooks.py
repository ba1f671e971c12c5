"""Hooks: places in a run where your code may look, change, or say no."""

from __future__ import annotations

from typing import Any

from agentkit.messages import Message, ModelResponse, ToolCall, ToolResult
from agentkit.providers.base import ModelRequest
from agentkit.tool import RunContext

__all__ = ["Hooks", "OutOfTime", "StopRun"]


class StopRun(Exception):
    """Raise it in any hook to end the run: its ``stop_reason`` is then ``guardrail``, and the words are in its
    ``problems``."""


class OutOfTime(StopRun):
    """The run's deadline passed."""

    def __str__(self) -> str:
        return "a hook did not answer before the run's deadline"


class Hooks:
    """Subclass it, and override what you need; give it to ``Agent(hooks=[…])``. Several are asked in order, each with
    what the one before it returned.

    A guardrail on input is a `before_model` or an `on_message` that raises `StopRun`; one on output is an
    `after_model`. What a hook returns is what is put on record. It has until the run's deadline.

    The context's ``call`` is the call where there is one, and one without a name elsewhere.
    """

    async def before_model(self, context: RunContext[Any], request: ModelRequest) -> ModelRequest:
        """See, and perhaps change, what the model is about to be sent. It changes this request only."""
        return request

    async def after_model(self, context: RunContext[Any], response: ModelResponse) -> ModelResponse:
        """See, and perhaps change, a complete turn. What was streamed of it was streamed."""
        return response

    async def before_tool(self, context: RunContext[Any], call: ToolCall) -> ToolCall | ToolResult:
        """See a valid call before the policy decides on it: return it, another for the same tool, or the result that
        it gets instead of being run."""
        return call

    async def after_tool(self, context: RunContext[Any], call: ToolCall, result: ToolResult) -> ToolResult:
        """See, and perhaps change, what a call that was run came to."""
        return result

    async def on_message(self, context: RunContext[Any], message: Message) -> Message:
        """See, and perhaps change, a message before it becomes part of the conversation: the task, results, and what
        the model is told of its mistakes. The model's own turns come to `after_model`."""
        return message
