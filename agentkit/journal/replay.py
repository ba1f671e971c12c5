"""What can be read off a run's records without running it."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.errors import RunBusyError, UnfinishedRunError
from agentkit.journal.base import Entry, Journal
from agentkit.journal.records import Compacted, ModelAnswered, RunResumed, RunStarted, StepEnded
from agentkit.messages import Message

__all__ = ["active_seconds", "conversation", "last_compacted", "last_run"]


async def conversation(journal: Journal, run_id: str, at_step: int | None = None) -> list[Message]:
    """The conversation of a run, with those that it continues in front; a turn whose calls have no results is left out.

    Args:
        journal: where the run is on record.
        run_id: its name there.
        at_step: only its first steps, as many as this; None for all; 0 leaves its task out as well.

    Raises:
        RunNotFoundError: it, or one that it continues, is not there.
    """
    parts: list[list[Message]] = []
    while run_id:
        started, messages = _read(await journal.entries(run_id), at_step)
        parts.append(messages)
        run_id, at_step = started.continues, started.at_step
    return [message for part in reversed(parts) for message in part]


async def last_compacted(journal: Journal, run_id: str) -> Compacted | None:
    """What is sent of a run's conversation in place of its beginning, as it or one that it continues left it.

    Raises:
        RunNotFoundError: it, or one that it continues, is not there.
    """
    while run_id:
        started, *records = (entry.record for entry in await journal.entries(run_id))
        assert isinstance(started, RunStarted)
        compacted = [record for record in records if isinstance(record, Compacted)]
        if compacted:
            return compacted[-1]
        run_id = started.continues
    return None


async def last_run(journal: Journal, session: str) -> str:
    """The run that a session's next one continues; empty for none.

    Raises:
        RunBusyError: it is going on.
        UnfinishedRunError: it came to no end.
    """
    last = await journal.runs(session=session, limit=1)
    if not last:
        return ""
    run = last[0]
    if run.is_running:
        raise RunBusyError(
            f"The session {session!r} is busy with the run {run.run_id!r}: wait for its end, or cancel it"
        )
    if run.stop_reason in (None, "paused"):
        raise UnfinishedRunError(
            f"The last run of the session {session!r} came to no end: resume {run.run_id!r}, or delete it",
            run_id=run.run_id,
        )
    return run.run_id


def _read(entries: Sequence[Entry], at_step: int | None) -> tuple[RunStarted, list[Message]]:
    started = entries[0].record
    assert isinstance(started, RunStarted)
    messages = list(started.messages[:-1] if at_step == 0 else started.messages)
    steps: list[list[Message]] = []
    turn: list[Message] = []
    is_broken_off = False
    for entry in entries[1:]:
        match entry.record:
            case ModelAnswered(response):
                turn = [response.message]
            case StepEnded(ended):
                is_broken_off = not turn
                steps.append([*turn, *ended])
                turn = []
            case RunResumed() if is_broken_off:  # what the model had begun to say, it says anew
                steps.pop()
                is_broken_off = False
    if turn and not turn[0].calls:
        steps.append(turn)
    return started, [*messages, *(message for step in steps[:at_step] for message in step)]


def active_seconds(entries: Sequence[Entry]) -> float:
    """How long a run was going on, without the time in which it was paused or nobody ran it."""
    seconds, begun, last = 0.0, entries[0].at, entries[0].at
    for entry in entries:
        if isinstance(entry.record, RunResumed):
            seconds += last - begun
            begun = entry.at
        last = entry.at
    return seconds + last - begun
