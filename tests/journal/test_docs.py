"""docs/journal.md: its Python runs, and its figures are the code's."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from agentkit.journal import _worker, postgres
from agentkit.journal.postgres import PostgresJournal
from agentkit.journal.sqlite import SQLiteJournal

PAGE = (Path(__file__).parents[2] / "docs" / "journal.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(snippet: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    exec(snippet, {"__name__": "snippet"})


def test_its_figures_are_the_codes() -> None:
    def default(of: type, name: str) -> str:
        return f"{inspect.signature(of).parameters[name].default:g} s"

    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE))
    assert rows["another process that writes the file"] == default(SQLiteJournal, "busy_timeout")
    assert rows["a server that cannot be reached"] == default(PostgresJournal, "patience")
    assert rows["a lease without a sign of life"] == default(SQLiteJournal, "lease_ttl")
    assert default(SQLiteJournal, "lease_ttl") == default(PostgresJournal, "lease_ttl")
    assert rows["connecting, one try"] == f"{postgres.CONNECTION['connect_timeout']} s"
    probes = postgres.CONNECTION["keepalives_interval"] * postgres.CONNECTION["keepalives_count"]
    assert rows["a server that has become silent, over TCP"] == f"{postgres.CONNECTION['keepalives_idle'] + probes} s"
    locks = f"{postgres.SESSION['statement_timeout']}; {postgres.SESSION['lock_timeout']}"
    assert rows["one statement; a lock that another holds"].replace(" s", "s") == locks
    assert rows["writing at the end of the interpreter"] == f"{_worker.PATIENCE:g} s"
