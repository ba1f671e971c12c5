"""A journal in a file, with SQLite."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agentkit.errors import JournalCorruptError, JournalError, JournalUnavailableError
from agentkit.journal._schema import SCHEMA, VERSION, Value, check_version
from agentkit.journal._sql import SQLJournal
from agentkit.journal._tables import Tables

__all__ = ["SQLiteJournal"]

_APPLICATION: Final = 0x61676B74  # "agkt": says in a file that it is a journal
_PAUSE: Final = 0.01  # seconds between two tries of what SQLite itself does not wait for


class SQLiteJournal(SQLJournal):
    """Runs on record in one file, for any number of processes on one machine.

    Args:
        path: the file. It is made when it is first used, with its folder, and can be read by its owner only.
        busy_timeout: seconds to wait for another process that writes; 5. Then: `JournalUnavailableError`.
        lease_ttl: seconds after which a process that gives no sign of life is taken for dead; 30. One that died on this
            machine is found out at once.

    Raises:
        ValueError: ``lease_ttl`` is not above 0.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0, lease_ttl: float = 30.0) -> None:
        super().__init__(lease_ttl)
        self._path = Path(path).absolute()
        self._busy_timeout = busy_timeout

    def _tables(self) -> Tables:
        return _SQLiteTables(self._path, self._busy_timeout, self._lease_ttl)

    @property
    def _where(self) -> str:
        return str(self._path)


class _SQLiteTables(Tables):
    def __init__(self, path: Path, busy_timeout: float, lease_ttl: float) -> None:
        super().__init__(lease_ttl=lease_ttl)
        self._path = path
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None

    def begin(self, *, writes: bool) -> None:
        if self._connection is None:
            self._connect()
        self._rows("BEGIN IMMEDIATE" if writes else "BEGIN")

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _execute(self, sql: str, values: Sequence[Value]) -> sqlite3.Cursor:
        assert self._connection is not None
        return self._connection.execute(sql, values)

    def _now(self) -> float:
        return time.time()

    def _connect(self) -> None:
        self._create_file()
        self._connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        is_journal = self._is_journal()
        self._use_write_ahead_log()
        if not is_journal:
            self._create_tables()
        self._rows("PRAGMA synchronous = FULL")
        self._rows("PRAGMA foreign_keys = ON")

    def _create_file(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Only a file that is new may be opened beside SQLite: closing one gives up the process's locks on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _is_journal(self) -> bool:
        """Whether the file is a journal; an empty one is not yet."""
        (application,), (version,) = *self._rows("PRAGMA application_id"), *self._rows("PRAGMA user_version")
        if application != _APPLICATION:
            if application or version or self._rows("SELECT name FROM sqlite_master LIMIT 1"):
                raise JournalCorruptError(
                    f"{self._path} is a database, but no journal of agentkit: name another file, which may be new"
                )
            return False
        check_version(version, str(self._path))
        return True

    def _create_tables(self) -> None:
        self._rows("BEGIN IMMEDIATE")
        if not self._is_journal():  # another process may have been faster
            for statement in SCHEMA:
                self._rows(statement)
            self._rows(f"PRAGMA application_id = {_APPLICATION}")
            self._rows(f"PRAGMA user_version = {VERSION}")
        self._rows("COMMIT")

    def _use_write_ahead_log(self) -> None:
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                [(mode,)] = self._rows("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:  # two that do this at once do not wait for each other
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
        if mode != "wal":
            raise JournalUnavailableError(
                f"{self._path} cannot have a write-ahead log: network file systems cannot share its memory. Put the "
                "journal on a local disk, or into PostgreSQL"
            )

    def translate(self, error: Exception) -> Exception:
        if isinstance(error, JournalError):
            return type(error)(*error.args)
        if isinstance(error, OSError):
            return self._unavailable(f"{error.strerror or error}: check the path and its permissions")
        if isinstance(error, UnicodeDecodeError | TypeError):  # values such as no whole database has
            return self._corrupt(error)
        if not isinstance(error, sqlite3.Error):
            return error
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest of the bits is detail
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode to UTF-8" in str(error):
            return self._corrupt(error)
        return self._unavailable(f"{error}: {_WAYS_OUT.get(code, 'see docs/journal.md')}")

    def _corrupt(self, error: Exception) -> JournalCorruptError:
        return JournalCorruptError(
            f"{self._path} is damaged, or is no journal ({error}): end what uses it and put a backup in its place, "
            "or move it away, with the files beside it, to begin a new one"
        )

    def _unavailable(self, why: str) -> JournalUnavailableError:
        return JournalUnavailableError(f"The journal {self._path} cannot be used: {why}. What was on record still is")


_WAYS_OUT: Final = {
    sqlite3.SQLITE_BUSY: "another process has been writing for longer than the busy timeout; end it, or wait longer "
    "(busy_timeout)",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_IOERR: "the disk failed, or has no room; see the system's log",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "check the path, and that the file and its folder are writable for this user",
}
