"""What journals do that outlive their process: threads, processes, crashes."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from agentkit.errors import JournalUnavailableError, LeaseLostError, RunBusyError
from agentkit.journal import _owner
from agentkit.journal.base import Lease
from tests.journal.place import Place, answer, hear, say, started

KILLS = 20
RACES = 50
LEASE = 1.5  # seconds


def journal_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "agentkit-journal"}


def test_threads_and_loops_can_share_a_journal(place: Place) -> None:
    journal = place.open()

    async def one(number: int) -> None:
        lease = await journal.begin(f"r{number}", started())
        for count in range(10):
            await journal.append(lease, answer(str(count)))
        journal.release(lease)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: asyncio.run(one(number)), range(16)))
    runs = asyncio.run(journal.runs())
    assert [run.records for run in runs] == [11] * 16
    assert not any(run.is_running for run in runs)


def test_closing_finishes_what_was_asked_for_and_gives_leases_back(place: Place) -> None:
    async def check() -> None:
        journal, other = place.open(), place.open()
        lease = await journal.begin("r", started())
        appending = [asyncio.create_task(journal.append(lease, answer(str(number)))) for number in range(10)]
        await asyncio.sleep(0)
        await journal.close()
        await asyncio.gather(*appending)
        await journal.close()
        journal.release(lease)
        with pytest.raises(JournalUnavailableError, match="closed"):
            await journal.append(lease, answer("too late"))
        assert (await other.acquire("r")).seq == 11

    asyncio.run(check())


def test_a_journal_that_nobody_has_any_more_ends_its_thread_and_gives_leases_back(place: Place) -> None:
    before = journal_threads()
    journal = place.open()
    asyncio.run(journal.begin("r", started()))
    (thread,) = journal_threads() - before
    gone = weakref.ref(journal)
    del journal
    gc.collect()
    assert gone() is None
    thread.join(timeout=20)
    assert not thread.is_alive()
    asyncio.run(place.open().acquire("r"))


def test_an_interpreter_that_ends_without_closing_loses_nothing(place: Place) -> None:
    with place.process("leave", "r") as process:
        assert hear(process) == "done"
        assert process.wait(timeout=20) == 0
    (run,) = asyncio.run(place.open().runs())
    assert run.records == 2
    assert not run.is_running


def test_a_living_holder_keeps_its_run_and_a_killed_one_does_not(place: Place) -> None:
    async def check() -> None:
        journal = place.open()
        journal.release(await journal.begin("r", started()))
        with place.process("hold", "r") as holder:
            assert await asyncio.to_thread(hear, holder) == "held"
            with pytest.raises(RunBusyError) as caught:
                await journal.acquire("r")
            assert caught.value.owner.endswith(f":{holder.pid}")
            assert (await journal.runs())[0].is_running
            holder.kill()
            # It is dead, and its parent has not taken notice.
            await asyncio.to_thread(os.waitid, os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
            assert not (await journal.runs())[0].is_running
            assert (await journal.acquire("r")).fence == 3

    asyncio.run(check())


def test_what_append_has_promised_survives_a_kill(place: Place) -> None:
    rng = random.Random(7)
    journal = place.open()
    journal.release(asyncio.run(journal.begin("r", started())))
    printed = 1
    for _ in range(KILLS):
        with place.process("keep_appending", "r") as process:
            for _ in range(rng.randrange(1, 40)):
                printed = int(hear(process))
            process.kill()
            while line := hear(process):  # what it had said before it died
                printed = int(line)
        entries = asyncio.run(journal.entries("r"))
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert printed <= len(entries) <= printed + 1


def test_of_two_processes_exactly_one_takes_a_run(place: Place) -> None:
    journal = place.open()
    journal.release(asyncio.run(journal.begin("r", started())))
    with place.process("race", "r") as one, place.process("race", "r") as other:
        for _ in range(RACES):
            for wanted in (["busy", "won"], ["ready", "ready"]):
                for process in (one, other):
                    say(process, "go")
                assert sorted(hear(process) for process in (one, other)) == wanted
    assert asyncio.run(journal.acquire("r")).fence == RACES + 2


def test_a_holder_on_another_machine_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.arguments["lease_ttl"] = LEASE
    monkeypatch.setattr(_owner, "_machine", lambda: "another")
    journal = place.open()

    async def take() -> Lease:
        while True:
            with suppress(RunBusyError):
                return await journal.acquire("r")
            await asyncio.sleep(LEASE / 30)

    async def check() -> None:
        journal.release(await journal.begin("r", started()))
        with place.process("hold", "r") as holder:
            assert await asyncio.to_thread(hear, holder) == "held"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(take(), 1.5 * LEASE)  # it is renewed
            lease = None
            while lease is None:
                holder.send_signal(signal.SIGSTOP)
                with suppress(JournalUnavailableError):  # it was just writing, and nobody else could
                    lease = await asyncio.wait_for(take(), 20)
                holder.send_signal(signal.SIGCONT)
                say(holder, "append")
                assert await asyncio.to_thread(hear, holder) == ("lost" if lease else "appended")
            assert lease.fence == 3
            await journal.append(lease, answer("mine"))
            assert len(await journal.entries("r")) == lease.seq

    asyncio.run(check())


def test_a_lease_must_last(place: Place) -> None:
    place.arguments["lease_ttl"] = 0
    with pytest.raises(ValueError, match="lease_ttl"):
        place.open()


def test_a_fork_has_its_own_connection_and_none_of_the_leases(place: Place) -> None:
    journal = place.open()
    lease = asyncio.run(journal.begin("r", started()))

    async def in_child() -> None:
        with pytest.raises(RunBusyError):
            await journal.acquire("r")
        with pytest.raises(LeaseLostError):
            await journal.append(lease, answer("child"))
        other = await journal.begin("s", started())
        await journal.append(other, answer("child"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later advise against it
        child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(in_child())
            code = 0
        finally:
            os._exit(code)
    for number in range(20):
        asyncio.run(journal.append(lease, answer(str(number))))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [run.records for run in asyncio.run(journal.runs())] == [2, 21]
