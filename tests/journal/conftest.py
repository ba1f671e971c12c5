"""Where the tests' journals are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agentkit.journal.base import Journal
from agentkit.journal.memory import MemoryJournal
from tests.journal.place import Place
from tests.postgres import BINARIES, Postgres, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server of the tests' own."""
    if BINARIES is None:
        pytest.skip("needs Debian's PostgreSQL: apt-get install --no-install-recommends postgresql")
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place that several processes can share."""
    return _place(request.param, request, tmp_path)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """An empty journal."""
    return MemoryJournal() if request.param == "memory" else _place(request.param, request, tmp_path).open()


def _place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if kind == "sqlite":
        return Place("SQLiteJournal", {"path": str(tmp_path / "runs.db")})
    server: Postgres = request.getfixturevalue("server")
    return Place("PostgresJournal", {"conninfo": server.conninfo, "schema": f"Test {uuid4().hex}"})
