"""The journal in a file: what it leaves on the disk, and what happens when the disk, or somebody else, is at fault."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import JournalCorruptError, JournalError, JournalUnavailableError
from agentkit.journal.base import Entry
from agentkit.journal.sqlite import SQLiteJournal
from tests.journal.place import ROOT, answer, started

PAGE = 4096
LONG = "long enough for pages of its own " * 400


def write_run(path: Path, run_id: str = "r") -> list[Entry]:
    """Put a run of five records into a file that nobody has open afterwards."""

    async def write() -> list[Entry]:
        journal = SQLiteJournal(path)
        lease = await journal.begin(run_id, started())
        for text in ("a", LONG, "b", LONG):
            await journal.append(lease, answer(text))
        entries = await journal.entries(run_id)
        await journal.close()
        return entries

    return asyncio.run(write())


def go_on(journal: SQLiteJournal, before: list[Entry]) -> None:
    """Check that a journal has all that it had, and takes more."""

    async def check() -> None:
        lease = await journal.acquire("r")
        assert await journal.entries("r") == before
        await journal.append(lease, answer("more"))
        assert len(await journal.entries("r")) == len(before) + 1
        await journal.close()

    asyncio.run(check())


def run_apart(code: str, folder: Path, *, mounts: bool = False) -> None:
    """Run Python in a process of its own; with ``mounts``, in one that may mount what only it sees."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if mounts and (shutil.which("unshare") is None or subprocess.run([*namespace, "true"], check=False).returncode):
        pytest.skip("needs user and mount namespaces (unshare)")
    command = [*(namespace if mounts else []), sys.executable, "-c", PRELUDE + code, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


PRELUDE = """
import asyncio, resource, subprocess, sys
from pathlib import Path
import pytest
from agentkit.errors import JournalUnavailableError
from agentkit.journal.sqlite import SQLiteJournal
from tests.journal.place import answer, started

folder = Path(sys.argv[1])
path = folder / "runs.db"

async def fill(journal, lease):
    while True:
        await journal.append(lease, answer("x" * 10_000))

async def check_full(fill_up, make_room, way_out):
    journal = SQLiteJournal(path)
    lease = await journal.begin("r", started())
    await journal.append(lease, answer("promised"))
    fill_up()
    with pytest.raises(JournalUnavailableError, match=str(path)) as caught:
        await fill(journal, lease)
    assert way_out in str(caught.value)
    with pytest.raises(JournalUnavailableError):
        await asyncio.wait_for(fill(journal, lease), 20)
    entries = await journal.entries("r")
    assert len(entries) == lease.seq
    make_room()
    await journal.append(lease, answer("at last"))
    assert (await journal.entries("r"))[:-1] == entries
    await journal.close()
"""


def test_its_files_are_its_owners_alone_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "runs.db"
    journal = SQLiteJournal(path)
    lease = asyncio.run(journal.begin("r", started()))
    files = list(path.parent.iterdir())
    assert {file.name for file in files} == {"runs.db", "runs.db-wal", "runs.db-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    journal.release(lease)
    asyncio.run(journal.close())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("where", ["file/runs.db", "folder"])
def test_a_path_that_cannot_be_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalUnavailableError, match=f"{tmp_path}/{where}"):
        asyncio.run(SQLiteJournal(tmp_path / where).begin("r", started()))


def test_a_full_disk(tmp_path: Path) -> None:
    run_apart(
        """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)
ballast = folder / "ballast"
ballast.write_bytes(bytes(500_000))
asyncio.run(check_full(lambda: None, ballast.unlink, "make room"))
""",
        tmp_path,
        mounts=True,
    )


def test_a_disk_that_takes_no_more_of_a_file(tmp_path: Path) -> None:
    run_apart(
        """
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
asyncio.run(check_full(lambda: limit(300_000), lambda: limit(hard), "no room"))
""",
        tmp_path,
    )


def test_a_read_only_disk(tmp_path: Path) -> None:
    before = write_run(tmp_path / "runs.db")
    run_apart(
        """
def mount(*options):
    subprocess.run(["mount", *options, folder], check=True)
async def check():
    mount("--bind", folder)
    mount("-o", "remount,bind,ro")
    journal = SQLiteJournal(path)
    for method in (journal.acquire, journal.entries):
        with pytest.raises(JournalUnavailableError, match=str(path)) as caught:
            await method("r")
        assert "writable" in str(caught.value)
    with pytest.raises(JournalUnavailableError, match="new/runs.db"):
        await SQLiteJournal(folder / "new" / "runs.db").begin("r", started())
    mount("-o", "remount,bind,rw")
    assert len(await journal.entries("r")) == 5
    await journal.append(await journal.acquire("r"), answer("more"))
    await journal.close()
asyncio.run(check())
""",
        tmp_path,
        mounts=True,
    )
    assert asyncio.run(SQLiteJournal(tmp_path / "runs.db").entries("r"))[:-1] == before


def test_somebody_who_keeps_the_file_locked(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    before = write_run(path)
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('BEGIN IMMEDIATE'); print(); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=pipe, stdout=pipe, text=True) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == "\n"
        journal = SQLiteJournal(path, busy_timeout=0.1)
        with pytest.raises(JournalUnavailableError, match="busy_timeout") as caught:
            asyncio.run(journal.acquire("r"))
        assert str(path) in str(caught.value)
        assert asyncio.run(journal.entries("r")) == before  # reading waits for nobody
        locker.kill()
    go_on(journal, before)


def test_what_came_of_a_call_is_kept_though_its_run_is_cancelled(tmp_path: Path) -> None:
    async def check() -> None:
        journal = SQLiteJournal(tmp_path / "runs.db")
        lease = await journal.begin("r", started())
        with sqlite3.connect(tmp_path / "runs.db", isolation_level=None) as locker:
            locker.execute("BEGIN IMMEDIATE")
            tasks = [asyncio.create_task(journal.append(lease, answer(text))) for text in "abc"]
            await asyncio.wait(tasks, timeout=0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            journal.release(lease)
            locker.execute("ROLLBACK")
        locker.close()
        await journal.acquire("r")
        assert len(await journal.entries("r")) == 4
        await journal.close()

    asyncio.run(check())


def test_a_lease_that_could_not_be_given_back_is_free_all_the_same(tmp_path: Path) -> None:
    async def check() -> None:
        journal = SQLiteJournal(tmp_path / "runs.db", busy_timeout=0.01)
        lease = await journal.begin("r", started())
        with sqlite3.connect(tmp_path / "runs.db", isolation_level=None) as locker:
            locker.execute("BEGIN IMMEDIATE")
            journal.release(lease)
            with pytest.raises(JournalUnavailableError):
                await journal.acquire("r")
            locker.execute("ROLLBACK")
        locker.close()
        journal.release(await journal.acquire("r"))
        await journal.close()

    asyncio.run(check())


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite_with_garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


def overwrite_pages(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:PAGE] + bytes(path.stat().st_size - PAGE))


def change(sql: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(sql)
        connection.close()

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, overwrite_with_garbage, overwrite_pages),
        change("UPDATE records SET body = replace(body, 'assistant', 'user') WHERE seq = 2"),
        change("UPDATE records SET body = CAST(x'ff' || body AS TEXT) WHERE seq = 2"),
        change("DELETE FROM records WHERE seq = 2"),
        change("DELETE FROM records WHERE seq = 5"),
        change("DELETE FROM records"),
        change("UPDATE records SET seq = 9 WHERE seq = 2"),
    ],
)
def test_a_damaged_file_is_known_as_one_and_a_backup_takes_its_place(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "runs.db"
    before = write_run(path)
    shutil.copy(path, tmp_path / "backup")
    damage(path)
    journal = SQLiteJournal(path)
    with pytest.raises(JournalCorruptError, match=str(path)):
        asyncio.run(journal.entries("r"))
    asyncio.run(journal.close())
    shutil.copy(tmp_path / "backup", path)
    go_on(SQLiteJournal(path), before)


@given(data=st.data())
def test_what_is_read_from_a_damaged_file_is_what_was_written_or_an_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        before = write_run(path)
        content = bytearray(path.read_bytes())
        start = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(
            st.binary(min_size=1, max_size=16) | st.integers(0, 255).map(lambda byte: bytes([byte]) * PAGE)
        )
        content[start : start + len(patch)] = patch
        path.write_bytes(content)
        journal = SQLiteJournal(path)
        with suppress(JournalError):
            assert asyncio.run(journal.entries("r")) == before
        for other in (journal.runs(), journal.acquire("r")):
            with suppress(JournalError):
                asyncio.run(other)
        asyncio.run(journal.close())


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    write_run(path)
    change("PRAGMA user_version = 99")(path)
    with pytest.raises(JournalUnavailableError, match="schema 99"):
        asyncio.run(SQLiteJournal(path).begin("s", started()))


def test_a_record_of_a_newer_version_is_not_taken_for_damage(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    at = write_run(path)[1].at
    body = '{"kind":"of_tomorrow"}'
    checksum = crc32(f"r 2 {at!r} {body}".encode())
    change(f"UPDATE records SET body = '{body}', checksum = {checksum} WHERE seq = 2")(path)
    with pytest.raises(JournalUnavailableError, match="upgrade"):
        asyncio.run(SQLiteJournal(path).entries("r"))


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    change("CREATE TABLE runs (theirs)")(path)
    before = path.read_bytes()
    with pytest.raises(JournalCorruptError, match="no journal"):
        asyncio.run(SQLiteJournal(path).begin("r", started()))
    assert path.read_bytes() == before


def test_a_copy_that_sqlite_makes_is_a_journal(tmp_path: Path) -> None:
    before = write_run(tmp_path / "runs.db")
    live = SQLiteJournal(tmp_path / "runs.db")
    asyncio.run(live.begin("s", started()))
    change(f"VACUUM INTO '{tmp_path / 'copy.db'}'")(tmp_path / "runs.db")
    go_on(SQLiteJournal(tmp_path / "copy.db"), before)
    asyncio.run(live.close())
