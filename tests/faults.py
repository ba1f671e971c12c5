"""Journals that fail at a point that was chosen."""

from __future__ import annotations

from agentkit.errors import JournalUnavailableError
from agentkit.journal.base import Lease
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.records import Record


class FragileJournal(MemoryJournal):
    """Fails once, when a record of a kind is put on record.

    Attributes:
        fails: ``before call_finished``: nothing is on record then; ``behind call_finished``: it is. Empty for never.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fails = ""

    async def append(self, lease: Lease, *records: Record) -> None:
        """See `Journal.append`."""
        when, _, kind = self.fails.partition(" ")
        is_due = any(record.kind == kind for record in records)
        if is_due and when == "before":
            self._fail()
        await super().append(lease, *records)
        if is_due:
            self._fail()

    def _fail(self) -> None:
        fails, self.fails = self.fails, ""
        raise JournalUnavailableError(f"no room {fails}")
