"""What `agentkit run` was told, put on record with the run, so that `agentkit resume` makes the same agent."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from agentkit.agent import Agent
from agentkit.cli.screen import ERR, one_line
from agentkit.errors import ResumeError
from agentkit.journal.base import Journal
from agentkit.journal.records import RunStarted
from agentkit.limits import Limits, ModelSettings
from agentkit.messages import JsonObject
from agentkit.policy import Decision, PendingCall, Policy

__all__ = ["Launch"]

_KEY: Final = "agentkit run"


@dataclass(frozen=True, slots=True)
class Launch:
    """An agent in JSON's terms, beside its instructions: those are on record anyway.

    Attributes:
        model: as a model string.
        tools: the names of plugins.
        temperature: None leaves it to the provider.
        limits: the run's bounds.
        folder: where the run was begun: tools and model files are looked for there.
        version: of this form.
    """

    model: str
    tools: tuple[str, ...]
    temperature: float | None
    limits: Limits
    folder: str
    version: Literal[1] = 1

    def agent(self, instructions: str, journal: Journal | None, *, yes: bool) -> Agent[str]:
        """The agent; ``yes`` allows whatever is asked for.

        Raises:
            ConfigError: a model or a tool is not there.
        """
        return Agent(
            self.model,
            tools=self.tools,
            instructions=instructions,
            limits=self.limits,
            settings=ModelSettings(temperature=self.temperature),
            policy=Policy(on_ask=_allow if yes else None),
            journal=journal,
        )

    def metadata(self) -> JsonObject:
        """For `RunOptions.metadata`."""
        return {_KEY: asdict(self)}

    @classmethod
    def read(cls, run_id: str, started: RunStarted) -> Launch:
        """What is on record of a run.

        Raises:
            ResumeError: another program began it, or an `agentkit run` of another version.
        """
        from pydantic import TypeAdapter, ValidationError

        if started.parent:
            raise ResumeError(f"The run {run_id!r} was begun by a call in {started.parent!r}: resume that one")
        if _KEY not in started.metadata:
            raise ResumeError(
                f"The run {run_id!r} was not begun by `agentkit run` but by a program of its own: resume it there, "
                "with Agent.resume"
            )
        try:
            return TypeAdapter(cls).validate_python(started.metadata[_KEY])
        except ValidationError as error:
            raise ResumeError(
                f"What `agentkit run` noted of the run {run_id!r} cannot be read ({error.errors()[0]['msg']}): resume "
                "it with the agentkit that began it"
            ) from error

    def enter_folder(self) -> None:
        """Work where the run was begun, and say so if that was elsewhere.

        Raises:
            ResumeError: the folder is gone, or is on another machine.
        """
        try:
            is_elsewhere = not Path(self.folder).samefile(".")
            os.chdir(self.folder)
        except OSError as error:
            raise ResumeError(
                f"The run was begun in {self.folder}, where its tools and its model are looked for, and which cannot "
                f"be entered ({error.strerror}). Resume it on the machine where it was begun, or make the folder"
            ) from error
        if is_elsewhere:
            ERR.print(f"in {one_line(self.folder)}", style="dim")


def _allow(call: PendingCall) -> Decision:
    return Decision(True, "--yes was given")
