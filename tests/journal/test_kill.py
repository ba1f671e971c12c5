"""A run is killed wherever it can be, and resumed: nothing is lost, nothing is done twice, nobody can tell."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("killed.py")

COMMITS = 18
POINTS = [
    *(f"commit-{when} {number}" for number in range(1, COMMITS + 1) for when in ("before", "after")),
    *(f"model{when} {turn}" for turn in range(4) for when in ("", "-end")),
    *("tool account", "tool 3", "tool-end 3", "tool bill", "tool 4", "tool-end 4", "tool-end 5", "tool-end me"),
    "approval",
]


def start(mode: str, folder: Path, point: str = "never") -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), mode, str(folder), point]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


def kill(mode: str, folder: Path, point: str) -> None:
    """Run it until it kills itself."""
    process = start(mode, folder, point)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, f"{point!r} was never passed"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("uninterrupted")
    output = end(start("run", folder))
    assert [line.split(" ", 1)[1] for line in sorted(lines(folder / "done"), key=len)]
    return output


def check(folder: Path, output: str, uninterrupted: str, deaths: int = 1) -> None:
    assert output == uninterrupted
    effects = lines(folder / "done")
    assert sorted(line.split(" ", 1)[1] for line in effects) == ["pay 3", "pay 4", "pay 5", "send me"]
    asked = lines(folder / "asked")
    assert set(asked) == {"0", "1", "2", "3"}
    assert len(asked) <= 4 + deaths  # a turn that was not on record yet is asked for again, and no other


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_resumed(tmp_path: Path, uninterrupted: str, point: str) -> None:
    kill("run", tmp_path, point)
    check(tmp_path, end(start("resume", tmp_path)), uninterrupted)
    check(tmp_path, end(start("resume", tmp_path)), uninterrupted)  # a run that has ended only says so


def test_there_are_no_more_commits_than_are_tested(tmp_path: Path) -> None:
    end(start("run", tmp_path, f"commit-before {COMMITS + 1}"))


@pytest.mark.parametrize("point", ["commit-after 2", "commit-after 4", "tool-end 3", "commit-before 8", "approval"])
def test_two_processes_resume_at_once(tmp_path: Path, uninterrupted: str, point: str) -> None:
    kill("run", tmp_path, point)
    outputs = [end(process) for process in [start("resume", tmp_path), start("resume", tmp_path)]]
    assert set(outputs) <= {uninterrupted, "busy\n"}
    check(tmp_path, end(start("resume", tmp_path)), uninterrupted)


@pytest.mark.parametrize("second", ["commit-before 1", "commit-after 1", "commit-after 3", "tool-end 5", "model 3"])
def test_killed_again_while_it_is_resumed(tmp_path: Path, uninterrupted: str, second: str) -> None:
    kill("run", tmp_path, "tool-end 3")
    kill("resume", tmp_path, second)
    check(tmp_path, end(start("resume", tmp_path)), uninterrupted, deaths=2)


def test_started_twice_it_runs_once(tmp_path: Path, uninterrupted: str) -> None:
    kill("run", tmp_path, "commit-after 5")
    process = start("run", tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == 1  # RunExistsError
    check(tmp_path, end(start("resume", tmp_path)), uninterrupted)
