"""The agent that journal.py measures, with each store that its runs can be put on record in.

The same work everywhere: a model without latency that calls one tool in each step, and a tool whose result has 1,000
characters. Each has packages of its own, so all imports are where they are needed.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, TypedDict

RESULT = ("Sunny, with a light wind from the west, and clouds that come up in the evening.\n" * 13)[:1000]
ANSWER = "The weather stays as it is."


class Model:
    """How many turns the model has, and whether it fails instead of the last."""

    steps = 0
    fails = False


class Store(ABC):
    """Where one framework puts its runs on record."""

    @abstractmethod
    async def open(self, place: Path) -> dict[str, Any]:
        """Make it, or open it again; says how durable it is."""

    @abstractmethod
    async def run(self, name: str) -> str:
        """Do one run; its answer."""

    @abstractmethod
    async def resume(self, name: str) -> str:
        """Go on with a run that failed."""

    @abstractmethod
    async def close(self) -> None: ...

    def size(self, place: Path) -> dict[str, int]:
        """Bytes that were written so far and that are kept. Only while it is closed: then SQLite has no log."""
        files = place.parent.glob(f"{place.name}*")
        return {"written": written(), "kept": sum(file.stat().st_size for file in files)}


def written() -> int:
    """Bytes that this process has handed to the system so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


# ── agentkit ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class AgentKit(Store):
    """agentkit with a journal."""

    def __init__(self, journal: Callable[[Path], Any]) -> None:
        self._new_journal = journal

    async def open(self, place: Path) -> dict[str, Any]:
        from agentkit import Agent, Limits, ToolCall, Usage, tool
        from agentkit.errors import ProviderConnectionError
        from agentkit.events import ModelEvent, ModelFinished, TextDelta, ToolCallEnd
        from agentkit.providers.base import ModelRequest, Provider

        class Scripted(Provider):
            name = "scripted"

            async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
                turn = len(request.messages) // 2
                if turn < Model.steps:
                    yield ToolCallEnd(ToolCall("forecast", {"city": "Zürich", "days": turn}, f"call_{turn}"))
                elif Model.fails:
                    raise ProviderConnectionError("gone")
                else:
                    yield TextDelta(ANSWER)
                yield ModelFinished("stop", Usage(100, 20))

        @tool(effect="read")
        async def forecast(city: str, days: int) -> str:
            """The weather of a city."""
            return RESULT

        self._journal = self._new_journal(place)
        self._agent = Agent(Scripted(), tools=[forecast], journal=self._journal, limits=Limits(steps=1000))
        return await self._durability()

    async def _durability(self) -> dict[str, Any]:
        return {}

    async def run(self, name: str) -> str:
        return (await self._agent.run("What is the weather?", run_id=name)).output

    async def resume(self, name: str) -> str:
        return (await self._agent.resume(name)).output

    async def close(self) -> None:
        await self._journal.close()


class AgentKitMemory(AgentKit):
    """Without a journal: the default."""

    def __init__(self) -> None:
        from agentkit.journal.memory import MemoryJournal

        journal = MemoryJournal(keep_ended=False)
        super().__init__(lambda place: journal)


class AgentKitSQLite(AgentKit):
    """With a journal in SQLite."""

    def __init__(self) -> None:
        from agentkit.journal.sqlite import SQLiteJournal

        super().__init__(SQLiteJournal)

    async def _durability(self) -> dict[str, Any]:
        return {
            name: await asyncio.wrap_future(
                self._journal._submit(lambda tables, name=name: tables._rows(f"PRAGMA {name}")[0][0], writes=False)
            )
            for name in ("journal_mode", "synchronous")
        }


