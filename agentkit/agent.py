"""The agent: a model, tools and instructions, ready to be given tasks."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypedDict

from agentkit._sync import run_sync
from agentkit.context import Run
from agentkit.events import Event, OutputT_co, RunResult
from agentkit.examples import Examples, example_messages
from agentkit.hooks import Hooks
from agentkit.journal.base import Journal
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.records import RunStarted
from agentkit.journal.replay import last_run
from agentkit.limits import Limits, ModelSettings
from agentkit.loop import drained, run_loop
from agentkit.messages import JsonObject, Message
from agentkit.output import OutputType, Validator
from agentkit.outputs import read_output
from agentkit.policy import Decision, Decisions, Policy, as_decisions
from agentkit.providers import default_model, resolve_model
from agentkit.providers.base import Provider, tools_by_name
from agentkit.registry import ToolRegistry
from agentkit.setup import Setup
from agentkit.subagents import agent_tool, transfer_tool
from agentkit.tool import AnyTool, Tool, as_tool, check_choice
from agentkit.window import ContextBudget

if TYPE_CHECKING:
    from typing_extensions import TypeForm, Unpack

__all__ = ["Agent", "RunOptions", "ToolSource"]

ToolSource: TypeAlias = str | AnyTool | Callable[..., object] | Mapping[str, object] | Iterable[AnyTool]
"""What an agent takes as a tool: a plugin's name, a Tool, a typed function, an OpenAI-style dict, or a toolset."""


class RunOptions(TypedDict, total=False):
    """What `Agent.run` takes beside the task.

    Attributes:
        deps: handed to tools as ``RunContext.deps``; the model never sees it.
        history: an earlier result's ``messages``.
        tool_choice: instead of the agent's.
        limits: instead of the agent's.
        session: the conversation to go on with, by its id: the first run of an id begins it. Instead of the agent's.
        continues: go on with the conversation of the run of this id, instead of the session's last one.
        at_step: of that conversation, only what stood after so many steps of its run: a fork.
        run_id: the run's name in the journal; by default 32 hexadecimal digits drawn at random.
        metadata: put on record with the run, for your own use: JSON values.
    """

    deps: object
    history: Sequence[Message]
    tool_choice: str
    limits: Limits
    session: str
    continues: str
    at_step: int
    run_id: str
    metadata: JsonObject


