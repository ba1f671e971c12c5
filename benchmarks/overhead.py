"""What an agent costs beside its model: agentkit, a loop written by hand on the openai SDK, and other frameworks.

    python benchmarks/overhead.py [--peer NAME|all] … [--quick] [--only NAME,…] [--json FILE]

Each runs the same agent in a process and with packages of its own, against a server on this machine whose answers are
written down beforehand. They take turns; a figure is the median, of CPU time where nothing else is said, and the ratio
in parentheses the median of the pairs' ratios to the SDK's loop. A peer is installed when it is first asked for, in the
user's cache folder.

sdk is streamed, sdk-whole is not; httpx2 is a loop by hand without any SDK.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

from _processes import Failed, answer, environment, started

BASE: Final = "sdk"


@dataclass(frozen=True)
class Framework:
    """``packages`` are what a peer's environment has, the first of them the one whose version counts; ``modules`` what
    its users import."""

    packages: Sequence[str]
    modules: str
    streams: bool = False
    """Its usual run is streamed."""
    ours: bool = False
    """It runs with this interpreter."""


FRAMEWORKS: Final = {
    "agentkit": Framework(["agentkit-framework"], "agentkit", streams=True, ours=True),
    "sdk": Framework(["openai"], "openai", streams=True, ours=True),
    "sdk-whole": Framework(["openai"], "openai", ours=True),
    "httpx2": Framework(["httpx2"], "httpx2", streams=True, ours=True),
    "pydantic-ai": Framework(["pydantic-ai-slim[openai]"], "pydantic_ai, pydantic_ai.models.openai"),
    "openai-agents": Framework(["openai-agents"], "agents"),
    "smolagents": Framework(["smolagents[openai]"], "smolagents"),
    "langgraph": Framework(["langgraph", "langchain", "langchain-openai"], "langchain.agents, langchain_openai"),
    "agno": Framework(["agno", "openai"], "agno.agent, agno.models.openai"),
    "strands": Framework(["strands-agents[openai]"], "strands, strands.models.openai", streams=True),
}
PEERS: Final = [name for name, framework in FRAMEWORKS.items() if not framework.ours]


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Client:
    """A process that runs one framework's agent."""

    name: str
    python: Path
    process: subprocess.Popen[str]
    log: Path
    server: str

    def ask(self, script: str, **how: object) -> dict[str, Any]:
        """What the runs of an agent cost (see `_overhead_client.py`) whose server does as the script says."""
        return answer(self.process, self.log, {"url": f"{self.server}/{script}/v1", **how})

    def import_seconds(self) -> float:
        return cpu_seconds(self.python, f"import {FRAMEWORKS[self.name].modules}") - cpu_seconds(self.python, "pass")

    def version(self) -> str:
        package = FRAMEWORKS[self.name].packages[0].partition("[")[0]
        code = f"from importlib.metadata import version; print({package!r}, version({package!r}))"
        return subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def cpu_seconds(python: Path, code: str) -> float:
    """User and system time of a fresh interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def interpreter(name: str) -> Path:
    """The Python that has a framework; its environment is made if there is none.

    Raises:
        Failed: it cannot be installed.
    """
    framework = FRAMEWORKS[name]
    return Path(sys.executable) if framework.ours else environment(name, framework.packages)


# ── measurements ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Measure:
    """``title`` says what is measured; ``sample`` is one figure of a client, shown in ``unit`` once it is multiplied by
    ``scale``. The goal is of agentkit: of its ratio, or of the figure itself."""

    title: str
    sample: Callable[[Client], float]
    goal: float
    rounds: int = 5
    unit: str = "ms"
    scale: float = 1000.0
    absolute: bool = False
    streamed: bool = False
    """Only frameworks that stream are measured."""


def growth(client: Client) -> float:
    moments: list[float] = client.ask("steps=100")["calls"]
    steps = [after - before for before, after in pairwise(moments)]
    return median(steps[-10:]) / median(steps[:10])


CHUNKS: Final = 400


def chunk(client: Client, tools: int) -> float:
    """Each piece comes by itself, as from a model."""
    cpu: float = client.ask(f"steps=0,chunks={CHUNKS},pace=1", tools=tools)["cpu"]
    return cpu / CHUNKS


MEASURES: Final = {
    "fifty_steps": Measure("50 steps, a call in each", lambda client: client.ask("steps=50")["cpu"], 0.25),
    "growth": Measure("a step, the last ten of 100 over the first ten", growth, 1.2, 3, "×", 1.0, absolute=True),
    "one_step": Measure("one step", lambda client: client.ask("steps=1", runs=3)["cpu"], 1.0, 30),
    "hundred_tools": Measure("10 steps with 100 tools", lambda client: client.ask("steps=10", tools=100)["cpu"], 0.3),
    "first_run": Measure(
        "an agent with 100 new tools: to build it and run it, beyond a later run",
        lambda client: client.ask("steps=1", tools=100, fresh=True)["first"],
        0.040,
        absolute=True,
    ),
    "chunk": Measure(
        "a piece of the answer, with a tool offered", partial(chunk, tools=1), 1.0, 5, "µs", 1e6, streamed=True
    ),
    "chunk_no_tools": Measure(
        "a piece of the answer, without tools", partial(chunk, tools=0), 1.0, 5, "µs", 1e6, streamed=True
    ),
    "hundred_at_once": Measure(
        "100 agents at once, 5 steps, 20 ms latency (wall time)",
        lambda client: client.ask("steps=5,latency=20", at_once=100)["wall"],
        0.8,
        3,
    ),
    "eight_tools": Measure(
        "8 calls of a synchronous tool of 50 ms in one turn (wall time)",
        lambda client: client.ask("steps=1,calls=8", tool_ms=50)["tools_wall"],
        0.070,
        absolute=True,
    ),
    "memory": Measure(
        "memory kept after a run",
        lambda client: client.ask("steps=5", memory=True, runs=20)["bytes"],
        1e5,
        1,
        "KB",
        1e-3,
        absolute=True,
    ),
    "import": Measure("the import", Client.import_seconds, 0.3),
}


@dataclass(frozen=True)
class Figure:
    """What one measurement came to for one client."""

    value: float
    ratio: float


def measured(measure: Measure, clients: Sequence[Client], rounds: int) -> dict[str, Figure]:
    """The figures of all clients that do their work; they take turns."""
    fit = [client.name for client in clients if FRAMEWORKS[client.name].streams or not measure.streamed]
    samples: dict[str, list[float]] = {name: [] for name in fit}
    for number in range(1 + rounds):  # the first only warms up
        for client in clients:
            if client.name not in samples:
                continue
            try:
                sample = measure.sample(client)
            except (Failed, subprocess.CalledProcessError) as error:
                print(f"{client.name} failed: {error}", file=sys.stderr)
                del samples[client.name]
                continue
            if number:
                samples[client.name].append(sample)
    base = samples[BASE]
    return {
        name: Figure(median(values), median(value / other for value, other in zip(values, base, strict=True)))
        for name, values in samples.items()
    }


def reached(measure: Measure, figure: Figure) -> bool:
    return (figure.value if measure.absolute else figure.ratio) <= measure.goal


def line(measure: Measure, figures: Mapping[str, Figure], columns: Sequence[str]) -> str:
    """A line of the table, in Markdown."""

    def cell(column: str) -> str:
        figure = figures.get(column)
        if figure is None:
            return "–"
        scaled = figure.value * measure.scale
        value = f"{scaled:,.0f} {measure.unit}" if scaled >= 100 else f"{scaled:.3g} {measure.unit}"
        return value if measure.absolute else f"{value} ({figure.ratio:.2f})"

    goal = f"{measure.goal * measure.scale:.3g} {measure.unit}" if measure.absolute else f"({measure.goal:.2f})"
    missed = "" if "agentkit" not in figures or reached(measure, figures["agentkit"]) else ", missed"
    return f"| {measure.title} | ≤ {goal}{missed} | {' | '.join(map(cell, columns))} |"


def chosen_options() -> argparse.Namespace:
    measures = "\n".join(f"    {name:17}{measure.title}" for name, measure in MEASURES.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nMeasured:\n\n{measures}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peer", action="append", default=[], choices=[*PEERS, "all"], help="a framework beside it")
    parser.add_argument("--quick", action="store_true", help="one round, three of the shortest")
    parser.add_argument("--only", default=",".join(MEASURES), help="some of: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    if unknown := [name for name in chosen.only if name not in MEASURES]:
        parser.error(f"--only: there is no {', '.join(unknown)}: there are {', '.join(MEASURES)}")
    peers = PEERS if "all" in chosen.peer else chosen.peer
    chosen.frameworks = [name for name, framework in FRAMEWORKS.items() if framework.ours or name in peers]
    return chosen


@contextmanager
def clients_of(names: Sequence[str]) -> Iterator[list[Client]]:
    """The clients of all frameworks that are installed, and a server."""
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(started(Path(sys.executable), "_scripted_server.py", log=logs / "server"))
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        clients = []
        for name in names:
            try:
                python = interpreter(name)
            except Failed as error:
                print(f"{name} is left out, it cannot be installed: {error}", file=sys.stderr)
                continue
            process = stack.enter_context(started(python, "_overhead_client.py", name, log=logs / name))
            clients.append(Client(name, python, process, logs / name, url))
        yield clients


def main() -> None:
    """Print a table, a line as soon as it is known; with ``--json`` also write it to a file."""
    chosen = chosen_options()
    report: dict[str, Any] = {"benchmark": "overhead", "quick": chosen.quick, "load": os.getloadavg()[0]}
    report |= {"python": platform.python_version(), "machine": platform.machine(), "rows": {}}
    with clients_of(chosen.frameworks) as clients:
        columns = [client.name for client in clients]
        report["versions"] = {client.name: client.version() for client in clients}
        print(f"{', '.join(dict.fromkeys(report['versions'].values()))}; Python {report['python']}\n")
        print(f"| | goal | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
        for name in chosen.only:
            measure = MEASURES[name]
            figures = measured(measure, clients, -(-measure.rounds // 10) if chosen.quick else measure.rounds)
            print(line(measure, figures, columns), flush=True)
            report["rows"][name] = {
                column: {"value": figure.value, "ratio": figure.ratio} for column, figure in figures.items()
            }
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1), "utf-8")


if __name__ == "__main__":
    main()
