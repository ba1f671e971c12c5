"""What it costs to put a run on record: agentkit's journals beside none, and beside LangGraph's SQLite checkpointer.

    python benchmarks/journal.py [--quick] [--json FILE]

The same work everywhere: a model without latency that calls one tool in each step, and a tool whose result has 1,000
characters. All are as durable as they can be: a write-ahead log that is synced at each commit (SQLite's
`synchronous=FULL`, PostgreSQL's `fsync` and `synchronous_commit`; LangGraph's `durability="sync"`), which is asked of
each connection and seen in the system calls that strace counts. They take turns, each in a process of its own on one
disk (the temporary folder's: set TMPDIR for another); a figure is a median, and the ratio in parentheses the median of
the pairs' ratios to agentkit's journal in SQLite. Of PostgreSQL the server's own CPU time is not counted.

Needs Debian's PostgreSQL and strace for what they tell. LangGraph is installed when it is first asked for, in the
user's cache folder. For Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from _processes import Failed, answer, environment, started

sys.path.append(str(Path(__file__).parents[1]))
from tests.postgres import BINARIES, postgres

BASE: Final = "sqlite"
STORES: Final = {
    "memory": "agentkit",
    "sqlite": "agentkit, SQLite",
    "postgres": "agentkit, PostgreSQL",
    "langgraph": "LangGraph",
    "langgraph-sqlite": "LangGraph, SQLite",
    "langgraph-delta": "LangGraph, SQLite, DeltaChannel",
}
LANGGRAPH: Final = ["langgraph", "langgraph-checkpoint-sqlite"]

SQLITE: Final = {"journal_mode": "wal", "synchronous": 2}
"""What SQLite says of a log that is synced at each commit: 2 is FULL."""
DURABILITY: Final = {
    "sqlite": SQLITE,
    "postgres": {"fsync": "on", "synchronous_commit": "on"},
    "langgraph-sqlite": SQLITE,
    "langgraph-delta": SQLITE,
}


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Client:
    """A process that runs one store's agent. ``trace`` is strace's log of its syncs; it takes longer then."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    trace: Path | None = None

    def ask(self, **asked: object) -> dict[str, Any]:
        """What runs cost, see `_journal_client.py`."""
        figures = answer(self.process, self.log, asked)
        said = figures.pop("durability", None)
        if said and said != DURABILITY.get(self.name):
            raise Failed(f"{self.name} is not as durable as it is to be: {said}")
        return figures

    def syncs(self, steps: int, at_once: int) -> int:
        """How often runs have data synced to the disk, without what else a store does."""
        return self._traced(steps=steps, at_once=at_once) - self._traced(steps=steps, at_once=0)

    def _traced(self, **asked: object) -> int:
        assert self.trace is not None
        before = self.trace.read_text().count("sync(")
        self.ask(**asked)
        return self.trace.read_text().count("sync(") - before