class Agent(Generic[OutputT_co]):
    """A model with tools. It keeps no conversation of itself: pass ``history`` to go on with one, or a ``session``.

    Args:
        model: ``"openai:gpt-5"``, ``"llama_cpp:smollm2"``, ``"llama_cpp:/path/model.gguf"``, or a `Provider`;
            by default the environment's ``AGENTKIT_MODEL``, else the bundled SmolLM2.
        tools: functions, `Tool` objects, names of installed plugin tools, toolsets.
        instructions: the system message.
        output: the type of the answer: a pydantic model, a dataclass, or any other that pydantic knows; `str` for text.
        validators: functions that are shown the answer and may refuse it: see `Validator`.
        limits: the bounds of each run.
        tool_choice: ``auto`` lets the model decide, ``none`` forbids calls; ``required`` or a tool's name asks for a
            call, and holds until one was run or refused.
        settings: temperature and kin.
        examples: conversations that show how it is done, each from a request to its answer, with real calls and
            results. The model sees them before every task; results do not hold them.
        policy: which calls may be made. By default all, until something untrusted is in the conversation: from then on
            those that do more than read are asked for.
        journal: where runs are put on record; by default in memory, and only until they end.
        session: the conversation that each run goes on with, by its id in the journal.
        hooks: your code at places in a run.
        context: what is done when a conversation outgrows the model's context window. With it, and where there are
            tools, the model is offered one more: `read_output` shows it more of a result that was cut.
        name: says in the journal whose run it was, and names the tools by which other agents reach this one.
        description: what it is good at, for those agents.
        handoffs: agents that it may hand the conversation to, see `add_handoffs`.

    Raises:
        ConfigError: a model, a tool or a ``tool_choice`` that is not there, a tool that cannot be one, an ``output``
            that has no JSON form, or an example that could not have happened.
    """

    def __init__(
        self,
        model: str | Provider | None = None,
        *,
        tools: Iterable[ToolSource] = (),
        instructions: str = "",
        output: TypeForm[OutputT_co] = str,  # type: ignore[assignment]  # the default of OutputT_co
        validators: Sequence[Validator[OutputT_co]] = (),
        limits: Limits | None = None,
        tool_choice: str = "auto",
        settings: ModelSettings | None = None,
        examples: Examples = (),
        policy: Policy | None = None,
        journal: Journal | None = None,
        session: str = "",
        hooks: Sequence[Hooks] = (),
        context: ContextBudget | None = None,
        name: str = "agent",
        description: str = "",
        handoffs: Iterable[Agent[Any]] = (),
    ) -> None:
        self.tools = tools_by_name(_resolve_tools(tools))
        if context and self.tools:
            self.tools = tools_by_name([*self.tools.values(), read_output])
        check_choice(tool_choice, self.tools)
        self.provider = model if isinstance(model, Provider) else resolve_model(model or default_model())
        self.name = name
        self.description = description
        self.instructions = instructions
        self.output = OutputType(output, validators)
        self.limits = limits or Limits()
        self.tool_choice = tool_choice
        self.settings = settings or ModelSettings()
        self.examples = example_messages(examples, self.tools)
        self.policy = policy or Policy()
        self.journal = journal or MemoryJournal(keep_ended=False)
        self.session = session
        self.hooks = tuple(hooks)
        self.context = context
        self.handoffs: dict[str, Agent[Any]] = {}
        self.add_handoffs(*handoffs)

    def add_handoffs(self, *agents: Agent[Any]) -> None:
        """Let the model hand the conversation to another agent: it is offered a tool ``transfer_to_NAME`` for each.

        From the next turn on the other agent's model, settings, instructions, tools, examples, hooks and context budget
        are used. The run stays the same: its limits and its output type hold, and the policies of all its agents do.

        Raises:
            ConfigError: an agent without a description: the model could not know when to call it.
        """
        for agent in agents:
            transfer = transfer_tool(agent.name, agent.description)
            self.tools = tools_by_name([*self.tools.values(), transfer])
            self.handoffs[transfer.name] = agent

    def as_tool(self) -> AnyTool:
        """This agent as a tool for others, under its own name: it is given a task in words, and its answer is the
        result.

        It runs beneath the run that calls it, in the same journal: what it uses counts against that run's limits, its
        calls must pass that run's policies too, and what waits for a decision there pauses both.

        Raises:
            ConfigError: it has no description: a model could not know when to call it.
        """
        return agent_tool(self)

    async def run(self, prompt: str | Message, **options: Unpack[RunOptions]) -> RunResult[OutputT_co]:
        """Do one task to its end. ``options`` are described by `RunOptions`.

        Raises:
            ProviderError: the model could not answer.
            OutputError: the run ended without an answer of the agent's output type. Where the output is text, what
                there is of it is returned instead, with its ``stop_reason``.
            JournalError: the run could not be put on record.

        The error's ``messages`` hold the transcript so far, and its ``run_id`` is what `resume` takes.
        """
        return await drained(self.stream(prompt, **options))

    def run_sync(self, prompt: str | Message, **options: Unpack[RunOptions]) -> RunResult[OutputT_co]:
        """`run`, for code that is not async. Ctrl-C cancels the run and raises KeyboardInterrupt."""
        return run_sync(self.run(prompt, **options))

    async def stream(
        self, prompt: str | Message, **options: Unpack[RunOptions]
    ) -> AsyncGenerator[Event[OutputT_co], None]:
        """`run`, event by event; the last one is `RunFinished`. Closing the generator ends the run."""
        started = await self._started(prompt, options)
        run_id = options.get("run_id") or uuid.uuid4().hex
        run = self._run(run_id, started, options.get("limits"), options.get("deps"))
        async with aclosing(run_loop(run)) as events:
            async for event in events:
                yield event

    async def resume(
        self, run_id: str, decisions: Decisions | None = None, *, deps: object = None, limits: Limits | None = None
    ) -> RunResult[OutputT_co]:
        """Go on with a run that is on record in the agent's journal and not at its end: it was interrupted, it failed,
        or it is paused. What is on record is not done again. A run that has ended is not run; its result is returned.

        The agent must have the tools that the run's calls need; all else may have changed meanwhile.

        Args:
            run_id: the result's, or the error's.
            decisions: on the calls that wait, by their ``key``: a `Decision`, or whether they may be made. Those that
                are left out go on waiting.
            deps: as for `run`: they are not on record.
            limits: instead of the agent's; a run that a limit has ended goes on with other ones.

        Raises:
            RunNotFoundError: no run of this id is on record.
            RunBusyError: somebody is running it.
            ResumeError: a decision is on no call that waits for one.
            AgentKitError: as `run`.
        """
        return await drained(self.stream_resumed(run_id, decisions, deps=deps, limits=limits))

    def resume_sync(
        self, run_id: str, decisions: Decisions | None = None, *, deps: object = None, limits: Limits | None = None
    ) -> RunResult[OutputT_co]:
        """`resume`, for code that is not async."""
        return run_sync(self.resume(run_id, decisions, deps=deps, limits=limits))

    async def stream_resumed(
        self, run_id: str, decisions: Decisions | None = None, *, deps: object = None, limits: Limits | None = None
    ) -> AsyncGenerator[Event[OutputT_co], None]:
        """`resume`, event by event: what happens from here on."""
        run = self._run(run_id, None, limits, deps, as_decisions(decisions or {}))
        async with aclosing(run_loop(run)) as events:
            async for event in events:
                yield event

    @property
    def setup(self) -> Setup:
        """The agent, as the loop sees it."""
        return Setup(
            self.name,
            self.provider,
            self.tools,
            self.instructions,
            self.examples,
            self.settings,
            self.policy,
            self.hooks,
            self.handoffs,
            self.context,
        )

    async def _started(self, prompt: str | Message, options: RunOptions) -> RunStarted:
        choice = options.get("tool_choice", self.tool_choice)
        check_choice(choice, self.tools)
        session = options.get("session", self.session)
        task = prompt if isinstance(prompt, Message) else Message("user", prompt)
        continues = options.get("continues", "")
        if session and not continues:
            continues = await last_run(self.journal, session)
        return replace(
            self.setup.started((*options.get("history", ()), task)),
            continues=continues,
            at_step=options.get("at_step"),
            tool_choice=choice,
            session=session,
            metadata=options.get("metadata", {}),
        )

    def _run(
        self,
        run_id: str,
        started: RunStarted | None,
        limits: Limits | None,
        deps: object,
        decisions: Mapping[str, Decision] | None = None,
    ) -> Run[OutputT_co]:
        return Run(
            self.setup,
            self.output,
            self.journal,
            run_id,
            started,
            limits=limits or self.limits,
            is_extended=limits is not None,
            deps=deps,
            decisions=decisions,
        )


def _resolve_tools(given: Iterable[ToolSource]) -> Iterable[AnyTool]:
    registry: ToolRegistry | None = None
    for item in given:
        if isinstance(item, str):
            registry = registry or ToolRegistry().discover()
            yield from registry.load(item)
        elif isinstance(item, Iterable) and not isinstance(item, Tool | Mapping):
            yield from map(as_tool, item)
        else:
            yield as_tool(item)
