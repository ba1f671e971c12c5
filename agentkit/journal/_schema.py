"""A journal's two tables, in SQL that SQLite and PostgreSQL both read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias
from zlib import crc32

from agentkit.errors import JournalUnavailableError

__all__ = ["SCHEMA", "VERSION", "Cursor", "Heading", "Line", "SavedLine", "Value", "check_version", "checksum"]

Value: TypeAlias = str | int | float | None

VERSION: Final = 1

SCHEMA: Final = (
    """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        agent TEXT NOT NULL,
        model TEXT NOT NULL,
        session TEXT NOT NULL,
        parent TEXT NOT NULL,
        prompt TEXT NOT NULL,
        started DOUBLE PRECISION NOT NULL,
        updated DOUBLE PRECISION NOT NULL,
        records BIGINT NOT NULL,
        stop_reason TEXT,
        fence BIGINT NOT NULL,
        owner TEXT NOT NULL,
        lease_until DOUBLE PRECISION NOT NULL
    )
    """,
    """
    CREATE TABLE records (
        run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
        seq BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        kind TEXT NOT NULL,
        fence BIGINT NOT NULL,
        body TEXT NOT NULL,
        checksum BIGINT NOT NULL,
        PRIMARY KEY (run_id, seq)
    )
    """,
    "CREATE INDEX runs_by_start ON runs (started)",
    "CREATE INDEX runs_by_session ON runs (session, started)",
    "CREATE INDEX runs_by_parent ON runs (parent) WHERE parent <> ''",
)


class Cursor(Protocol):
    """What is used of a DB-API cursor (PEP 249)."""

    @property
    def description(self) -> object: ...

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> Sequence[tuple[Any, ...]]: ...


class Heading(NamedTuple):
    """What a list of runs says of one, as far as its first record tells."""

    agent: str
    model: str
    session: str
    parent: str
    prompt: str


class Line(NamedTuple):
    """A record as it is written: when it was made, in seconds since 1970, and its JSON."""

    at: float
    kind: str
    body: str


class SavedLine(NamedTuple):
    """A record as it is read, and how many the run must have. Where there are none, all but that is None."""

    records: int
    seq: int | None
    at: float | None
    body: str | None
    checksum: int | None

    def is_whole(self, run_id: str, seq: int) -> bool:
        """Whether it is just as it was written at this place."""
        return self.at is not None and self.checksum == checksum(run_id, seq, self.at, self.body or "")


def check_version(version: int, where: str) -> None:
    """Refuse tables that this agentkit does not know.

    Raises:
        JournalUnavailableError: they are of a later version.
    """
    if version > VERSION:
        raise JournalUnavailableError(
            f"The journal in {where} was written by a newer agentkit (schema {version}; this one reads up to "
            f"{VERSION}): upgrade agentkit"
        )


def checksum(run_id: str, seq: int, at: float, body: str) -> int:
    """What tells a record that was damaged from one that is as it was written: a CRC-32."""
    return crc32(f"{run_id} {seq} {at!r} {body}".encode())
