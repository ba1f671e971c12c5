"""Options that subcommands share."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, TypeAlias

import typer

from agentkit.limits import Limits

__all__ = ["AsJson", "MaxCost", "MaxOutputTokens", "MaxSteps", "RunId", "Timeout", "Yes", "bounded"]

_DEFAULTS: Final = Limits()


def _above_zero(number: float | None) -> float | None:
    if number is not None and not number > 0:
        raise typer.BadParameter(f"{number} is not above 0")
    return number


MaxSteps: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=1, help=f"Most turns of the model; {_DEFAULTS.steps}.")
]
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", callback=_above_zero, help=f"Most seconds for the run; {_DEFAULTS.deadline:.0f}."),
]
MaxCost: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="USD", callback=_above_zero, help="Most US dollars, where the provider names a price."),
]
MaxOutputTokens: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Most tokens that all turns together write.")
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Make every call that would be asked for, without asking.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
RunId: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Its id, or the beginning of it.", show_default=False)
]


def bounded(
    limits: Limits, steps: int | None, deadline: float | None, cost: float | None, output_tokens: int | None
) -> Limits:
    """The limits, with those that were given in their place."""
    return replace(
        limits,
        steps=steps or limits.steps,
        deadline=deadline or limits.deadline,
        cost=cost or limits.cost,
        output_tokens=output_tokens or limits.output_tokens,
    )
