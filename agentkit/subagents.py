"""Agents that other agents reach: called as a tool, or handed the conversation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from agentkit.calls import CallsPending
from agentkit.context import Run
from agentkit.errors import ConfigError, OutputError
from agentkit.events import OutputT_co, RunResult
from agentkit.limits import Limits
from agentkit.loop import drained, run_loop
from agentkit.messages import JsonObject, Message, TextPart
from agentkit.output import OutputType
from agentkit.setup import HasSetup
from agentkit.tool import AnyTool, RunContext, Tool
from agentkit.tool_output import as_output

__all__ = ["SubAgent", "agent_tool", "transfer_tool"]

_TASK: JsonObject = {
    "type": "object",
    "properties": {
        "task": {"type": "string", "description": "What to do, with all that it needs to know: it sees nothing else."}
    },
    "required": ["task"],
}


class SubAgent(HasSetup, Protocol[OutputT_co]):
    """What of an agent a run beneath another needs."""

    name: str
    description: str
    limits: Limits

    @property
    def output(self) -> OutputType[OutputT_co]: ...


def agent_tool(agent: SubAgent[object]) -> AnyTool:
    """A tool that runs an agent beneath the run that calls it.

    Raises:
        ConfigError: the agent has no description.
    """

    async def call(context: RunContext[object], task: str) -> TextPart:
        run = _run_beneath(agent, context, task)
        result: RunResult[object]
        try:
            result = await drained(run_loop(run))
        except OutputError as error:
            result = error.result
        if result.stop_reason == "paused":
            raise CallsPending(result.pending)
        said = as_output(result.output, agent.name).text
        if result.stop_reason != "answer":
            said = f"{agent.name} did not come to its end (stop reason: {result.stop_reason}). So far: {said}"
        return TextPart(said, untrusted=run.taint is not None)

    # Its run has a name that follows from the call's: made again after a crash, the call goes on with that run.
    return Tool.from_schema(
        agent.name, _description(agent.name, agent.description), _TASK, call, effect="read", timeout=math.inf
    )


def transfer_tool(name: str, description: str) -> AnyTool:
    """A tool that hands the conversation to an agent: that it was called is all it does.

    Raises:
        ConfigError: the agent has no description.
    """
    about = f"Hand the conversation over to {name}: {_description(name, description)}"
    schema: JsonObject = {"type": "object", "properties": {}}
    return Tool.from_schema(f"transfer_to_{name}", about, schema, lambda: f"{name} takes over.", effect="read")


def _description(name: str, description: str) -> str:
    if not description:
        raise ConfigError(f"The agent {name!r} has no description=…: a model could not know when to call it")
    return description


def _run_beneath(agent: SubAgent[OutputT_co], context: RunContext[object], task: str) -> Run[OutputT_co]:
    caller = context._caller
    if caller is None:
        raise ConfigError(f"The tool {agent.name!r} is an agent: only another agent can call it; use run() otherwise")
    above = caller.run
    message = Message("user", TextPart(task, untrusted=above.taint is not None))
    return Run(
        agent.setup,
        agent.output,
        above.journal,
        caller.key,
        replace(agent.setup.started([message]), parent=above.run_id),
        limits=agent.limits,
        deps=context.deps,
        decisions=above.decided,
        caller=caller,
    )
