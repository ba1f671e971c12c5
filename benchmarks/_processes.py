"""Processes that benchmarks measure in: a line of JSON in, a line out; peers with packages of their own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent


class Failed(Exception):
    """A peer cannot be installed, or did not do its work."""


@contextmanager
def started(
    python: Path, script: str, *arguments: str | Path, log: Path, under: Sequence[str | Path] = ()
) -> Iterator[subprocess.Popen[str]]:
    """One of our scripts as a process; ``under`` is a command that runs it."""
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*under, python, HERE / script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str], log: Path, asked: Mapping[str, object]) -> dict[str, Any]:
    """What a process says to a line.

    Raises:
        Failed: it said nothing, with the end of what it has logged.
    """
    assert process.stdin is not None and process.stdout is not None
    try:
        print(json.dumps(asked), file=process.stdin, flush=True)
        return dict(json.loads(process.stdout.readline()))
    except (ValueError, BrokenPipeError) as error:
        raise Failed(log.read_text()[-2000:]) from error


def environment(name: str, packages: Sequence[str]) -> Path:
    """The Python of an environment with these packages, in the user's cache folder; it is made if there is none.

    Raises:
        Failed: it cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "agentkit" / "overhead" / f"{name}-{platform.python_version()}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        print(f"installing {name} in {folder} …", file=sys.stderr)
        commands: list[list[str | Path]] = [
            [sys.executable, "-m", "venv", "--clear", folder],
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Failed(done.stderr[-2000:])
        complete.touch()
    return python
