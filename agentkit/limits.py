"""What bounds a run, and how a model is asked to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Limits", "ModelSettings", "StopReason"]

StopReason: TypeAlias = Literal[
    "answer",
    "length",
    "content_filter",
    "refusal",
    "steps",
    "deadline",
    "corrections",
    "repeats",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost",
    "output_size",
    "guardrail",
    "paused",
]
"""Why a run ended. ``answer``: the model answered. ``length``, ``content_filter`` and ``refusal`` are the model's own
finish reasons. ``guardrail``: a hook ended it. ``paused``: calls wait for a decision. The others are limits of
`Limits`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one run.

    Args:
        steps: model turns; 20.
        deadline: seconds for the whole run; 600.
        tool_timeout: seconds for one tool call, unless the tool has its own; 60.
        tool_output: characters of one tool result that the model sees; 50,000. A longer one is cut in its middle,
            and says so.
        corrections: turns in a row without one usable call or answer, after which the run ends; 3.
    """

    steps: int = 20
    deadline: float = 600.0
    tool_timeout: float = 60.0
    tool_output: int = 50_000
    corrections: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "deadline", "tool_timeout", "tool_output", "corrections"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"Limits.{name} is {value!r}: it must be above 0")


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