class AgentKitPostgres(AgentKit):
    """With a journal in PostgreSQL: what the server writes is asked of the server."""

    def __init__(self, conninfo: str) -> None:
        from agentkit.journal.postgres import PostgresJournal

        super().__init__(lambda place: PostgresJournal(conninfo, schema=place.name))
        self._conninfo = conninfo

    async def _durability(self) -> dict[str, Any]:
        await self._journal.runs()  # it connects
        names = ("fsync", "synchronous_commit")
        return self._asked(", ".join(f"current_setting('{name}') AS {name}" for name in names))

    def size(self, place: Path) -> dict[str, int]:
        while self._asked("count(*) FROM pg_stat_activity WHERE application_name = 'agentkit'")["count"]:
            time.sleep(0.01)  # a process of the server tells what it has done when it ends
        return self._asked(
            "wal_bytes::bigint AS written, wal_sync AS syncs, pg_database_size(current_database()) AS kept "
            "FROM pg_stat_wal"
        )

    def _asked(self, what: str) -> dict[str, Any]:
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(self._conninfo, autocommit=True, row_factory=dict_row) as connection:
            return dict(connection.execute(f"SELECT {what}").fetchone() or {})


# ── LangGraph ────────────────────────────────────────────────────────────────────────────────────────────────────────


class LangGraph(Store):
    """LangGraph: a node for the model and one for the tools; with its SQLite checkpointer, or without any. With its
    DeltaChannel (a beta) a checkpoint does not hold all messages again."""

    def __init__(self, *, is_durable: bool = True, has_deltas: bool = False) -> None:
        self._is_durable = is_durable
        self._has_deltas = has_deltas

    async def open(self, place: Path) -> dict[str, Any]:
        import aiosqlite
        from langchain_core.messages import AIMessage, AnyMessage
        from langchain_core.tools import tool
        from langgraph.channels.delta import DeltaChannel
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
        from langgraph.graph import StateGraph, add_messages
        from langgraph.prebuilt import ToolNode, tools_condition

        def add_all(messages: Any, additions: Sequence[Any]) -> Any:
            return reduce(add_messages, additions, messages)

        how = DeltaChannel(add_all) if self._has_deltas else add_messages
        State = TypedDict("State", {"messages": Annotated[list[AnyMessage], how]})  # noqa: UP013 - a class cannot see `how`

        async def model(state: Any) -> dict[str, Any]:
            turn = len(state["messages"]) // 2
            if turn < Model.steps:
                call = {"name": "forecast", "args": {"city": "Zürich", "days": turn}, "id": f"call_{turn}"}
                return {"messages": [AIMessage("", tool_calls=[call])]}
            if Model.fails:
                raise ConnectionError("gone")
            return {"messages": [AIMessage(ANSWER)]}

        @tool
        async def forecast(city: str, days: int) -> str:
            """The weather of a city."""
            return RESULT

        graph = StateGraph(State)
        graph.add_node("model", model)
        graph.add_node("tools", ToolNode([forecast]))
        graph.set_entry_point("model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        self._connection = None
        if not self._is_durable:
            self._graph = graph.compile()
            return {}
        self._connection = await aiosqlite.connect(place)
        saver = AsyncSqliteSaver(self._connection)
        await saver.setup()
        self._graph = graph.compile(checkpointer=saver)
        await self._connection.execute("PRAGMA synchronous = FULL")
        names = ("journal_mode", "synchronous")
        rows = [await (await self._connection.execute(f"PRAGMA {name}")).fetchone() for name in names]
        return {name: row[0] for name, row in zip(names, rows, strict=True) if row}

    async def run(self, name: str) -> str:
        return await self._answer({"messages": [{"role": "user", "content": "What is the weather?"}]}, name)

    async def resume(self, name: str) -> str:
        return await self._answer(None, name)

    async def _answer(self, task: dict[str, Any] | None, name: str) -> str:
        config = {"configurable": {"thread_id": name}, "recursion_limit": 10_000}
        durability = {"durability": "sync"} if self._is_durable else {}
        state = await self._graph.ainvoke(task, config, **durability)
        return str(state["messages"][-1].content)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


STORES: dict[str, Callable[..., Store]] = {
    "memory": AgentKitMemory,
    "sqlite": AgentKitSQLite,
    "postgres": AgentKitPostgres,
    "langgraph": lambda: LangGraph(is_durable=False),
    "langgraph-sqlite": LangGraph,
    "langgraph-delta": lambda: LangGraph(has_deltas=True),
}
