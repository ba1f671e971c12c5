"""What a run, and the runs beneath it, have used of their limits."""

from __future__ import annotations

from collections import Counter

from agentkit.limits import Limits, StopReason
from agentkit.messages import Usage

__all__ = ["Budget"]


class Budget:
    """Counts what is used, here and in every budget above: an agent that is called as a tool spends its caller's too.

    Args:
        limits: those of this run; None only counts.
        parent: the budget above.

    Attributes:
        usage: of this run and all beneath it.
        calls: that were run, here and beneath, by tool.
    """

    __slots__ = ("_is_refused", "_limits", "_parent", "calls", "usage")

    def __init__(self, limits: Limits | None = None, parent: Budget | None = None) -> None:
        self.usage = Usage()
        self.calls: Counter[str] = Counter()
        self._limits = limits
        self._parent = parent
        self._is_refused = False  # a call beyond `Limits.tool_calls` was asked for

    def spend(self, usage: Usage) -> None:
        """Count a turn of a model."""
        self.usage += usage
        if self._parent is not None:
            self._parent.spend(usage)

    def take_call(self, tool: str) -> str:
        """Count a call that is about to be run. Returns why it may not be, or nothing."""
        refusal = self._refusal(tool)
        if not refusal:
            self.count_call(tool)
        return refusal

    def count_call(self, tool: str, times: int = 1) -> None:
        """Count a call that was run."""
        self.calls[tool] += times
        if self._parent is not None:
            self._parent.count_call(tool, times)

    def _refusal(self, tool: str) -> str:
        limits = self._limits
        if limits is not None:
            if limits.tool_calls is not None and self.calls.total() >= limits.tool_calls:
                self._is_refused = True
                return f"the limit of {limits.tool_calls} tool calls is reached"
            most = limits.calls_of(tool)
            if most is not None and self.calls[tool] >= most:
                return f"the limit of {most} calls of this tool is reached: go on without it"
        return self._parent._refusal(tool) if self._parent is not None else ""

    def exceeded(self) -> StopReason | None:
        """Which limit is used up, if one is."""
        limits, usage = self._limits, self.usage
        if limits is not None:
            if self._is_refused:
                return "tool_calls"
            if limits.input_tokens is not None and usage.input_tokens >= limits.input_tokens:
                return "input_tokens"
            if limits.output_tokens is not None and usage.output_tokens >= limits.output_tokens:
                return "output_tokens"
            if limits.cost is not None and usage.cost >= limits.cost:
                return "cost"
        return self._parent.exceeded() if self._parent is not None else None
