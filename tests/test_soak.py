"""A few seconds of benchmarks/soak.py: every run is accounted for, and nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("journal", ["memory", "sqlite"])
def test_two_hundred_agents_at_once(journal: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    how = ["--agents", "200", "--minutes", "0.1", "--journal", journal, "--json", figures]
    done = subprocess.run([sys.executable, SOAK, *how], stderr=subprocess.PIPE, text=True, check=False)
    assert not done.stderr, done.stderr  # no warning either
    report = json.loads(figures.read_text())
    assert report["wrong"] == []
    assert done.returncode == 0
    assert report["begun"] >= 200
    assert report["calls"].keys() >= {"worked", "exception", "timeout", "denied", "invalid_arguments", "unknown_tool"}
    assert report["ended"].keys() == {"answer", "steps"}
    assert report["beneath"] and report["resumed"]
    assert all(report["interrupted"][how] for how in ("stream closed", "task cancelled", "model failed"))
