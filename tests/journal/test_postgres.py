"""The journal on a PostgreSQL server, which may go away at any time."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

import psycopg
import pytest

from agentkit.errors import JournalUnavailableError, RunNotFoundError
from agentkit.journal.postgres import PostgresJournal
from tests.journal.place import answer, started
from tests.postgres import Postgres

Cut = Literal["before", "after"]


@dataclass
class Line:
    """A connection between a journal and its server that breaks when a transaction is committed."""

    conninfo: str
    cut: Cut | None = None
    """Break the next time that COMMIT comes: before the server sees it, or after it has answered."""

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Carry what is sent both ways until one end closes, or the line breaks."""
        back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
        back.start()
        with client, server, suppress(OSError):
            while data := client.recv(65536):
                if self.cut is not None and b"COMMIT" in data:
                    cut, self.cut = self.cut, None
                    client.shutdown(socket.SHUT_WR)  # from here on it hears nothing
                    if cut == "after":
                        server.sendall(data)
                    server.shutdown(socket.SHUT_WR)
                    back.join()  # the server has done all that it was told, and closed
                    return
                server.sendall(data)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        is_heard = True
        with suppress(OSError):
            while data := source.recv(65536):
                if is_heard:
                    try:
                        target.sendall(data)
                    except OSError:
                        is_heard = False


@pytest.fixture
def line(server: Postgres) -> Iterator[Line]:
    """A line to a server, whose schema is empty."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/.s.PGSQL.5432")
        listener.listen()
        line = Line(server.conninfo.replace(str(server.folder), folder))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    behind = socket.socket(socket.AF_UNIX)
                    behind.connect(f"{server.folder}/.s.PGSQL.5432")
                    threading.Thread(target=line.carry, args=(client, behind), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield line
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def schema() -> str:
    return f"s{uuid4().hex}"


@pytest.mark.parametrize("cut", ["before", "after"])
def test_what_was_being_committed_when_the_connection_was_lost_happens_once(line: Line, schema: str, cut: Cut) -> None:
    async def check() -> None:
        journal = PostgresJournal(line.conninfo, schema=schema)
        assert await journal.runs() == []
        line.cut = cut
        lease = await journal.begin("r", started())
        line.cut = cut
        await journal.append(lease, answer("one"), answer("two"))
        line.cut = cut
        other = await journal.begin("s", started())
        both = journal.append(lease, answer("three")), journal.append(other, answer("beside"))
        line.cut = cut
        await asyncio.gather(*both)
        journal.release(lease)
        await journal.runs()
        line.cut = cut
        lease = await journal.acquire("r")
        assert line.cut is None
        assert (lease.fence, lease.seq) == (2, 4)
        await journal.append(lease, answer("four"))
        assert [entry.seq for entry in await journal.entries("r")] == [1, 2, 3, 4, 5]
        assert [entry.seq for entry in await journal.entries("s")] == [1, 2]
        journal.release(lease)
        line.cut = cut
        with suppress(RunNotFoundError):  # it may be gone already
            await journal.delete("r")
        assert [run.run_id for run in await journal.runs()] == ["s"]
        await journal.close()

    asyncio.run(check())


def test_a_server_that_crashes_and_comes_back_is_found_again(server: Postgres, schema: str) -> None:
    async def check() -> None:
        journal = PostgresJournal(server.conninfo, schema=schema)
        lease = await journal.begin("r", started())
        await journal.append(lease, answer("before"))
        server.stop()
        await asyncio.gather(asyncio.to_thread(server.start), journal.append(lease, answer("meanwhile")))
        assert len(await journal.entries("r")) == 3

    asyncio.run(check())


def test_a_server_that_does_not_come_back_is_named_and_nothing_is_lost(server: Postgres, schema: str) -> None:
    async def check() -> None:
        journal = PostgresJournal(server.conninfo, schema=schema, patience=0.2)
        lease = await journal.begin("r", started())
        await journal.append(lease, answer("before"))
        before = await journal.entries("r")
        server.stop()
        try:
            with pytest.raises(JournalUnavailableError, match=schema) as caught:
                await journal.append(lease, answer("lost"))
            assert str(server.folder) in str(caught.value)
        finally:
            server.start()
        await journal.append(lease, answer("after"))
        assert (await journal.entries("r"))[:-1] == before

    asyncio.run(check())


def test_a_connection_that_was_lost_while_idle_is_not_noticed(server: Postgres, schema: str) -> None:
    async def check() -> None:
        journal = PostgresJournal(server.conninfo, schema=schema)
        lease = await journal.begin("r", started())
        with psycopg.connect(server.conninfo) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'agentkit'"
            )
        await journal.append(lease, answer("still"))
        assert lease.seq == 2

    asyncio.run(check())


def test_a_user_who_may_not_is_told(server: Postgres, schema: str) -> None:
    with psycopg.connect(server.conninfo) as connection:
        connection.execute(f"CREATE ROLE {schema} LOGIN")
    journal = PostgresJournal(server.conninfo.replace("user=agentkit", f"user={schema} password=secret"), schema=schema)
    with pytest.raises(JournalUnavailableError, match="permission denied") as caught:
        asyncio.run(journal.begin("r", started()))
    assert schema in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_schema_of_a_newer_version_is_left_alone(server: Postgres, schema: str) -> None:
    asyncio.run(PostgresJournal(server.conninfo, schema=schema).begin("r", started()))
    with psycopg.connect(server.conninfo) as connection:
        connection.execute(f"UPDATE {schema}.schema_version SET number = 99")
    with pytest.raises(JournalUnavailableError, match="schema 99"):
        asyncio.run(PostgresJournal(server.conninfo, schema=schema).runs())


def test_many_journals_can_begin_an_empty_schema_at_once(server: Postgres, schema: str) -> None:
    async def check() -> None:
        journals = [PostgresJournal(server.conninfo, schema=schema) for _ in range(8)]
        await asyncio.gather(*(journal.begin(f"r{number}", started()) for number, journal in enumerate(journals)))
        assert len(await journals[0].runs()) == 8

    asyncio.run(check())


@pytest.mark.parametrize("conninfo", ["no conninfo", "host=/nowhere dbname=x password=secret"])
def test_what_leads_nowhere_is_named(conninfo: str) -> None:
    with pytest.raises(JournalUnavailableError, match="'agentkit'") as caught:
        asyncio.run(PostgresJournal(conninfo, patience=0.2).runs())
    assert "secret" not in str(caught.value)


def test_without_psycopg_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from agentkit.journal.postgres import PostgresJournal; PostgresJournal('')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MissingExtraError: PostgresJournal needs the extra 'postgres'" in done.stderr
