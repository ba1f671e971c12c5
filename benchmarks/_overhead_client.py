"""A process that runs one framework's agent and tells what it cost: a line of JSON in, a line out.

    python benchmarks/_overhead_client.py FRAMEWORK

A line asks for ``url``, ``tools`` (how many; 1), and how: ``at_once`` (1), ``runs`` in a row (1), ``tool_ms`` that a
tool takes (0); ``fresh`` for what tools and an agent cost that were not there before; ``memory`` for what is kept after
a run. All figures are seconds, or bytes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

from _agents import AGENTS, Function, Run
from _scripted_server import WORDS

FORECAST = "Sunny, with a light wind from the west, 21 degrees at noon, and clouds that come up in the evening."


class Clock:
    """What the tools saw: CPU time of the process at each call, and the wall time from the first to the last."""

    def __init__(self) -> None:
        self.tool_ms = 0.0
        self.clear()

    def clear(self) -> None:
        self.cpu: list[float] = []
        self.first = self.last = 0.0

    def call(self) -> None:
        self.first = self.first or time.perf_counter()
        self.cpu.append(time.process_time())
        if self.tool_ms:
            time.sleep(self.tool_ms / 1000)
        self.last = time.perf_counter()


CLOCK = Clock()


def forecast(number: int) -> Function:
    """A tool of its own name."""

    def function(city: str, days: int) -> str:
        """The weather of a city.

        Args:
            city: Where.
            days: How far ahead.
        """
        CLOCK.call()
        return FORECAST

    function.__name__ = function.__qualname__ = f"forecast_{number}"
    return function


class Client:
    """The agents that were asked for so far."""

    def __init__(self, framework: str) -> None:
        self._make = AGENTS[framework]
        self._made: dict[tuple[str, int], Run] = {}

    async def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks."""
        url, tools, runs = asked["url"], asked.get("tools", 1), asked.get("runs", 1)
        CLOCK.tool_ms = asked.get("tool_ms", 0)
        if asked.get("memory"):
            return {"bytes": await kept(self._agent(url, tools), runs)}
        if asked.get("fresh"):
            return {"first": await self._first(url, tools)}
        return await measured(self._agent(url, tools), asked.get("at_once", 1), runs)

    async def _first(self, url: str, tools: int) -> float:
        """CPU seconds that it takes to build an agent and to run it for the first time, beyond those of a run."""
        begun = time.process_time()
        run = self._make(url, [forecast(number) for number in range(tools)])
        built = time.process_time() - begun
        first, again = await measured(run), await measured(run)
        return float(built + first["cpu"] - again["cpu"])

    def _agent(self, url: str, tools: int) -> Run:
        run = self._made.get((url, tools))
        if run is None:
            run = self._made[url, tools] = self._make(url, [forecast(number) for number in range(tools)])
        return run


async def measured(run: Run, at_once: int = 1, runs: int = 1) -> dict[str, Any]:
    """Seconds of a run: of CPU, and of the clock. The garbage of what came before is not its own."""
    CLOCK.clear()
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(runs):
        outputs = await asyncio.gather(*(run() for _ in range(at_once)))
        check(outputs)
    seconds = {"cpu": (time.process_time() - cpu) / runs, "wall": (time.perf_counter() - wall) / runs}
    return {**seconds, "calls": [moment - cpu for moment in CLOCK.cpu], "tools_wall": CLOCK.last - CLOCK.first}


async def kept(run: Run, runs: int) -> float:
    """Bytes that are still there after a run, in the mean of many; the first few may fill caches."""
    for _ in range(5):
        check([await run()])
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(runs):
        await run()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / runs


def check(outputs: Sequence[object]) -> None:
    """Whoever does not come to the answer has not done the work."""
    for output in outputs:
        if WORDS.strip() not in str(output):
            raise RuntimeError(f"the agent answered {output!r}")


async def main() -> None:
    """Answer until the standard input is closed. Only this writes to the standard output."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    client = Client(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(await client.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
