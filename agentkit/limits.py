"""What bounds a run, and how a model is asked to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["LimitReason", "Limits", "ModelSettings", "StopReason"]

LimitReason: TypeAlias = Literal[
    "steps",
    "deadline",
    "corrections",
    "repeats",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost",
    "output_size",
]
"""The limits of `Limits` that end a run. It goes on if it is resumed with other ones."""

StopReason: TypeAlias = LimitReason | Literal["answer", "length", "content_filter", "refusal", "guardrail", "paused"]
"""Why a run ended. ``answer``: the model answered. ``length``, ``content_filter`` and ``refusal`` are the model's own
finish reasons. ``guardrail``: a hook ended it. ``paused``: calls wait for a decision. The others are limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one run. Those marked * are shared with the runs beneath it: what an agent that it calls as a tool
    uses, counts here too.

    Args:
        steps: model turns; 20.
        deadline: * seconds for the whole run, without the time in which it was paused; 600.
        tool_timeout: seconds for one tool call, unless the tool has its own; 60.
        tool_output: characters of one tool result that the model sees; 50,000. A longer one is cut in its middle,
            and says so.
        corrections: turns in a row without one usable call or answer, after which the run ends; 3.
        repeats: turns in a row in which every call was made before and brought the same result, after which the run
            ends; 3. The model is told each time.
        tool_calls: * calls that are run; no limit. A call beyond it is not, and ends the run.
        calls_per_tool: * calls that are run of each tool, or of those that a mapping names; no limit. Beyond it the
            model is told, and the run goes on.
        input_tokens: * tokens that all turns together read; no limit.
        output_tokens: * tokens that all turns together write; no limit.
        cost: * US dollars, where the provider names a price; no limit.
        output_size: characters of one turn of the model; 1,000,000.

    A limit on tokens or cost is looked at between two turns: the turn that reaches it is finished, and its calls are
    run.
    """

    steps: int = 20
    deadline: float = 600.0
    tool_timeout: float = 60.0
    tool_output: int = 50_000
    corrections: int = 3
    repeats: int = 3
    tool_calls: int | None = None
    calls_per_tool: int | Mapping[str, int] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    output_size: int = 1_000_000

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.__slots__}
        per_tool = given.pop("calls_per_tool")
        if isinstance(per_tool, Mapping):
            given |= {f"calls_per_tool[{tool!r}]": most for tool, most in per_tool.items()}
        else:
            given["calls_per_tool"] = per_tool
        for name, value in given.items():
            if value is not None and not value > 0:
                raise ValueError(f"Limits.{name} is {value!r}: it must be above 0")

    def calls_of(self, tool: str) -> int | None:
        """How many calls of a tool may be run."""
        return self.calls_per_tool.get(tool) if isinstance(self.calls_per_tool, Mapping) else self.calls_per_tool


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How the model is asked to write. ``None`` leaves a setting to the provider.

    Args:
        temperature: 0 takes the likeliest token each time.
        top_p: nucleus sampling, 0 to 1.
        max_tokens: of one turn.
        seed: for sampling, where the provider can repeat itself.
        stop: strings that end the turn; they are not part of it.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
