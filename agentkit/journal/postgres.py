"""A journal in a PostgreSQL database, for several machines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from agentkit.errors import JournalCorruptError, JournalError, JournalUnavailableError, MissingExtraError
from agentkit.journal._schema import SCHEMA, VERSION, Value, check_version
from agentkit.journal._sql import SQLJournal
from agentkit.journal._tables import Tables

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresJournal"]

CONNECTION: Final[dict[str, Any]] = {  # bounds on a server that is silent, in seconds and (the last) milliseconds
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "agentkit",
}
SESSION: Final = {
    "synchronous_commit": "on",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",  # less: what a dead connection left locked is waited for
}


class PostgresJournal(SQLJournal):
    """Runs on record in a database that several machines share. PostgreSQL 13 or newer.

    Args:
        conninfo: as libpq reads it: ``postgresql://user@host/database``, or ``host=… dbname=…``. What it leaves out is
            taken from the environment (``PGHOST``, ``PGPASSWORD``, …).
        schema: the schema that holds the tables. It is made if it is not there.
        patience: seconds to wait for a server that cannot be reached: it may be about to come back; 10. Then:
            `JournalUnavailableError`.
        lease_ttl: seconds after which a process that gives no sign of life is taken for dead, by the server's clock;
            30. One that died on this machine is found out at once.

    Raises:
        MissingExtraError: psycopg is not installed.
        ValueError: ``lease_ttl`` is not above 0.
    """

    def __init__(
        self, conninfo: str, *, schema: str = "agentkit", patience: float = 10.0, lease_ttl: float = 30.0
    ) -> None:
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("PostgresJournal", "postgres") from error
        super().__init__(lease_ttl)
        self._conninfo = conninfo
        self._schema = schema
        self._patience = patience

    def _tables(self) -> Tables:
        return _PostgresTables(self._conninfo, self._schema, self._patience, self._lease_ttl, self._where)

    @property
    def _where(self) -> str:
        return f"schema {self._schema!r} of {_database(self._conninfo)}"


class _PostgresTables(Tables):
    def __init__(self, conninfo: str, schema: str, patience: float, lease_ttl: float, where: str) -> None:
        super().__init__(lease_ttl=lease_ttl)
        self._conninfo = conninfo
        self._schema = schema
        self._patience = patience
        self._where = where
        self._connection: psycopg.Connection | None = None

    def begin(self, *, writes: bool) -> None:
        import psycopg

        if self._connection is not None:
            with suppress(psycopg.OperationalError):
                self._rows("BEGIN")
                return
            self._disconnect()  # it was lost while nobody used it
        self._connect()
        self._rows("BEGIN")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, sql: str, values: Sequence[Value]) -> psycopg.Cursor:
        assert self._connection is not None
        return self._connection.execute(sql.replace("?", "%s"), values)

    def _now(self) -> float:
        [(now,)] = self._rows("SELECT extract(epoch FROM clock_timestamp())::float8")
        return cast(float, now)

    def _lock(self, name: str) -> None:
        self._rows("SELECT pg_advisory_xact_lock(hashtext(?), hashtext(?))", self._schema, name)

    def _connect(self) -> None:
        import psycopg

        deadline = time.monotonic() + self._patience
        pause = 0.1
        while self._connection is None:
            try:
                self._connection = psycopg.connect(self._conninfo, **CONNECTION, autocommit=True)
            except psycopg.OperationalError:  # a server that is being restarted refuses for a while
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
        schema = self._schema.replace('"', '""')
        for name, value in {**SESSION, "search_path": f'"{schema}"'}.items():
            self._rows("SELECT set_config(?, ?, false)", name, value)
        if not self._is_journal():
            self._create_tables()

    def _is_journal(self) -> bool:
        """Whether the schema holds a journal."""
        name = "schema_version"
        if not self._rows("SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = ?", self._schema, name):
            return False
        [(version,)] = self._rows("SELECT number FROM schema_version")
        check_version(version, self._where)
        return True

    def _create_tables(self) -> None:
        import psycopg.sql

        schema = psycopg.sql.Identifier(self._schema)
        self._rows("BEGIN")
        self._rows("SELECT pg_advisory_xact_lock(hashtext('agentkit journal'))")
        if not self._is_journal():  # another process may have been faster
            assert self._connection is not None
            self._connection.execute(psycopg.sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            for statement in SCHEMA:
                self._rows(statement)
            self._rows("CREATE TABLE schema_version AS SELECT ?::bigint AS number", VERSION)
        self._rows("COMMIT")

    def translate(self, error: Exception) -> Exception:
        import psycopg

        if isinstance(error, JournalError):
            return type(error)(*error.args)
        if not isinstance(error, psycopg.Error):
            return error
        if isinstance(error, psycopg.errors.DataCorrupted | psycopg.errors.IndexCorrupted):
            return JournalCorruptError(f"The journal in {self._where} is damaged ({error}): restore it from a backup")
        return JournalUnavailableError(
            f"The journal in {self._where} cannot be used. What was on record still is. See whether the server runs, "
            f"and what this user may do there. It was: {str(error).strip() or type(error).__name__}"
        )


def _database(conninfo: str) -> str:
    """The database in words, without the password."""
    import psycopg

    try:
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        return "a PostgreSQL database"
    return f"database {parts.get('dbname', '')!r} on {parts.get('host', 'the default host')}"
