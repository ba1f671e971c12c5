"""Debian's PostgreSQL server, started for a test run: in a temporary folder, on a Unix socket, as nobody."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@dataclass
class Postgres:
    """A server that can be stopped and started."""

    folder: Path

    @property
    def conninfo(self) -> str:
        """How libpq finds it."""
        return f"host={self.folder} user=agentkit dbname=postgres"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        self._pg_ctl("start", "--options", options, "--log", str(self.folder / "log"))

    def stop(self, how: str = "immediate") -> None:
        """Stop it: ``fast``, or ``immediate`` as in a crash."""
        self._pg_ctl("stop", "--mode", how)

    def initialise(self) -> None:
        """Make the database."""
        self._run("initdb", "--pgdata", str(self.data), "--username", "agentkit", "--auth", "trust", "--no-sync")

    @property
    def data(self) -> Path:
        """Where the database is."""
        return self.folder / "data"

    def _pg_ctl(self, command: str, *options: str) -> None:
        self._run("pg_ctl", command, "--pgdata", str(self.data), "--wait", *options)

    def _run(self, program: str, *arguments: str) -> None:
        assert BINARIES is not None
        with (self.folder / "output").open("a+") as output:  # no pipe: the server would keep it open
            done = subprocess.run(
                [BINARIES / program, *arguments], stdout=output, stderr=output, cwd=self.folder, **_as_nobody()
            )
            output.seek(0)
            assert done.returncode == 0, output.read()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not pytest's: a socket's path has at most 107 bytes
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    server = Postgres(folder)
    try:
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _as_nobody() -> dict[str, str]:
    """The server refuses to run as root."""
    return {"user": "nobody"} if os.geteuid() == 0 else {}
