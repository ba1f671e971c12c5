"""The agent: a model, tools and instructions, ready to be given tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeAlias

from agentkit._sync import run_sync
from agentkit.context import Run
from agentkit.errors import ProviderError
from agentkit.events import Event, OutputT_co, RunFinished, RunResult
from agentkit.examples import Examples, example_messages
from agentkit.limits import Limits, ModelSettings
from agentkit.loop import run_loop
from agentkit.messages import Message
from agentkit.output import OutputType, Validator
from agentkit.providers import default_model, resolve_model
from agentkit.providers.base import Provider, tools_by_name
from agentkit.registry import ToolRegistry
from agentkit.tool import AnyTool, Tool, as_tool, check_choice

if TYPE_CHECKING:
    from typing_extensions import TypeForm

__all__ = ["Agent", "ToolSource"]

ToolSource: TypeAlias = str | AnyTool | Callable[..., object] | Mapping[str, object] | Iterable[AnyTool]
"""What an agent takes as a tool: a plugin's name, a Tool, a typed function, an OpenAI-style dict, or a toolset."""


class Agent(Generic[OutputT_co]):
    """A model with tools. It keeps no conversation: pass ``history`` to go on with one.

    Args:
        model: ``"openai:gpt-5"``, ``"llama_cpp:smollm2"``, ``"llama_cpp:/path/model.gguf"``, or a `Provider`;
            by default the environment's ``AGENTKIT_MODEL``, else the bundled SmolLM2.
        tools: functions, `Tool` objects, names of installed plugin tools, toolsets.
        instructions: the system message.
        output: the type of the answer: a pydantic model, a dataclass, or any other that pydantic knows; `str` for text.
        validators: functions that are shown the answer and may refuse it: see `Validator`.
        limits: the bounds of each run.
        tool_choice: ``auto`` lets the model decide, ``none`` forbids calls; ``required`` or a tool's name asks for a
            call, and holds until the first tool has answered.
        settings: temperature and kin.
        examples: conversations that show how it is done, each from a request to its answer, with real calls and
            results. The model sees them before every task; results do not hold them.

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
    ) -> None:
        self.tools = tools_by_name(_resolve_tools(tools))
        check_choice(tool_choice, self.tools)
        self.provider = model if isinstance(model, Provider) else resolve_model(model or default_model())
        self.instructions = instructions
        self.output = OutputType(output, validators)
        self.limits = limits or Limits()
        self.tool_choice = tool_choice
        self.settings = settings or ModelSettings()
        self.examples = example_messages(examples, self.tools)

    async def run(
        self,
        prompt: str | Message,
        *,
        deps: object = None,
        history: Sequence[Message] = (),
        tool_choice: str | None = None,
        limits: Limits | None = None,
    ) -> RunResult[OutputT_co]:
        """Do one task to its end.

        Args:
            prompt: the task.
            deps: handed to tools as ``RunContext.deps``; the model never sees it.
            history: an earlier result's ``messages``.
            tool_choice: instead of the agent's.
            limits: instead of the agent's.

        Raises:
            ProviderError: the model could not answer.
            OutputError: the run ended without an answer of the agent's output type. Where the output is text, what
                there is of it is returned instead, with its ``stop_reason``.

        Either error's ``messages`` hold the transcript so far.
        """
        events = self.stream(prompt, deps=deps, history=history, tool_choice=tool_choice, limits=limits)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, RunFinished):
                    return event.result
        raise ProviderError("the run ended without a result")  # the loop's last event is always RunFinished

    def run_sync(
        self,
        prompt: str | Message,
        *,
        deps: object = None,
        history: Sequence[Message] = (),
        tool_choice: str | None = None,
        limits: Limits | None = None,
    ) -> RunResult[OutputT_co]:
        """`run`, for code that is not async. Ctrl-C cancels the run and raises KeyboardInterrupt."""
        return run_sync(self.run(prompt, deps=deps, history=history, tool_choice=tool_choice, limits=limits))

    async def stream(
        self,
        prompt: str | Message,
        *,
        deps: object = None,
        history: Sequence[Message] = (),
        tool_choice: str | None = None,
        limits: Limits | None = None,
    ) -> AsyncGenerator[Event[OutputT_co], None]:
        """`run`, event by event; the last one is `RunFinished`. Closing the generator ends the run."""
        choice = self.tool_choice if tool_choice is None else tool_choice
        check_choice(choice, self.tools)
        task = prompt if isinstance(prompt, Message) else Message("user", prompt)
        run = Run(
            self.provider,
            self.tools,
            [*history, task],
            instructions=self.instructions,
            examples=self.examples,
            tool_choice=choice,
            limits=limits or self.limits,
            settings=self.settings,
            deps=deps,
            output=self.output,
        )
        async with aclosing(run_loop(run)) as events:
            async for event in events:
                yield event


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
