"""What every journal does, whatever it is kept in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from agentkit import Message
from agentkit.errors import (
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
)
from agentkit.journal.base import Journal, Lease
from agentkit.journal.records import ModelAnswered, RunEnded, RunResumed, RunStarted
from tests.journal.place import answer, started

NASTY = "\0 \ud7ff \U0010ffff ' \" \\ % ? %s {} \r\n"


async def texts(journal: Journal, run_id: str = "r") -> list[str]:
    """What a run's model said, after a look at the places."""
    entries = await journal.entries(run_id)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    return [entry.record.response.text for entry in entries if isinstance(entry.record, ModelAnswered)]


def test_what_was_written_is_read_in_order(journal: Journal) -> None:
    async def check() -> None:
        first = RunStarted((Message("user", NASTY),), session=NASTY.replace("\0", ""), metadata={NASTY: [1, None]})
        records = [answer(NASTY), answer(""), RunEnded("answer")]
        lease = await journal.begin("r", first)
        assert (lease.run_id, lease.seq) == ("r", 1)
        await journal.append(lease, *records[:2])
        await journal.append(lease)
        await journal.append(lease, records[2])
        assert lease.seq == 4
        entries = await journal.entries("r")
        assert [entry.record for entry in entries] == [first, *records]
        assert [entry.seq for entry in entries] == [1, 2, 3, 4]
        times = [entry.at for entry in entries]
        assert times == sorted(times)

    asyncio.run(check())


def test_a_run_is_begun_once_and_must_be_there(journal: Journal) -> None:
    async def check() -> None:
        lease = await journal.begin("r", started())
        with pytest.raises(RunExistsError, match="'r'"):
            await journal.begin("r", started("other"))
        await journal.append(lease, answer("still there"))
        assert await texts(journal) == ["still there"]
        for method in (journal.acquire, journal.entries, journal.delete):
            with pytest.raises(RunNotFoundError, match="'nowhere'"):
                await method("nowhere")

    asyncio.run(check())


def test_a_run_has_one_holder(journal: Journal) -> None:
    async def check() -> None:
        first = await journal.begin("r", started())
        with pytest.raises(RunBusyError, match="'r'"):
            await journal.acquire("r")
        with pytest.raises(RunBusyError, match="'r'"):
            await journal.delete("r")
        journal.release(first)
        second = await journal.acquire("r")
        assert second.fence > first.fence
        assert second.seq == 1
        journal.release(first)  # it has nothing to give back any more
        with pytest.raises(LeaseLostError, match="'r'"):
            await journal.append(first, answer("too late"))
        await journal.append(second, answer("in time"))
        assert await texts(journal) == ["in time"]

    asyncio.run(check())


def test_appends_at_the_same_time_are_all_on_record(journal: Journal) -> None:
    async def check() -> None:
        leases = [await journal.begin(f"r{number}", started()) for number in range(5)]
        await asyncio.gather(*(journal.append(lease, answer(str(n))) for n in range(20) for lease in leases))
        for number, lease in enumerate(leases):
            assert lease.seq == 21
            assert await texts(journal, f"r{number}") == [str(n) for n in range(20)]

    asyncio.run(check())


def test_one_that_is_refused_does_not_harm_those_beside_it(journal: Journal) -> None:
    async def check() -> None:
        lease = await journal.begin("r", started())
        outcomes = await asyncio.gather(
            journal.append(lease, answer("one")),
            journal.append(Lease("r", lease.fence + 1, 1), answer("forged")),
            journal.acquire("r"),
            journal.begin("r", started()),
            journal.begin("s", started()),
            journal.append(lease, answer("two")),
            return_exceptions=True,
        )
        expected = [type(None), LeaseLostError, RunBusyError, RunExistsError, Lease, type(None)]
        assert all(map(isinstance, outcomes, expected))
        assert await texts(journal) == ["one", "two"]

    asyncio.run(check())