@contextmanager
def all_clients() -> Iterator[tuple[list[Client], list[Client]]]:
    """A client of each store that is there; and another, traced, of each that writes files itself."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients, traced = [], []
        for name in STORES:
            python, arguments = Path(sys.executable), [name, str(folder)]
            if name == "postgres":
                if BINARIES is None:
                    print("without PostgreSQL: apt-get install --no-install-recommends postgresql", file=sys.stderr)
                    continue
                arguments.append(stack.enter_context(postgres()).conninfo)
            if name.startswith("langgraph"):
                try:
                    python = environment("langgraph-sqlite", LANGGRAPH)
                except Failed as error:
                    print(f"without {name}, it cannot be installed: {error}", file=sys.stderr)
                    continue
            start = partial(started, python, "_journal_client.py", *arguments)
            log = folder / f"{name}.log"
            clients.append(Client(name, stack.enter_context(start(log=log)), log))
            if DURABILITY.get(name) == SQLITE and shutil.which("strace"):
                log, trace = folder / f"{name}.traced.log", folder / f"{name}.trace"
                under = ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", trace]
                traced.append(Client(name, stack.enter_context(start(log=log, under=under)), log, trace))
        yield clients, traced


# ── measurements ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Figure:
    """How a figure is shown: multiplied by ``scale``."""

    title: str
    unit: str
    scale: float


FIGURES: Final = {
    "cpu": Figure("CPU time", " ms", 1e3),
    "wall": Figure("wall time", " ms", 1e3),
    "syncs": Figure("syncs", "", 1),
    "written": Figure("written", " KB", 1e-3),
    "kept": Figure("kept", " KB", 1e-3),
}


@dataclass(frozen=True)
class Case:
    """Runs that are measured. Their figures are of a step; those of a run that is taken up again are of the whole."""

    title: str
    steps: int
    at_once: int = 1
    is_resumed: bool = False
    rounds: int = 7

    def sample(self, client: Client) -> dict[str, float]:
        if self.is_resumed:
            return client.ask(steps=self.steps, resume=True)
        steps = self.steps * self.at_once
        return {name: total / steps for name, total in client.ask(steps=self.steps, at_once=self.at_once).items()}

    def syncs(self, client: Client) -> float:
        return client.syncs(self.steps, self.at_once) / (self.steps * self.at_once)


CASES: Final = {
    "twenty": Case("a step of 20", 20),
    "hundred": Case("a step of 100", 100),
    "ten_agents": Case("10 agents at once, a step of 20", 20, 10, rounds=5),
    "hundred_agents": Case("100 agents at once, a step of 20", 20, 100, rounds=3),
    "resume": Case("a run of 100 steps, taken up", 100, is_resumed=True),
}


def measured(case: Case, clients: Sequence[Client], traced: Sequence[Client], rounds: int) -> dict[str, dict[str, Any]]:
    """The figures of all clients, by name, each with its ratio to `BASE`; they take turns."""
    clients = [client for client in clients if not (case.is_resumed and client.name == "langgraph")]  # it keeps nothing
    samples: dict[str, list[dict[str, float]]] = {client.name: [] for client in clients}
    for number in range(1 + rounds):  # the first only warms up
        for client in clients:
            sample = case.sample(client)
            if number:
                samples[client.name].append(sample)
    if not case.is_resumed:
        for client in traced:
            syncs = case.syncs(client)
            samples[client.name] = [sample | {"syncs": syncs} for sample in samples[client.name]]
    return {
        figure: {name: summary(figure, found, samples[BASE]) for name, found in samples.items() if figure in found[0]}
        for figure in FIGURES
    }


def summary(
    figure: str, samples: Sequence[Mapping[str, float]], base: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """A client's figure, and its ratio to `BASE`."""
    ratios = [sample[figure] / other[figure] for sample, other in zip(samples, base, strict=True) if figure in other]
    return {"value": median(sample[figure] for sample in samples), "ratio": median(ratios) if ratios else 0.0}


def line(case: Case, figure: Figure, found: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """A line of the table, in Markdown."""

    def cell(column: str) -> str:
        if column not in found:
            return "–"
        value, ratio = found[column]["value"] * figure.scale, found[column]["ratio"]
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        return f"{shown}{figure.unit}" if not ratio else f"{shown}{figure.unit} ({ratio:.2f})"

    return f"| {case.title}: {figure.title} | {' | '.join(map(cell, columns))} |"


def sync_seconds() -> float:
    """How long this disk takes to sync 4 KB that were appended to a file."""
    with tempfile.TemporaryFile(buffering=0) as file:
        seconds = []
        for _ in range(50):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - begun)
        return median(seconds)


def versions(clients: Sequence[Client]) -> dict[str, str]:
    """Of what is compared."""
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    if BINARIES is not None:
        found["PostgreSQL"] = BINARIES.parent.name
    if any(client.name == "langgraph" for client in clients):
        code = f"from importlib.metadata import version; print(*map(version, {LANGGRAPH}))"
        python = environment("langgraph-sqlite", LANGGRAPH)
        said = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        found |= dict(zip(LANGGRAPH, said, strict=True))
    return found


def main() -> None:
    """Print a table, a line as soon as it is known; with ``--json`` also write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, and not with 100 agents")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    report: dict[str, Any] = {"benchmark": "journal", "quick": chosen.quick, "load": os.getloadavg()[0]}
    report |= {"machine": platform.machine(), "sync_seconds": sync_seconds(), "rows": {}}
    with all_clients() as (clients, traced):
        report["versions"] = versions(clients)
        print(", ".join(f"{name} {version}" for name, version in report["versions"].items()))
        print(f"a sync of 4 KB takes {report['sync_seconds'] * 1e6:.0f} µs here\n")
        columns = [client.name for client in clients]
        print(f"| | {' | '.join(STORES[column] for column in columns)} |\n|---|{'---|' * len(columns)}")
        for name, case in CASES.items():
            if chosen.quick and case.at_once > 10:
                continue
            found = report["rows"][name] = measured(case, clients, traced, 1 if chosen.quick else case.rounds)
            for figure in FIGURES:
                if found[figure]:
                    print(line(case, FIGURES[figure], found[figure], columns), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1), "utf-8")


if __name__ == "__main__":
    main()
