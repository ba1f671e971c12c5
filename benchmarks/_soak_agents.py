"""What soak.py's agents do: a model without a server, tools of every kind, and plans that a run's task names."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentkit import Agent, Limits, RunContext, ToolCall, Usage, tool
from agentkit.errors import CallNotDone, ProviderConnectionError, ToolError
from agentkit.events import ModelEvent, ModelFinished, TextDelta, ToolCallDelta, ToolCallEnd, ToolCallStart
from agentkit.journal.base import Journal
from agentkit.limits import StopReason
from agentkit.messages import ToolErrorKind
from agentkit.policy import Policy, Rule
from agentkit.providers.base import ModelRequest, Provider

STEPS: Final = 8
ANSWER: Final = "That is all there was to do."


class World:
    """What the tools have done to it: how often, by the call's idempotency key."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.broken: set[str] = set()
        """The tasks whose model has failed already."""

    async def act(self, key: str) -> str:
        """Do something that must not be done twice. It may be interrupted before and after."""
        await asyncio.sleep(0.001)
        self.done[key] += 1
        await asyncio.sleep(0.001)
        return "done"


WORLD: Final = World()


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@tool(effect="read")
async def look(at: int) -> str:
    """Look at a place."""
    await asyncio.sleep(0.001)
    return f"There is {at}."


@tool(effect="read", untrusted=True)
def read(page: int) -> str:
    """Read a page, in a thread. From then on whatever writes is asked for."""
    time.sleep(0.001)
    return f"Page {page}. " * 20


@tool(effect="write")
async def write(context: RunContext[None], line: str) -> str:
    """Write a line: if it is interrupted, somebody must decide."""
    return await WORLD.act(context.idempotency_key)


def find_payment(context: RunContext[None], amount: int) -> str:
    """What came of a payment."""
    if context.idempotency_key not in WORLD.done:
        raise CallNotDone
    return "done"


@tool(effect="write", reconcile=find_payment)
async def pay(context: RunContext[None], amount: int) -> str:
    """Pay: if it is interrupted, the bank knows."""
    return await WORLD.act(context.idempotency_key)


@tool(effect="egress")
async def send(context: RunContext[None], to: str) -> str:
    """Send a letter: never to Eve, and to others if somebody allows it."""
    return await WORLD.act(context.idempotency_key)


@tool(effect="read")
async def fail() -> str:
    """Fail."""
    raise ToolError("there is no such thing")


@tool(effect="read", timeout=0.05)
async def hang() -> str:
    """Wait for what never comes."""
    return await asyncio.get_running_loop().create_future()


@tool(effect="read", timeout=0.05)
def hang_in_thread() -> str:
    """Take longer than there is time."""
    time.sleep(0.2)
    return "late"


TOOLS: Final = (look, read, write, pay, send, fail, hang, hang_in_thread)
ACTIONS: Final = frozenset({"write", "pay", "send"})
OUTCOMES: Final[Mapping[str, set[ToolErrorKind | None]]] = {
    "look": {None, "invalid_arguments"},
    "read": {None},
    "write": {None, "denied"},
    "pay": {None},
    "send": {None, "denied"},
    "fail": {"exception"},
    "hang": {"timeout"},
    "hang_in_thread": {None, "timeout"},  # where all is slow, its time is up when it is done
    "no_such_tool": {"unknown_tool"},
    "colleague": {None},
}
"""How a call may end."""
POLICY: Final = Policy([Rule("send", "deny", arguments={"to": "Eve"}), Rule("send", "ask")])


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Plan:
    """The calls of each turn, and how the run is to end. Behind the last turn the model answers."""

    turns: Sequence[Sequence[ToolCall]]
    stop_reason: StopReason = "answer"
    breaks: bool = False
    """The model cannot be reached, once."""

    @property
    def steps(self) -> int:
        """How many turns of the model are on record when the run has ended."""
        return min(len(self.turns) + 1, STEPS)


def looks(count: int) -> list[list[ToolCall]]:
    return [[ToolCall("look", {"at": place}), ToolCall("read", {"page": place})] for place in range(count)]


PLANS: Final[Mapping[str, Plan]] = {
    "plain": Plan([*looks(2), [ToolCall("write", {"line": "a"}), ToolCall("look", {"at": 7})]]),
    "paying": Plan([[ToolCall("pay", {"amount": 1}), ToolCall("pay", {"amount": 2})], *looks(1)]),
    "faulty": Plan(
        [
            [ToolCall("fail", {}), ToolCall("hang", {})],
            [ToolCall("hang_in_thread", {}), ToolCall("look", {"at": 1})],
            [ToolCall("no_such_tool", {}), ToolCall("look", {"at": "nowhere"})],
        ]
    ),
    "denied": Plan([[ToolCall("send", {"to": "Eve"}), ToolCall("look", {"at": 1})]]),
    "asked": Plan([[ToolCall("send", {"to": "Ada"}), ToolCall("send", {"to": "Bob"}), *looks(1)[0]]]),
    "delegated": Plan([[ToolCall("colleague", {"task": "plain"}), ToolCall("look", {"at": 1})], *looks(1)]),
    "delegated_asked": Plan([[ToolCall("colleague", {"task": "asked"}), ToolCall("colleague", {"task": "denied"})]]),
    "broken": Plan(looks(2), breaks=True),
    "endless": Plan(looks(2 * STEPS), "steps"),
}


class PlannedProvider(Provider):
    """Does as the plan says that the conversation's task names. It keeps nothing of a run."""

    name = "planned:soak"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The next turn."""
        task = next(message.text for message in request.messages if message.role == "user")
        plan = PLANS[task.split()[0]]
        number = sum(message.role == "assistant" for message in request.messages)
        if plan.breaks and number == 1 and task not in WORLD.broken:
            WORLD.broken.add(task)
            raise ProviderConnectionError("the model cannot be reached")
        await asyncio.sleep(random.uniform(0, 0.02))
        calls = plan.turns[number] if number < len(plan.turns) else ()
        for place, call in enumerate(calls):
            call_id = f"call_{number}_{place}"
            yield ToolCallStart(call.name, call_id)
            yield ToolCallDelta(call_id, "{…}")
            yield ToolCallEnd(ToolCall(call.name, call.arguments, call_id))
        if not calls:
            for word in ANSWER.split():
                yield TextDelta(f"{word} ")
                await asyncio.sleep(0)
        yield ModelFinished("stop", Usage(10, 5))


def new_agent(journal: Journal) -> Agent[str]:
    """An agent with all the tools, and another agent as one."""
    limits = Limits(steps=STEPS)
    colleague = Agent(
        PlannedProvider(),
        tools=TOOLS,
        policy=POLICY,
        limits=limits,
        name="colleague",
        description="Does parts of a task.",
    )
    return Agent(PlannedProvider(), tools=[*TOOLS, colleague.as_tool()], policy=POLICY, limits=limits, journal=journal)
