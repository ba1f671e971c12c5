"""What the doctor's checks have in common."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Check", "Outcome", "State", "python"]

PYTHON_TIMEOUT: Final = 120.0
"""Seconds; what is imported lies on any disk."""

State = Literal["ok", "absent", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line: ``absent`` is optional and not there, ``broken`` is there and does not work."""

    state: State
    text: str
    hints: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    output: str
    failure: str
    """Why it failed, in one line; empty if it did not."""


def python(*arguments: str, timeout: float = PYTHON_TIMEOUT) -> Outcome:
    """Run Python in a process of its own, so that a library that crashes is reported like any other fault."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", *arguments],  # -P: what lies in the current folder is not what is installed
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome("", f"it took longer than {timeout:.0f} seconds")
    if done.returncode == 0:
        return Outcome(done.stdout, "")
    if done.returncode < 0:
        return Outcome(done.stdout, f"it crashed ({signal.Signals(-done.returncode).name})")
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Outcome(done.stdout, last)
