"""Many agents at once in one process, for a long time: is every run accounted for, and does anything pile up?

    python benchmarks/soak.py [--agents 1000] [--minutes 10] [--journal memory|sqlite] [--json FILE]

Each agent does one scripted task after the other (`_soak_agents.py`): calls that work, fail, hang, are denied, wait for
a decision, or are answered by another agent; models that cannot be reached; limits. Half of the runs are interrupted
once or twice at a moment drawn at random, their task cancelled or their stream closed, and then resumed. When a run has
ended, it is compared with its records and with what its tools did, and deleted. Exit code 1 if

- a run did not end as its plan says, a call has not exactly one result, a side effect was lost or happened twice,
- a run is left in the journal in the end that nobody accounts for,
- memory grows: by more than 5 % over the second half, as a straight line through its samples has it (where the whole
  takes a minute or longer),
- tasks, threads, file descriptors or runs are left in the end, or an error that nobody looked at.

For Linux: memory and descriptors are read in /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import linear_regression, mean
from typing import Any, Final

from _soak_agents import WORLD, new_agent
from _soak_runs import Tally, keep_working

from agentkit.context import Run
from agentkit.journal.base import Journal
from agentkit.journal.memory import MemoryJournal
from agentkit.journal.sqlite import SQLiteJournal

GROWTH: Final = 0.05
SETTLED: Final = 60.0  # seconds after which memory must be flat
PATIENCE: Final = 10.0  # seconds in which threads end whose run is over


class Memory:
    """The memory in use over time, in MB."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.sizes: list[float] = []

    async def watch(self, every: float) -> None:
        """Note it again and again, until this is cancelled."""
        while True:
            self._note()
            await asyncio.sleep(every)

    def _note(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.moments.append(time.monotonic())
        self.sizes.append(pages * os.sysconf("SC_PAGESIZE") / 1e6)

    def growth(self) -> float:
        """By how much it grew over the second half of the time, in parts of itself."""
        middle = len(self.sizes) // 2
        moments, sizes = self.moments[middle:], self.sizes[middle:]
        return linear_regression(moments, sizes).slope * (moments[-1] - moments[0]) / mean(sizes)

    def figures(self) -> dict[str, float]:
        first, middle, last = self.sizes[0], self.sizes[len(self.sizes) // 2], self.sizes[-1]
        return {"first": first, "middle": middle, "last": last, "growth": self.growth()}


def left_over() -> dict[str, int]:
    """What may pile up."""
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()) - 1,
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - no paths are wanted
        "runs": sum(isinstance(found, Run) for found in gc.get_objects()),
    }


async def settled(before: dict[str, int]) -> dict[str, int]:
    """What is left once threads whose run is over had the time to end."""
    deadline = time.monotonic() + PATIENCE
    while (now := left_over()) != before and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.05)
    return now


@contextmanager
def new_journal(kind: str, agents: int) -> Iterator[Callable[[], Journal]]:
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield lambda: SQLiteJournal(Path(folder) / "runs.db")
        else:
            yield lambda: MemoryJournal(runs=10 * agents)  # none that is paused may be forgotten


async def soak(agents: int, seconds: float, open_journal: Callable[[], Journal]) -> dict[str, Any]:
    """The figures, with all that was wrong."""
    before = left_over()
    tally, memory = Tally(), Memory()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: tally.wrong.append(str(context)))
    journal, cpu, until = open_journal(), time.process_time(), time.monotonic() + seconds
    watching = asyncio.create_task(memory.watch(seconds / 100))
    await asyncio.gather(*(keep_working(new_agent(journal), until, tally) for _ in range(agents)))
    watching.cancel()
    cpu = time.process_time() - cpu
    left = [run.run_id for run in await journal.runs(limit=10)]
    await journal.close()
    del journal  # with its thread
    after = await settled(before)

    wrong = [*tally.wrong, *(f"left in the journal: {run_id}" for run_id in left)]
    wrong += [f"left of what tools did: {key}" for key in WORLD.done]
    wrong += [f"{what}: {before[what]} before, {after[what]} after" for what in before if after[what] != before[what]]
    if tally.begun.total() != tally.ended.total():
        wrong.append(f"{tally.begun.total()} runs were begun, {tally.ended.total()} have ended")
    if seconds >= SETTLED and memory.growth() > GROWTH:
        wrong.append(f"memory grew by {memory.growth():.1%} over the second half")
    return {
        "begun": tally.begun.total(),
        "ended": dict(tally.ended),
        "beneath": tally.beneath,
        "interrupted": dict(tally.interrupted),
        "resumed": tally.resumed,
        "turns": tally.turns,
        "calls": dict(tally.calls),
        "cpu_seconds": cpu,
        "memory_mb": memory.figures(),
        "before": before,
        "after": after,
        "wrong": wrong,
    }


def main() -> int:
    """Print the figures; with ``--json`` also write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--journal", choices=["memory", "sqlite"], default="memory")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    with new_journal(chosen.journal, chosen.agents) as open_journal:
        figures = asyncio.run(soak(chosen.agents, 60 * chosen.minutes, open_journal))
    figures = {"agents": chosen.agents, "minutes": chosen.minutes, "journal": chosen.journal, **figures}
    figures |= {"python": platform.python_version(), "machine": platform.machine()}
    for name, figure in figures.items():
        print(f"{name:12}  {figure}")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1), "utf-8")
    return bool(figures["wrong"])


if __name__ == "__main__":
    sys.exit(main())
