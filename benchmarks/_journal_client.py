"""A process that runs one agent, puts its runs on record, and tells what that cost: a line of JSON in, a line out.

    python benchmarks/_journal_client.py NAME FOLDER [CONNINFO]

Each run is on record in a new place. A line asks for ``steps`` (turns with one call each), ``at_once`` (1), or for a
run that fails behind its last step and is then taken up again (``resume``). The answer's figures are of all runs:
``wall`` and ``cpu`` in seconds, ``written`` and ``kept`` in bytes; ``syncs`` where the store itself counts them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from _journal_stores import ANSWER, STORES, Model, Store


async def measured(store: Store, place: Path, at_once: int) -> dict[str, Any]:
    """What runs cost that are begun at the same time. The first run of a place is none of them."""
    durability = await store.open(place)
    check(await store.run("first"))
    await store.close()
    before = store.size(place)
    await store.open(place)
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    for answer in await asyncio.gather(*(store.run(f"run {number}") for number in range(at_once))):
        check(answer)
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    await store.close()
    after = store.size(place)
    return {**seconds, **{name: after[name] - before[name] for name in before}, "durability": durability}


async def resumed(store: Store, place: Path) -> dict[str, Any]:
    """What it costs to take up a run that failed behind its last step: with opening the store, and one more turn."""
    await store.open(place)
    Model.fails = True
    try:
        await store.run("failed")
    except Exception as error:
        if "gone" not in str(error):
            raise
    Model.fails = False
    await store.close()
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await store.open(place)
    check(await store.resume("failed"))
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    await store.close()
    return seconds


def check(answer: str) -> None:
    """Whoever does not come to the answer has not done the work."""
    if answer != ANSWER:
        raise RuntimeError(f"the agent answered {answer!r}")


async def main() -> None:
    """Answer until the standard input is closed. Only this writes to the standard output."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _, name, folder, *conninfo = sys.argv
    store = STORES[name](*conninfo)
    for line in sys.stdin:
        asked = json.loads(line)
        Model.steps = asked["steps"]
        place = Path(folder) / f"{name}-{uuid4().hex}"
        figures = await (resumed(store, place) if asked.get("resume") else measured(store, place, asked["at_once"]))
        for file in place.parent.glob(f"{place.name}*"):
            file.unlink()
        print(json.dumps(figures), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