def test_a_cancelled_append_happens_whole_or_not_at_all(journal: Journal) -> None:
    async def check() -> None:
        lease = await journal.begin("r", started())
        tasks = []
        for number in range(30):
            task = asyncio.create_task(journal.append(lease, answer(f"{number}a"), answer(f"{number}b")))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            task.cancel()
            tasks.append(task)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await journal.append(lease, answer("last"))
        written = await texts(journal)
        assert lease.seq == len(written) + 1
        assert written[-1] == "last"
        assert [text[:-1] for text in written[:-1:2]] == [text[:-1] for text in written[1:-1:2]]
        for number, outcome in enumerate(outcomes):
            assert isinstance(outcome, asyncio.CancelledError) or f"{number}b" in written

    asyncio.run(check())


def test_a_cancelled_acquire_leaves_the_run_free(journal: Journal) -> None:
    async def check() -> None:
        journal.release(await journal.begin("r", started()))
        for rounds in range(20):
            task = asyncio.create_task(journal.acquire("r"))
            for _ in range(rounds % 4):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                journal.release(await task)
            await journal.runs()  # what was asked for before is done
        journal.release(await journal.acquire("r"))

    asyncio.run(check())


def test_the_list_of_runs(journal: Journal) -> None:
    async def check() -> None:
        long = "long " * 100
        journal.release(await journal.begin("a", started(long, session="s")))
        ended = await journal.begin("b", started("b"))
        crashed = await journal.begin("c", started("c", session="s"))
        await journal.append(ended, answer("done"), RunEnded("answer"))
        journal.release(ended)
        journal.release(crashed)
        going_on = await journal.acquire("a")
        c, b, a = await journal.runs()
        assert [(run.run_id, run.records, run.stop_reason, run.is_running) for run in (a, b, c)] == [
            ("a", 1, None, True),
            ("b", 3, "answer", False),
            ("c", 1, None, False),
        ]
        assert (a.agent, a.model, a.session, a.parent) == ("tester", "scripted", "s", "")
        assert a.prompt == long[:200]
        entries = await journal.entries("b")
        assert (b.started, b.updated) == (entries[0].at, entries[-1].at)
        assert await journal.runs(session="s") == [c, a]
        assert await journal.runs(session="s", limit=1) == [c]
        assert await journal.runs(session="") == [b]
        await journal.append(await journal.acquire("b"), RunResumed())
        assert (await journal.runs(session=""))[0].stop_reason is None
        journal.release(going_on)

    asyncio.run(check())


def test_a_deleted_run_is_gone_and_its_id_free(journal: Journal) -> None:
    async def check() -> None:
        old = await journal.begin("r", started())
        other = await journal.begin("other", started())
        await journal.append(old, answer("old"))
        journal.release(old)
        await journal.delete("r")
        with pytest.raises(RunNotFoundError):
            await journal.entries("r")
        new = await journal.begin("r", started())
        with pytest.raises(LeaseLostError):
            await journal.append(old, answer("from before"))
        await journal.append(new, answer("new"))
        await journal.append(other, answer("untouched"))
        assert await texts(journal) == ["new"]
        assert await texts(journal, "other") == ["untouched"]

    asyncio.run(check())


def test_a_run_is_deleted_with_those_beneath_it(journal: Journal) -> None:
    async def check() -> None:
        for run_id, parent in [("top", ""), ("middle", "top"), ("bottom", "middle"), ("other", "")]:
            journal.release(await journal.begin(run_id, replace(started(), parent=parent)))
        lease = await journal.acquire("bottom")
        with pytest.raises(RunBusyError):
            await journal.delete("top")
        assert len(await journal.runs()) == 4
        journal.release(lease)
        await journal.delete("top")
        assert [run.run_id for run in await journal.runs()] == ["other"]

    asyncio.run(check())


def test_one_run_of_a_session_at_a_time(journal: Journal) -> None:
    async def check() -> None:
        begun = [journal.begin(f"{number}", started(session="s")) for number in range(5)]
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
        leases = [lease for lease in outcomes if isinstance(lease, Lease)]
        assert len(leases) == 1
        assert sum(isinstance(outcome, RunBusyError) for outcome in outcomes) == 4
        await journal.begin("other", started(session="another one"))
        journal.release(leases[0])
        await journal.begin("next", started(session="s"))

    asyncio.run(check())
