"""A run is killed wherever it can be, and resumed: nothing is lost, nothing is done twice, nobody can tell."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from uuid import uuid4

import pytest

from tests.journal.killed import SCENARIOS, main
from tests.journal.place import Place
from tests.postgres import Postgres
from tests.waits import wait_for

# A server that has imported everything, and forks for each process: hundreds are started here.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.journal.killed"])


class Stage:
    """Where a scenario is played, by one process after another."""

    def __init__(self, scenario: str, folder: Path, place: Place | None = None) -> None:
        self.scenario = scenario
        self.folder = folder
        self.place = place or Place("SQLiteJournal", {"path": str(folder / "journal.db")})

    def start(self, point: str = "never", how: signal.Signals = signal.SIGKILL) -> BaseProcess:
        process = PROCESSES.Process(target=main, args=(self.scenario, self.folder, self.place, point, how))
        process.start()
        return process

    def end(self, process: BaseProcess) -> str:
        """What the process found at its end."""
        process.join(60)
        assert process.exitcode == 0
        return (self.folder / f"said {process.pid}").read_text()

    def kill(self, point: str) -> None:
        """Run it until it kills itself."""
        process = self.start(point)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, f"{point!r} was never passed"

    def lines(self, name: str) -> Sequence[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def check(self, said: str, uninterrupted: str, deaths: int = 1) -> None:
        expected = SCENARIOS[self.scenario]
        assert said == uninterrupted
        assert sorted(line.split(" ", 1)[1] for line in self.lines("done")) == sorted(expected.effects)
        asked = self.lines("asked")
        assert set(asked) == set(expected.asked)
        assert len(asked) <= len(expected.asked) + deaths  # a turn that was not on record yet is asked for again


POINTS = {
    "alone": [
        *(f"commit-before {number}" for number in range(1, SCENARIOS["alone"].commits + 1)),
        *(f"model{when} {told}" for told in SCENARIOS["alone"].asked for when in ("", "-end")),
        *("tool account", "tool 3", "tool-end 3", "tool bill", "tool 4", "tool-end 4", "tool-end 5", "tool-end me"),
        "approval",
    ],
    "above": ["tool 3", "tool-end 3", "model Pay 3.", "model paid 3", "tool-end 4"],
    "waiting": ["decided", "commit-before 8", "tool-end 3", "tool-end 4"],
    "summing up": ["model to sum up", "model-end to sum up", "tool-end 3"],
}
EVERYWHERE = [
    (name, point)
    for name, scenario in SCENARIOS.items()
    for point in [
        *(f"commit-after {number}" for number in range(1, scenario.commits + 1)),
        *POINTS.get(name, []),
    ]
]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each scenario comes to if nobody dies."""
    said: dict[str, str] = {}
    for name, scenario in SCENARIOS.items():
        stage = Stage(name, tmp_path_factory.mktemp(name))
        process = stage.start()
        said[name] = stage.end(process)
        assert stage.lines(f"commits {process.pid}") == [str(scenario.commits)]  # else some are not tested
        stage.check(said[name], said[name], deaths=0)
    return said


@pytest.mark.parametrize(("scenario", "point"), EVERYWHERE)
def test_killed_and_resumed(tmp_path: Path, uninterrupted: dict[str, str], scenario: str, point: str) -> None:
    stage = Stage(scenario, tmp_path)
    stage.kill(point)
    stage.check(stage.end(stage.start()), uninterrupted[scenario])
    if scenario == "waiting":  # two calls; the person is asked again only while their word is not on record
        is_said_only = point in ("decided", "commit-before 8")
        assert len(stage.lines("decided")) == (4 if is_said_only else 2)


@pytest.mark.parametrize(
    ("scenario", "point"),
    [
        *(
            ("alone", point)
            for point in ("commit-after 2", "commit-after 4", "tool-end 3", "commit-before 8", "approval")
        ),
        *(("above", point) for point in ("commit-after 5", "tool-end 3", "commit-after 9")),
    ],
)
def test_two_processes_resume_at_once(tmp_path: Path, uninterrupted: dict[str, str], scenario: str, point: str) -> None:
    stage = Stage(scenario, tmp_path)
    stage.kill(point)
    said = {stage.end(process) for process in [stage.start(), stage.start()]}
    assert said <= {uninterrupted[scenario], "busy"}
    stage.check(stage.end(stage.start()), uninterrupted[scenario])


@pytest.mark.parametrize(
    "second", ["commit-before 1", "commit-after 1", "commit-after 3", "tool-end 5", "model sent to me"]
)
def test_killed_again_while_it_is_resumed(tmp_path: Path, uninterrupted: dict[str, str], second: str) -> None:
    stage = Stage("alone", tmp_path)
    stage.kill("tool-end 3")
    stage.kill(second)
    stage.check(stage.end(stage.start()), uninterrupted["alone"], deaths=2)


@pytest.mark.parametrize(
    ("scenario", "point"),
    [("alone", "tool-end 3"), ("above", "tool-end 3"), ("above", "commit-after 9"), ("waiting", "commit-after 8")],
)
def test_on_a_server(
    tmp_path: Path, uninterrupted: dict[str, str], server: Postgres, scenario: str, point: str
) -> None:
    place = Place("PostgresJournal", {"conninfo": server.conninfo, "schema": f"Test {uuid4().hex}"})
    stage = Stage(scenario, tmp_path, place)
    stage.kill(point)
    stage.check(stage.end(stage.start()), uninterrupted[scenario])


@pytest.mark.parametrize(
    ("scenario", "point"),
    [
        ("alone", "model the account is fine"),
        ("alone", "commit-after 5"),  # the model's turn is on record, its calls are not yet
        ("above", "model Pay 3."),
        ("above", "model-end It was the clerk who paid."),
    ],
)
def test_one_that_was_taken_for_dead_does_nothing_more(
    tmp_path: Path, uninterrupted: dict[str, str], scenario: str, point: str
) -> None:
    place = Place("SQLiteJournal", {"path": str(tmp_path / "journal.db"), "lease_ttl": 0.5})
    stage = Stage(scenario, tmp_path, place)
    frozen = stage.start(point, signal.SIGSTOP)
    assert frozen.pid is not None
    try:
        wait_for(lambda: is_stopped(frozen.pid))
        while (said := stage.end(stage.start())) == "busy":
            pass
        stage.check(said, uninterrupted[scenario])
        before = stage.lines("asked"), stage.lines("done")
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert stage.end(frozen) == "lost run"
    assert (stage.lines("asked"), stage.lines("done")) == before


def is_stopped(pid: int | None) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
